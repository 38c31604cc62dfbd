import sys
import threading

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

from kshot.errors import MissingDependency
from kshot.index import structures as structures_module
from kshot.index.lexical import LexicalWriter
from kshot.index.structures import KEPT, StructureCaches, StructureWriter
from kshot.selectors import bm25_partial_scores, coverage_greedy, structural_recall
from kshot.selectors.set_bm25 import SetBm25
from kshot.selectors.structural import Structural
from kshot.structures import structures_of

WORDS = st.sampled_from(["a", "b", "c", "dd", "rare"])
TEXTS = st.lists(WORDS, max_size=7).map(" ".join)
POOLS = st.lists(st.tuples(TEXTS, st.booleans()), max_size=9)
WEIGHTINGS = st.sampled_from(["recall", "bm25"])


def written(texts, kind="ngrams", max_words=4):
    writer = StructureWriter(kind, max_words)
    writer.put(range(len(texts)), texts)
    return writer


def every(texts):
    return np.ones(len(texts), np.bool_)


def plain(texts, live, query, weighting, kind="ngrams", max_words=4):
    """Score by the plain functions over the live rows' structures; dead rows have none."""
    wanted, *rows = structures_of([query, *texts], kind, max_words=max_words)
    alive = [row for row, lives in zip(rows, live, strict=True) if lives]
    if weighting == "recall":
        part = structural_recall(wanted, alive)
    else:
        part = bm25_partial_scores(alive, wanted, variant="lucene")
    scores = np.zeros((len(texts), len(wanted)))
    scores[np.flatnonzero(live)] = part
    return scores


@settings(max_examples=100)
@given(pool=POOLS, query=TEXTS, weighting=WEIGHTINGS, max_words=st.integers(1, 4))
def test_scores_of_rows_are_those_of_the_plain_functions(pool, query, weighting, max_words):
    texts, live = [text for text, _ in pool], np.array([lives for _, lives in pool], np.bool_)
    found = written(texts, max_words=max_words).build(live).scores(query, weighting)
    wanted = plain(texts, live, query, weighting, max_words=max_words)
    rows = np.arange(len(texts))
    dense = found.of(rows)
    assert (dense.dtype, dense.flags.f_contiguous) == (np.float64, True)
    assert_allclose(found.totals, wanted.sum(axis=1), rtol=1e-12)
    assert_allclose(dense.sum(axis=1), wanted.sum(axis=1), rtol=1e-12)
    # A column per distinct structure that some row has, as large as its repetitions together.
    distinct = list(dict.fromkeys(structures_of([query], "ngrams", max_words=max_words)[0]))
    columns = structures_of([query], "ngrams", max_words=max_words)[0]
    merged = [wanted[:, [one == other for other in columns]].sum(axis=1) for one in distinct]
    merged = [column for column in merged if column.any()]
    assert dense.shape[1] == len(merged)
    for column, expected in zip(dense.T, merged, strict=True):
        assert_allclose(column, expected, rtol=1e-12)


@settings(max_examples=100)
@given(
    pool=st.lists(TEXTS, min_size=1, max_size=12),
    query=TEXTS,
    weighting=WEIGHTINGS,
    depth=st.integers(1, 3),
)
def test_a_greedy_cover_of_the_contenders_is_that_of_all_rows(pool, query, weighting, depth):
    index = written(pool, max_words=2).build(every(pool))
    scores = index.scores(query, weighting)
    rows = np.arange(len(pool))
    contenders = scores.contenders(rows, depth)
    assert (np.diff(contenders) > 0).all()
    assert (scores.totals[contenders] > 0).all()
    whole = scores.of(rows)
    whole_picks = coverage_greedy(whole, depth) if whole.shape[1] else None
    # Rows without any structure gain nothing; which of them fill up is not the cover's business.
    wanted = [] if whole_picks is None else [i for i in whole_picks.indices.tolist() if whole[i].any()]
    picks = coverage_greedy(scores.of(contenders), depth)
    assert contenders[picks.indices].tolist() == wanted


def test_contenders_are_the_first_of_rows_that_are_alike():
    texts = ["a x", "a", "b", "a y", "a z z", "none", "a b"]
    index = written(texts, max_words=1).build(every(texts))
    rows = np.arange(7)
    assert index.scores("a b", "recall").contenders(rows, 2).tolist() == [0, 1, 2, 6]
    # Under BM25 the shorter ones of a pattern come first.
    assert index.scores("a b", "bm25").contenders(rows, 1).tolist() == [1, 2, 6]
    assert index.scores("a b", "recall").contenders(np.array([3, 4, 5]), 1).tolist() == [3]
    assert index.scores("q", "recall").contenders(rows, 1).tolist() == []


