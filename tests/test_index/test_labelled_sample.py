"""Labelled rows drawn from a snapshot: who takes part, what a query may see, and every signal's numbers."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kshot.arrays import unit_rows
from kshot.errors import InvalidInput
from kshot.index import labelled_sample
from kshot.index.labelled_sample import allowed_rows, draw, proportional_order, recalls, word_scores
from kshot.records import Status
from kshot.selectors.late_interaction import bsr_scores
from tests import oracles
from tests.test_index.builders import header, ids_of, published

pytestmark = pytest.mark.usefixtures("without_fsync")


def generator(seed=0):
    return np.random.Generator(np.random.PCG64(seed))


def labelled(n, labels=4, start=0, **fields):
    return [header(seq, outputs=f"label {seq % labels}", **fields) for seq in range(start, start + n)]


def drawn(snapshot, queries=400, k=8, exclude_splits=("test",), seed=0):
    return draw(snapshot, queries, k, exclude_splits, generator(seed))


def test_every_labelled_row_takes_part_in_a_small_pool(tmp_path):
    snapshot = published(tmp_path, labelled(60)).snapshot
    sample = drawn(snapshot)
    assert sample.queries.tolist() == sample.rows.tolist() == list(range(60))
    assert sample.labels == 4
    names = snapshot.field_to_column["label"].values
    assert [names[code] for code in sample.query_labels] == [f"label {i % 4}" for i in range(60)]
    assert sample.row_labels.tolist() == sample.query_labels.tolist()
    assert sample.same_label[1].tolist() == [i % 4 == 1 for i in range(60)]


def test_rows_that_must_not_take_part_do_not(tmp_path):
    apart = [
        header(100, outputs="label 0", split="test"),
        header(101, outputs="label 0", status=Status.DRAFT),
        header(102, outputs=None),
        header(103, outputs={"intent": "label 0"}),
        header(104, inputs="text 7", outputs="label 3"),  # the content of row 7
        header(105, outputs="label 0", split="dev"),
    ]
    index = published(tmp_path, [*labelled(60, split="train"), *apart])
    assert ids_of(index.snapshot, drawn(index.snapshot).rows[-2:]) == ["e59", "e105"]
    chosen = drawn(index.snapshot, exclude_splits=("dev", "absent"))
    assert ids_of(index.snapshot, chosen.rows[-2:]) == ["e59", "e100"]


def test_no_two_queries_have_equal_inputs_or_one_group(tmp_path):
    rows = [
        *labelled(60),
        *(header(seq, outputs="label 0", group="dialogue") for seq in range(60, 80)),
        *(header(seq, inputs="text 0", outputs=f"label {seq % 4}") for seq in range(81, 84)),
    ]
    snapshot = published(tmp_path, rows).snapshot
    sample = drawn(snapshot)
    ids = ids_of(snapshot, sample.queries)
    assert len(ids) == 61
    assert sum(int(one[1:]) in range(60, 80) for one in ids) == 1
    assert sum(one in {"e0", "e81", "e82", "e83"} for one in ids) == 1
    assert len(sample.rows) == 83


def test_a_label_that_nothing_could_agree_with_gives_no_query(tmp_path):
    rows = [
        *labelled(60),
        header(60, outputs="once"),
        *(header(seq, outputs="one group", group="g") for seq in range(61, 64)),
    ]
    snapshot = published(tmp_path, rows).snapshot
    sample = drawn(snapshot)
    assert len(sample.queries) == 60
    assert len(sample.rows) == 64


def test_queries_are_drawn_by_label_and_by_seed(tmp_path):
    rows = labelled(80, labels=1) + [header(seq, outputs="rare") for seq in range(80, 100)]
    snapshot = published(tmp_path, rows).snapshot
    first, again, other = (drawn(snapshot, queries=50, seed=seed) for seed in (1, 1, 2))
    assert first.queries.tolist() == again.queries.tolist() != other.queries.tolist()
    assert np.diff(first.queries).min() > 0
    assert sorted(Counter(first.query_labels.tolist()).values()) == [10, 40]


def test_a_large_pool_is_sampled_and_queries_choose_from_other_rows(tmp_path, monkeypatch):
    monkeypatch.setattr(labelled_sample, "MOST_ROWS", 70)
    snapshot = published(tmp_path, labelled(140)).snapshot
    sample = drawn(snapshot, queries=60)
    assert (len(sample.queries), len(sample.rows)) == (60, 70)
    assert not np.isin(sample.queries, sample.rows).any()
    assert np.diff(sample.rows).min() > 0
    assert set(np.bincount(sample.row_labels)) <= {17, 18}
    # Just above the limit, what the queries leave is all there is.
    assert len(drawn(published(tmp_path / "b", labelled(71)).snapshot, queries=60).rows) == 11


def test_long_texts_make_the_sample_smaller_but_not_too_small(tmp_path, monkeypatch):
    texts = [f"text {seq} with ten words in it to be long" for seq in range(200)]
    snapshot = published(tmp_path, labelled(200), texts).snapshot
    monkeypatch.setattr(labelled_sample, "MOST_ROWS", 150)
    monkeypatch.setattr(labelled_sample, "TOKENS_EACH", 5)
    sample = drawn(snapshot, queries=120)
    assert (len(sample.queries), len(sample.rows)) == (60, 75)
    monkeypatch.setattr(labelled_sample, "TOKENS_EACH", 1)
    sample = drawn(snapshot, queries=120)
    assert (len(sample.queries), len(sample.rows)) == (50, 50)


@pytest.mark.parametrize(
    ("rows", "k", "message"),
    [
        (labelled(60, labels=1), 8, "share: 1, wanted 2"),
        (labelled(49), 8, "another: 49, wanted 50 for k = 8"),
        (labelled(60), 20, "another: 60, wanted 100 for k = 20"),
        ([header(seq, outputs="a", group="g") for seq in range(60)], 8, "share: 0, wanted 2"),
        ([header(seq, outputs=str(seq)) for seq in range(60)], 8, "share: 0, wanted 2"),
        ([header(seq, outputs=None) for seq in range(60)], 8, "label_field"),
        ([header(seq, outputs=str(seq)) for seq in range(501)], 8, "label_field"),
        (labelled(60, split="test"), 8, "share: 0, wanted 2"),
    ],
)
def test_too_little_is_refused_with_what_is_there_and_what_is_wanted(rows, k, message, tmp_path):
    with pytest.raises(InvalidInput, match=message):
        drawn(published(tmp_path, rows).snapshot, k=k)


@given(
    codes=st.lists(st.integers(0, 4), max_size=40).map(lambda found: np.array(found, np.int64)),
    seed=st.integers(0, 99),
)
def test_every_beginning_of_a_proportional_order_holds_each_label_in_proportion(codes, seed):
    order = proportional_order(codes, generator(seed))
    assert sorted(order.tolist()) == list(range(len(codes)))
    totals = Counter(codes.tolist())
    for end in range(1, len(codes) + 1):
        found = Counter(codes[order[:end]].tolist())
        # Each label is off by less than one row of its own, and pushes the others by as much in all.
        for label, total in totals.items():
            assert abs(found[label] - end * total / len(codes)) <= 1 + len(totals) * total / len(codes)


def test_a_query_sees_neither_itself_nor_its_group_nor_its_own_words_again(tmp_path):
    headers = [
        *labelled(50),
        header(50, outputs="label 2", group="g"),
        header(51, outputs="label 3", group="g"),
        header(52, outputs="label 0", group="other"),
    ]
    snapshot = published(tmp_path, headers).snapshot
    sample = drawn(snapshot)
    row_texts = [f"words of {i}" for i in range(53)]
    row_texts[4], row_texts[9] = "My  parcel\n", "my PARCEL"
    query_texts = [row_texts[row] for row in sample.queries.tolist()]
    allowed = allowed_rows(snapshot, sample, query_texts, row_texts)

    hidden = {query: np.flatnonzero(~allowed[i]).tolist() for i, query in enumerate(sample.queries.tolist())}
    in_group = 50 if 50 in hidden else 51
    assert len(hidden) == 52
    assert hidden.pop(in_group) == [50, 51]
    assert hidden.pop(4) == hidden.pop(9) == [4, 9]
    assert all(rows == [query] for query, rows in hidden.items())


def test_recalls_of_many_queries_are_those_of_each():
    rng = np.random.default_rng(0)
    queries = [unit_rows(rng.standard_normal((length, 4))) for length in (2, 1)]
    none = np.empty((0, 4), np.float32)
    rows = [unit_rows(rng.standard_normal((length, 4))) for length in (1, 3, 2)]
    tokens, offsets = np.concatenate(rows), np.array([0, 1, 4, 6])
    found = recalls([none, queries[0], none, queries[1], none], tokens, offsets)
    assert found.shape == (5, 3)
    for i, query in ((1, queries[0]), (3, queries[1])):
        partial = oracles.maxsim(query, rows, np.full(len(query), 1 / len(query)))
        np.testing.assert_allclose(found[i], bsr_scores(partial), atol=1e-6)
    assert not found[[0, 2, 4]].any()
    assert not recalls([none], tokens, offsets).any()


def test_word_scores_are_those_of_the_pools_index(tmp_path):
    texts = [f"word{i % 7} common number{i}" for i in range(60)]
    index = published(tmp_path, labelled(60), texts)
    sample = drawn(index.snapshot, queries=50)
    query_texts = [texts[row] for row in sample.queries]
    found = word_scores(index.snapshot, sample, query_texts)
    lexical = index.snapshot.lexical(current=True)
    for row, text in zip(found, query_texts, strict=True):
        np.testing.assert_allclose(row, lexical.scores(text)[sample.rows], rtol=1e-6)
