import numpy as np
import pytest

from kshot.index.token_lists import TokenLists, write_lists

LISTS, D = 5, 4


def tokens_of(rng, count):
    """Return float16 tokens on a grid, so that products are exact, with a list and a row each."""
    tokens = rng.integers(-8, 9, (count, D)).astype(np.float16) / 8
    return tokens, rng.integers(0, LISTS, count), np.sort(rng.integers(0, max(count // 3, 1), count))


@pytest.fixture
def filled(tmp_path):
    tokens, homes, rows = tokens_of(np.random.default_rng(0), 90)
    sizes = write_lists(tmp_path / "lists", homes, tokens, rows, LISTS)
    return TokenLists(tmp_path / "lists", sizes, D), tokens, homes, rows


def best(filled, query, scanned, depth, eligible=None):
    """Return the similarity and row of the best tokens in some lists, the slow way."""
    _, tokens, homes, rows = filled
    among = [i for i in range(len(tokens)) if homes[i] in scanned and (eligible is None or eligible[rows[i]])]
    pairs = [(float(tokens[i].astype(np.float64) @ query), int(rows[i])) for i in among]
    return sorted(pairs, reverse=True)[:depth]


@pytest.mark.parametrize("depth", [1, 7, 200])
@pytest.mark.parametrize("scanned", [[0], [4, 2], [0, 1, 2, 3, 4]])
@pytest.mark.parametrize("filtered", [False, True])
def test_a_scan_finds_the_best_tokens_of_its_lists(filled, depth, scanned, filtered):
    rng = np.random.default_rng(depth)
    eligible = rng.random(filled[3].max() + 1) < 0.5 if filtered else None
    queries = rng.integers(-8, 9, (3, D)).astype(np.float32) / 8
    found = filled[0].search(queries, np.tile(scanned, (3, 1)), depth, eligible)
    assert found.shape == (3, depth)
    for query, rows in zip(queries, found, strict=True):
        wanted = best(filled, query, scanned, depth, eligible)
        assert (rows >= 0).sum() == len(wanted)
        # Equal similarities may come in any order: compare what is above the last one, and how many.
        above = sorted(row for similarity, row in wanted if similarity > wanted[-1][0])
        assert set(above) <= set(rows.tolist())
        worst = best(filled, query, scanned, 10**6, eligible)
        at_least = {row for similarity, row in worst if similarity >= wanted[-1][0]}
        assert set(rows[rows >= 0].tolist()) <= at_least


def test_each_query_token_scans_its_own_lists(filled):
    queries = np.ones((2, D), np.float32)
    found = filled[0].search(queries, np.array([[3, -1, -1], [-1, -1, -1]]), 200, None)
    assert sorted(found[0][found[0] >= 0].tolist()) == sorted(filled[3][filled[2] == 3].tolist())
    assert (found[1] == -1).all()


def test_lists_grow_by_what_is_appended(tmp_path, filled):
    older, tokens, homes, rows = filled
    more, more_homes, more_rows = tokens_of(np.random.default_rng(1), 40)
    more_rows = more_rows + rows.max() + 1
    sizes = write_lists(tmp_path / "longer", more_homes, more, more_rows, LISTS, older)
    write_lists(
        tmp_path / "at once",
        np.concatenate([homes, more_homes]),
        np.concatenate([tokens, more]),
        np.concatenate([rows, more_rows]),
        LISTS,
    )
    assert (tmp_path / "longer").read_bytes() == (tmp_path / "at once").read_bytes()
    everything = np.tile(np.arange(LISTS), (1, 1))
    found = TokenLists(tmp_path / "longer", sizes, D).search(
        np.ones((1, D), np.float32), everything, 500, None
    )
    assert sorted(found[found >= 0].tolist()) == sorted([*rows.tolist(), *more_rows.tolist()])
    assert older.sizes.sum() == 90


def test_lists_stay_readable_when_their_file_is_gone(tmp_path, filled):
    everything = np.tile(np.arange(LISTS), (1, 1))
    query = np.ones((1, D), np.float32)
    before = filled[0].search(query, everything, 9, None)
    (tmp_path / "lists").unlink()
    assert filled[0].search(query, everything, 9, None).tolist() == before.tolist()
    sizes = write_lists(
        tmp_path / "copy",
        np.empty(0, np.int64),
        np.empty((0, D), np.float16),
        np.empty(0, np.int64),
        LISTS,
        filled[0],
    )
    copy = TokenLists(tmp_path / "copy", sizes, D)
    assert copy.search(query, everything, 9, None).tolist() == before.tolist()


def test_no_query_and_no_list_find_nothing(filled):
    assert filled[0].search(np.empty((0, D), np.float32), np.empty((0, 3), np.int64), 4, None).shape == (0, 4)
    nothing = filled[0].search(np.ones((2, D), np.float32), np.empty((2, 0), np.int64), 4, None)
    assert (nothing == -1).all()
