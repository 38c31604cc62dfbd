import threading

import bm25s
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose

from kshot.index.lexical import LexicalCache, LexicalWriter
from kshot.structures import words
from tests import oracles

WORDS = st.sampled_from(["a", "b", "c", "dd", "rare"])
TEXTS = st.lists(WORDS, max_size=6).map(" ".join)


def written(texts):
    writer = LexicalWriter()
    writer.put(range(len(texts)), texts)
    return writer


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", []),
        ("  ?! ", []),
        ("Hello, World!", ["hello", "world"]),
        ("don't re-run it_now 3.14", ["don", "t", "re", "run", "it_now", "3", "14"]),
        ("ÄRGER über Œuvre", ["ärger", "über", "œuvre"]),
        ("東京 タワー", ["東京", "タワー"]),
    ],
)
def test_words_are_lower_case_letters_digits_and_underscores(text, expected):
    assert words(text) == expected


@given(
    rows=st.lists(st.tuples(TEXTS, st.booleans()), max_size=7),
    query=st.lists(st.one_of(WORDS, st.just("unknown")), max_size=4),
)
def test_scores_are_lucenes_over_the_live_rows(rows, query):
    texts, live = [text for text, _ in rows], np.array([alive for _, alive in rows], np.bool_)
    index = written(texts).build(live)
    found = index.scores(" ".join(query).upper())
    wanted = np.zeros(len(rows))
    documents = [text.split() for text, alive in rows if alive]
    if any(documents):
        wanted[live] = oracles.lucene(documents, query)
    assert (found.shape, found.dtype) == ((len(rows),), np.float64)
    assert_allclose(found, wanted, rtol=1e-12)
    shared = [alive and bool(set(text.split()) & set(query)) for text, alive in rows]
    assert (found > 0).tolist() == shared


def test_a_word_that_the_query_repeats_counts_twice():
    index = written(["a b", "b c", "c c"]).build(np.ones(3, np.bool_))
    assert_allclose(index.scores("a b a"), index.scores("a") * 2 + index.scores("b"), rtol=1e-15)


def test_rows_that_are_dead_or_come_later_do_not_change_an_index():
    writer = written(["a b", "a", "c"])
    index = writer.build(np.array([True, False, True]))
    before = index.scores("a b c new")
    writer.put([3], ["a new word"])
    assert index.scores("a b c new").tolist() == before.tolist()
    assert_allclose(before[[0, 2]], oracles.lucene([["a", "b"], ["c"]], ["a", "b", "c"]))
    assert before[1] == 0


class Texts:
    """A store of texts by seq that counts what it is asked for."""

    def __init__(self, **seq_to_text):
        self.seq_to_text = {int(seq[1:]): text for seq, text in seq_to_text.items()}
        self.asked = []

    def __call__(self, seqs):
        self.asked.append(list(seqs))
        return [self.seq_to_text.get(seq, "") for seq in seqs]


def find(cache, version, seqs):
    seqs = np.array(seqs)
    return cache.find(version, seqs, seqs >= 0)


def test_the_cache_reads_each_text_once_and_builds_each_index_once():
    texts = Texts(s1="a", s2="b", s3="a c")
    cache = LexicalCache(texts)
    assert cache.newest() is None
    first = find(cache, 1, [1, 2])
    assert cache.newest() is first
    assert find(cache, 1, [1, 2]) is first
    second = find(cache, 2, [1, -1, 3])
    assert texts.asked == [[1, 2], [3]]
    assert_allclose(second.scores("a"), np.array([1, 0, 1]) * second.scores("a"))
    assert second.scores("a")[2] > 0 == second.scores("b").max()
    assert cache.newest() is second


def test_another_version_of_the_same_row_uses_the_text_that_is_known():
    texts = Texts(s1="a", s9="a")
    cache = LexicalCache(texts)
    first = find(cache, 1, [1])
    assert find(cache, 2, [9]) is first
    assert texts.asked == [[1]]


def test_a_row_without_an_owner_is_read_once_it_has_one():
    texts = Texts(s1="a", s2="b")
    cache = LexicalCache(texts)
    find(cache, 1, [1, -1])
    assert find(cache, 2, [1, 2]).scores("b")[1] > 0


def test_a_text_that_was_erased_under_one_version_is_read_under_the_next():
    texts = Texts(s2="b")
    cache = LexicalCache(texts)
    first = find(cache, 1, [1])
    assert not first.scores("b").any()
    assert find(cache, 1, [1]) is first
    # The same row, owned by another version of the example.
    assert find(cache, 2, [2]).scores("b")[0] > 0


def test_an_index_of_an_older_snapshot_does_not_replace_the_newest():
    cache = LexicalCache(Texts(s1="a", s2="b"))
    newest = find(cache, 2, [1, 2])
    older = find(cache, 1, [1])
    assert older.scores("b").tolist() == [0]
    assert cache.newest() is newest


def test_threads_that_ask_at_once_get_one_index():
    texts = Texts(s1="a", s2="b")
    cache = LexicalCache(texts)
    found: list[object] = []
    threads = [threading.Thread(target=lambda: found.append(find(cache, 1, [1, 2]))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 8
    assert len(set(map(id, found))) == 1
    assert texts.asked == [[1, 2]]


def test_scores_equal_those_of_bm25s():
    rng = np.random.default_rng(4)
    vocabulary = [f"w{number}" for number in range(60)]
    texts = [" ".join(rng.choice(vocabulary, size=rng.integers(1, 12))) for _ in range(200)]
    engine = bm25s.BM25(method="lucene", k1=1.5, b=0.75, dtype="float64")
    engine.index([words(text) for text in texts], show_progress=False)
    index = written(texts).build(np.ones(len(texts), np.bool_))
    for query in (["w1"], ["w1", "w1", "w7"], list(rng.choice(vocabulary, size=8)), ["w3", "unknown"]):
        known = [word for word in query if word in vocabulary]
        assert_allclose(index.scores(" ".join(query)), engine.get_scores(known), atol=1e-9)