def test_rows_that_have_structures_unequally_often_are_not_alike_under_bm25():
    # `b` is in more rows, so the third row has the smallest sum of its length; yet it covers `b` best.
    texts = ["a a a b", "a a a b", "a b b b", "b x y z"]
    scores = written(texts, max_words=1).build(every(texts)).scores("a b", "bm25")
    assert scores.totals[2] < scores.totals[0]
    assert coverage_greedy(scores.of(np.arange(4)), 2).indices.tolist() == [0, 2]
    assert scores.contenders(np.arange(4), 2).tolist() == [0, 1, 2, 3]


def test_a_structure_repeated_six_times_ties_with_six_of_one():
    # 6 * (1 / 12) is larger than the sum of six twelfths, in plain float64.
    texts = ["b c d e f g", "a"]
    scores = written(texts, max_words=1).build(every(texts)).scores("a a a a a a b c d e f g", "recall")
    assert scores.totals[0] == scores.totals[1]
    assert coverage_greedy(scores.of(np.arange(2)), 1).indices.tolist() == [0]


def test_where_memory_would_not_do_the_rows_with_the_largest_sums_contend(monkeypatch):
    texts = ["a", "a b", "b c", "a b c d", "c"]
    scores = written(texts, max_words=1).build(every(texts)).scores("a b c d", "recall")
    monkeypatch.setattr(structures_module, "MAX_CELLS", 12)
    assert scores.contenders(np.arange(5), 1).tolist() == [1, 2, 3]
    assert scores.contenders(np.arange(5), 4).tolist() == [0, 1, 2, 3]


def test_single_words_score_as_the_index_of_words_does():
    texts = ["a b", "b c c", "", "d a a b", "c"]
    lexical = LexicalWriter()
    lexical.put(range(5), texts)
    live = np.array([True, True, True, True, False])
    query = "A b, c a unknown"
    found = written(texts, max_words=1).build(live).scores(query, "bm25")
    assert_allclose(found.totals, lexical.build(live).scores(query), rtol=1e-12)


@pytest.mark.parametrize(
    ("kind", "texts", "query"),
    [
        (
            "ast_sql",
            ["SELECT a FROM t", "SELECT a FROM t WHERE b = 1", "not ( sql", "SELECT count(*) FROM s"],
            "SELECT max(x) FROM u WHERE y = 2",
        ),
        (
            "ast_python",
            ["x = 1", "def f(a):\n  return a", "f(:", "for i in a: f(i)"],
            "def g(b): return b(1)",
        ),
    ],
)
@pytest.mark.parametrize("weighting", ["recall", "bm25"])
def test_pieces_of_syntax_trees_score_as_the_plain_functions_say(kind, texts, query, weighting):
    found = written(texts, kind, 1).build(every(texts)).scores(query, weighting)
    wanted = plain(texts, every(texts), query, weighting, kind)
    assert_allclose(found.totals, wanted.sum(axis=1), rtol=1e-12)
    assert (found.totals > 0).tolist() == [True, True, False, True]


def test_a_query_that_cannot_be_parsed_has_no_structures():
    found = written(["x = 1"], "ast_python", 1).build(np.ones(1, np.bool_)).scores("f(:", "recall")
    assert found.values.shape == (1, 0)
    assert found.of(np.array([0])).shape == (1, 0)


def test_sequences_do_not_run_from_one_text_into_the_next():
    texts = ["a b", "c d"]
    found = written(texts).build(every(texts)).scores("b c", "recall")
    assert found.values.shape == (2, 2)
    assert_allclose(found.totals, 1 / 3, rtol=1e-6)


def test_the_order_of_words_matters_and_so_do_their_borders():
    texts = ["a b", "b a", "ab", "aa b"]
    found = written(texts).build(every(texts)).scores("a b", "recall")
    assert_allclose(found.totals * 3, [3, 2, 0, 1], rtol=1e-6)


def test_columns_come_in_the_order_of_the_query():
    texts = ["one two three four five six"]
    index = written(texts, max_words=1).build(every(texts))
    values = index.scores("six two two five", "recall").of(np.array([0]))
    assert_allclose(values, [[1 / 4, 2 / 4, 1 / 4]], rtol=1e-6)


