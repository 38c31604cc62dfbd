import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kshot.clients.embedders.hashing import MAX_WORDS, HashingEmbedder
from kshot.errors import InvalidParameter

EMBEDDER: Any = HashingEmbedder()


def vectors(*texts):
    return EMBEDDER.encode(texts, token_layer=None).vectors.astype(np.float64)


def test_texts_that_share_words_are_nearer_than_texts_that_do_not():
    query, near, far = vectors("my card was declined", "was your card declined?", "bananas grow in bunches")
    assert query @ near > query @ far + 0.3


def test_words_that_share_letters_are_nearer_than_words_that_do_not():
    query, near, far = vectors("payment", "payments", "zebra")
    assert query @ near > 0.6
    assert query @ far < 0.4


def test_case_does_not_matter():
    lower, upper = vectors("my card", "MY CARD")
    np.testing.assert_allclose(lower, upper)


def test_one_word_is_its_own_sentence():
    features = EMBEDDER.encode(["parcel"], token_layer=1)
    np.testing.assert_allclose(features.tokens[1], features.vectors[0], atol=1e-7)


def test_a_sentence_is_the_direction_of_the_sum_of_its_words():
    features = EMBEDDER.encode(["my parcel my"], token_layer=1)
    total = features.tokens[1:-1].astype(np.float64).sum(axis=0)
    np.testing.assert_allclose(features.vectors[0], total / np.linalg.norm(total), atol=1e-6)


def test_equal_words_have_equal_ids_and_no_word_has_a_marker_id():
    ids = EMBEDDER.encode(["one two one"], token_layer=1).token_ids
    assert ids[1] == ids[3] != ids[2]
    assert ids[[0, 4]].tolist() == [0, 1]
    assert (ids[1:4] > 1).all()


def test_another_process_computes_the_same_bits():
    code = (
        "from kshot.clients.embedders.hashing import HashingEmbedder;"
        "print(HashingEmbedder().encode(['where is my parcel'], token_layer=None).vectors.tobytes().hex())"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env={"PYTHONHASHSEED": "1", "PYTHONPATH": ":".join(sys.path)},
    )
    here = EMBEDDER.encode(["where is my parcel"], token_layer=None).vectors.tobytes().hex()
    assert done.stdout.strip() == here


def test_words_beyond_the_limit_are_cut_and_flagged():
    features = EMBEDDER.encode(["a " * MAX_WORDS, "a " * (MAX_WORDS + 1)], token_layer=1)
    assert features.truncated.tolist() == [False, True]
    assert np.diff(features.offsets).tolist() == [MAX_WORDS + 2] * 2


def test_a_dimension_below_one_is_refused():
    with pytest.raises(InvalidParameter, match="dimension is 0, allowed >= 1"):
        HashingEmbedder(dimension=0)


def test_a_chosen_dimension_is_kept():
    embedder = HashingEmbedder(dimension=5)
    assert embedder.encode(["one two", ""], token_layer=1).vectors.shape == (2, 5)
    assert embedder.fingerprint != EMBEDDER.fingerprint


def test_words_whose_features_cancel_out_still_have_a_direction():
    words = [f"word{i}" for i in range(200)]  # 6 to 8 signed features each, all in one place
    tokens: Any = HashingEmbedder(dimension=1).encode(words, token_layer=1).tokens
    assert np.abs(tokens).tolist() == [[1.0]] * 600


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=80), max_size=4))
def test_any_text_gives_unit_rows_and_spans_inside_it(texts):
    features = EMBEDDER.encode(texts, token_layer=1, spans=True)
    np.testing.assert_allclose(np.linalg.norm(features.vectors, axis=1), 1.0, atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(features.tokens, axis=1), 1.0, atol=1e-5)
    for i, text in enumerate(texts):
        one = features.one(i)
        inner = one.spans[~one.special]
        assert "".join(text[start:stop] for start, stop in inner) == "".join(text.split())
