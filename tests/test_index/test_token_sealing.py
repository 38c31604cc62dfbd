import json
import shutil

import numpy as np
import pytest

from kshot.index import token_sealing
from kshot.index.pool import PoolIndex
from kshot.index.segments import checksum
from kshot.index.store.example_rows import PoolChanges
from kshot.index.token_sealing import build_token_base, load_token_base, wants_token_base
from tests.test_index.builders import embed, header, no_texts, published, tokens_of

pytestmark = pytest.mark.usefixtures("without_fsync")
FILES = ["arrays.npz", "codes.npy", "lists.bin", "manifest.json"]


def text_of(seq):
    return f"w{seq % 7} w{seq % 11} text{seq}"


def pool_of(folder, count, **options):
    headers = [header(seq) for seq in range(1, count + 1)]
    return published(folder / "segments", headers, [text_of(one.seq) for one in headers], **options)


@pytest.fixture
def pool(tmp_path):
    return pool_of(tmp_path, 60, segment_rows=25)


def grown(pool, first, last):
    pool.append(embed(range(first, last), [text_of(seq) for seq in range(first, last)]))
    changes = PoolChanges(pool.snapshot.version + 1, [], [header(seq) for seq in range(first, last)])
    return pool.publish(changes)


def folders(folder):
    return sorted(path.name for path in folder.iterdir() if path.name != "segments")


def query_of(text):
    return tokens_of(text).astype(np.float32)


def answers(base):
    """Return what a base says of some queries."""
    said = []
    for text in ("w1 w3", "text40", "w5 text7 w10"):
        query = query_of(text)
        rows = base.propose(query, None)
        weights = np.full(len(query), 1 / len(query), np.float32)
        said.append((rows.tolist(), base.estimate(query, weights, np.arange(len(base))).tolist()))
    return said


def test_a_saved_base_answers_like_the_one_that_was_built(tmp_path, pool):
    built = build_token_base(tmp_path, pool.snapshot)
    (name,) = folders(tmp_path)
    assert sorted(path.name for path in (tmp_path / name).iterdir()) == FILES
    loaded = load_token_base(tmp_path, pool.snapshot)
    assert loaded is not None
    assert len(loaded) == len(built) == 60
    assert answers(loaded) == answers(built)
    assert loaded.reduction.spread == built.reduction.spread
    assert loaded.offsets.tolist() == pool.snapshot.tokens.offsets.tolist()


def test_estimates_of_a_base_are_close_to_the_scores_of_its_rows(tmp_path, pool):
    base = build_token_base(tmp_path, pool.snapshot)
    query = query_of("w1 w3 text9")
    weights = np.full(3, 1 / 3, np.float32)
    rows = np.arange(60)
    # Tokens of four dimensions, of which none is left out.
    np.testing.assert_allclose(
        base.estimate(query, weights, rows),
        pool.snapshot.tokens.partial_scores(query, weights, rows),
        atol=0.01,
    )


def test_a_base_fits_the_reopened_pool_and_one_that_has_grown(tmp_path, pool):
    build_token_base(tmp_path, pool.snapshot)
    assert load_token_base(tmp_path, PoolIndex(tmp_path / "segments", None, no_texts).snapshot) is not None
    snapshot = grown(pool, 61, 70)
    base = load_token_base(tmp_path, snapshot)
    assert base is not None
    pool.install_token_base(base)
    assert pool.snapshot.version == snapshot.version
    assert (len(pool.snapshot.tokens.base), len(pool.snapshot)) == (60, 69)
    assert snapshot.tokens.base is None


def test_an_extended_base_has_the_old_rows_and_the_new_ones(tmp_path, pool):
    first = build_token_base(tmp_path, pool.snapshot)
    pool.install_token_base(first)
    snapshot = grown(pool, 61, 80)
    second = build_token_base(tmp_path, snapshot)
    assert (len(second), second.trained_rows) == (79, 60)
    assert len(folders(tmp_path)) == 1
    assert second.clusters.centroids.tobytes() == first.clusters.centroids.tobytes()
    assert second.codes[: len(first.codes)].tolist() == first.codes.tolist()
    assert second.offsets.tolist() == snapshot.tokens.offsets.tolist()
    assert 71 in second.propose(query_of("text72"), None)
    assert 40 in second.propose(query_of("text41"), None)
    # The older one is still in use by whoever reads the older snapshot.
    assert answers(first) == answers(first)
    loaded = load_token_base(tmp_path, snapshot)
    assert loaded is not None
    assert answers(loaded) == answers(second)


def test_a_pool_that_has_grown_much_is_trained_anew(tmp_path, pool):
    pool.install_token_base(build_token_base(tmp_path, pool.snapshot))
    assert build_token_base(tmp_path, grown(pool, 61, 120)).trained_rows == 60
    assert build_token_base(tmp_path, grown(pool, 120, 121)).trained_rows == 120


def assert_gone(folder, snapshot):
    assert load_token_base(folder, snapshot) is None
    assert folders(folder) == []