def test_rows_that_are_dead_or_come_later_do_not_change_an_index():
    writer = written(["a b", "a", "c"])
    index = writer.build(np.array([True, False, True]))
    before = index.scores("a b c new", "bm25").of(np.arange(3))
    writer.put([3], ["a new word"])
    assert_array_equal(index.scores("a b c new", "bm25").of(np.arange(3)), before)
    again = writer.build(np.array([True, False, True]))
    assert_array_equal(again.scores("a b c new", "bm25").of(np.arange(3)), before)
    assert not before[1].any()


def test_a_row_whose_text_is_unknown_has_no_structures_but_counts_as_a_document():
    writer = StructureWriter("ngrams", 1)
    writer.put([0, 2], ["a", "b"])
    assert writer.unknown(np.arange(4)).tolist() == [1, 3]
    found = writer.build(np.ones(4, np.bool_)).scores("a", "bm25")
    assert_allclose(found.totals, plain(["a", "", "b", ""], np.ones(4, np.bool_), "a", "bm25")[:, 0])


@pytest.mark.parametrize("rows", [0, 3])
def test_pools_without_any_structure_are_valid(rows):
    index = written([""] * rows).build(np.ones(rows, np.bool_))
    for weighting in ("recall", "bm25"):
        found = index.scores("a b", weighting)
        assert found.values.shape == (rows, 0)
        assert found.contenders(np.arange(rows), 2).tolist() == []


def test_a_query_of_eight_thousand_words_is_answered():
    words = [f"w{i % 900} v{i % 70}" for i in range(4_000)]
    texts = [" ".join(words[start : start + 400]) for start in range(0, 4_000, 40)]
    index = written(texts).build(every(texts))
    found = index.scores(" ".join(words), "bm25")
    assert found.contenders(np.arange(100), 8).size == 100
    assert (found.of(np.arange(100)).sum(axis=1) > 0).all()


# The caches


class Counting:
    """A store of texts by seq that counts what it is asked for."""

    def __init__(self):
        self.asked = []

    def __call__(self, seqs):
        self.asked.append(list(seqs))
        return [f"word{seq} and" for seq in seqs]


def find(caches, method, version, seqs):
    seqs = np.array(seqs)
    return caches.of(method).find(version, seqs, seqs >= 0)


def test_methods_that_read_the_same_structures_share_an_index():
    texts = Counting()
    caches = StructureCaches(texts)
    first = find(caches, Structural(), 1, [1, 2])
    assert find(caches, SetBm25(), 1, [1, 2]) is first
    assert find(caches, Structural(max_words=2), 1, [1, 2]) is not first
    assert texts.asked == [[1, 2], [1, 2]]


def test_the_length_of_word_sequences_is_nothing_to_syntax_trees():
    caches = StructureCaches(Counting())
    first = find(caches, Structural(structures="ast_python"), 1, [1])
    assert find(caches, Structural(structures="ast_python", max_words=2), 1, [1]) is first


def test_a_new_snapshot_reads_only_new_texts():
    texts = Counting()
    caches = StructureCaches(texts)
    find(caches, Structural(), 1, [1, 2])
    newer = find(caches, Structural(), 2, [1, -1, 3])
    assert texts.asked == [[1, 2], [3]]
    assert (newer.scores("word1 word2 word3", "recall").totals > 0).tolist() == [True, False, True]


def test_the_kinds_used_last_are_kept():
    texts = Counting()
    caches = StructureCaches(texts)
    lengths = range(1, KEPT + 2)
    first = find(caches, Structural(max_words=1), 1, [1])
    for max_words in lengths:
        find(caches, Structural(max_words=max_words), 1, [1])
        assert find(caches, Structural(max_words=1), 1, [1]) is first
    assert len(texts.asked) == len(lengths)
    # The least recently used of them is gone.
    find(caches, Structural(max_words=2), 1, [1])
    assert len(texts.asked) == len(lengths) + 1


def test_no_text_is_read_for_a_parser_that_is_not_installed(monkeypatch):
    monkeypatch.setitem(sys.modules, "sqlglot", None)
    texts = Counting()
    with pytest.raises(MissingDependency, match="sqlglot"):
        find(StructureCaches(texts), Structural(structures="ast_sql"), 1, [1])
    assert texts.asked == []


def test_threads_that_ask_at_once_get_one_index():
    texts = Counting()
    caches = StructureCaches(texts)
    found: list[object] = []
    threads = [
        threading.Thread(target=lambda: found.append(find(caches, Structural(), 1, [1, 2]))) for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 8
    assert len(set(map(id, found))) == 1
    assert texts.asked == [[1, 2]]