def test_a_base_of_other_rows_is_deleted(tmp_path, pool):
    build_token_base(tmp_path, pool.snapshot)
    other = published(tmp_path / "other", map(header, range(1, 61)), [f"other {seq}" for seq in range(60)])
    shutil.move(tmp_path / "other", tmp_path / "segments" / "other")
    assert_gone(tmp_path, other.snapshot)


def test_a_base_of_more_rows_than_the_pool_has_is_deleted(tmp_path, pool):
    build_token_base(tmp_path, pool.snapshot)
    fewer = pool_of(tmp_path / "segments" / "fewer", 40).snapshot
    assert_gone(tmp_path, fewer)


def test_a_pool_without_tokens_owns_no_base(tmp_path, pool):
    build_token_base(tmp_path, pool.snapshot)
    without = pool_of(tmp_path / "segments" / "without", 60, with_tokens=False).snapshot
    assert not wants_token_base(without)
    assert_gone(tmp_path, without)


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("damage", ["flipped", "cut", "absent"])
def test_a_damaged_base_is_deleted(tmp_path, pool, name, damage):
    build_token_base(tmp_path, pool.snapshot)
    file = tmp_path / folders(tmp_path)[0] / name
    content = bytearray(file.read_bytes())
    if damage == "flipped":
        content[len(content) // 2] ^= 0xFF
    elif damage == "cut":
        del content[-len(content) // 3 :]
    file.write_bytes(content)
    if damage == "absent":
        file.unlink()
    assert_gone(tmp_path, pool.snapshot)


@pytest.mark.parametrize("manifest", ["[]", "{}", '{"format": 0}', "null"])
def test_a_base_with_another_manifest_is_deleted(tmp_path, pool, manifest):
    build_token_base(tmp_path, pool.snapshot)
    (tmp_path / folders(tmp_path)[0] / "manifest.json").write_text(manifest, encoding="utf-8")
    assert_gone(tmp_path, pool.snapshot)


def test_a_base_in_another_format_is_deleted(tmp_path, pool):
    build_token_base(tmp_path, pool.snapshot)
    path = tmp_path / folders(tmp_path)[0] / "manifest.json"
    manifest = json.loads(path.read_text("utf-8"))
    assert manifest["files"]["lists.bin"] == checksum(path.with_name("lists.bin"))
    path.write_text(json.dumps({**manifest, "format": 2}), encoding="utf-8")
    assert_gone(tmp_path, pool.snapshot)


def test_a_construction_cut_short_leaves_the_old_base_and_no_rubbish(tmp_path, pool, monkeypatch):
    build_token_base(tmp_path, pool.snapshot)
    before = folders(tmp_path)
    snapshot = grown(pool, 61, 70)

    def crash(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(token_sealing, "write_lists", crash)
        with pytest.raises(KeyboardInterrupt):
            build_token_base(tmp_path, snapshot)
    assert folders(tmp_path) == before
    assert load_token_base(tmp_path, snapshot) is not None


def test_the_folder_of_a_deleted_pool_does_not_come_back(tmp_path, pool):
    with pytest.raises(FileNotFoundError):
        build_token_base(tmp_path / "gone", pool.snapshot)
    assert not (tmp_path / "gone").exists()


def test_what_a_crash_left_unfinished_is_removed(tmp_path, pool):
    build_token_base(tmp_path, pool.snapshot)
    before = folders(tmp_path)
    shutil.copytree(tmp_path / before[0], tmp_path / "tmp-tokens-12345678")
    assert load_token_base(tmp_path, pool.snapshot) is not None
    assert folders(tmp_path) == before


def test_no_base_is_no_base(tmp_path, pool):
    assert load_token_base(tmp_path, pool.snapshot) is None


def test_a_base_is_wanted_once_the_rows_behind_it_are_many(tmp_path, pool, monkeypatch):
    monkeypatch.setattr(token_sealing, "TAIL_ROWS", 59)
    assert wants_token_base(pool.snapshot)
    monkeypatch.setattr(token_sealing, "TAIL_ROWS", 60)
    assert not wants_token_base(pool.snapshot)
    monkeypatch.setattr(token_sealing, "TAIL_ROWS", 9)
    pool.install_token_base(build_token_base(tmp_path, pool.snapshot))
    assert not wants_token_base(grown(pool, 61, 70))
    assert wants_token_base(grown(pool, 70, 71))
    assert not wants_token_base(published(tmp_path / "empty", []).snapshot)


@pytest.mark.parametrize("count", [1, 2, 9])
def test_tiny_pools_can_be_sealed(tmp_path, count):
    pool = pool_of(tmp_path, count)
    base = build_token_base(tmp_path, pool.snapshot)
    assert base.propose(query_of("text1"), None).tolist() == list(range(count))


def test_a_compacted_pool_has_no_base(tmp_path, pool):
    build_token_base(tmp_path, pool.snapshot)
    reopened = PoolIndex(tmp_path / "segments", None, no_texts)
    reopened.compact([3], [3])
    assert len(reopened.snapshot) == 59
    assert_gone(tmp_path, reopened.snapshot)
