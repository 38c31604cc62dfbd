"""What every embedder that encodes must keep, run on each of them."""

import numpy as np
import pytest

from kshot.clients.embedders.base import Embedder
from kshot.clients.embedders.hashing import HashingEmbedder
from kshot.clients.embedders.openai_compatible import OpenAiCompatibleEmbedder
from kshot.errors import InvalidInput, InvalidParameter
from tests.test_clients.fake_endpoint import FakeEndpoint

TEXTS = [
    "How do I activate my card?",
    "",
    "   \n\t",
    "!?",
    "Zoë's naïve résumé: 日本語 and русский 🙂",
    "a",
    "the same words again and again " * 30,
    "How do I activate my card?",
    "\x00 control \x07 characters",
    "[CLS] [SEP] [PAD] [MASK] spelled out",
]


@pytest.fixture(
    params=["hashing", "openai", pytest.param("minilm", marks=pytest.mark.component)], scope="module"
)
def embedder(request):
    if request.param == "hashing":
        yield HashingEmbedder()
    elif request.param == "openai":
        endpoint = FakeEndpoint()
        subject = OpenAiCompatibleEmbedder(endpoint.base_url, "fake")
        yield subject
        subject.close()
        endpoint.close()
    else:
        yield request.getfixturevalue("minilm")


def layer_of(embedder: Embedder) -> int | None:
    return embedder.default_token_layer


def test_rows_are_finite_and_of_length_one(embedder):
    features = embedder.encode(TEXTS, token_layer=layer_of(embedder))
    assert features.vectors.dtype == np.float32
    assert features.vectors.shape == (len(TEXTS), embedder.dimension)
    np.testing.assert_allclose(np.linalg.norm(features.vectors, axis=1), 1.0, atol=1e-5)
    if features.tokens is not None:
        assert features.tokens.dtype == np.float32
        np.testing.assert_allclose(np.linalg.norm(features.tokens, axis=1), 1.0, atol=1e-5)


def test_a_text_has_the_same_features_alone_and_in_a_batch(embedder):
    together = embedder.encode(TEXTS, token_layer=layer_of(embedder), spans=True)
    for i, text in enumerate(TEXTS):
        alone, part = embedder.encode([text], token_layer=layer_of(embedder), spans=True), together.one(i)
        np.testing.assert_allclose(alone.vectors, part.vectors, atol=1e-5)
        assert alone.truncated.tolist() == part.truncated.tolist()
        if alone.tokens is not None:
            np.testing.assert_allclose(alone.tokens, part.tokens, atol=1e-5)
            np.testing.assert_array_equal(alone.token_ids, part.token_ids)
            np.testing.assert_array_equal(alone.special, part.special)
            np.testing.assert_array_equal(alone.spans, part.spans)


def test_a_second_call_gives_the_same_bits(embedder):
    first, second = (embedder.encode(TEXTS, token_layer=layer_of(embedder)) for _ in range(2))
    np.testing.assert_array_equal(first.vectors, second.vectors)
    if first.tokens is not None:
        np.testing.assert_array_equal(first.tokens, second.tokens)


def test_sentence_vectors_do_not_depend_on_the_token_layer(embedder):
    without = embedder.encode(TEXTS, token_layer=None)
    assert (without.tokens, without.offsets, without.token_ids, without.special) == (None,) * 4
    with_tokens = embedder.encode(TEXTS, token_layer=layer_of(embedder))
    np.testing.assert_allclose(without.vectors, with_tokens.vectors, atol=1e-6)


def test_different_texts_have_different_vectors(embedder):
    a, b = embedder.encode(["Where is my parcel?", "Bananas are yellow."], token_layer=None).vectors
    assert float(a @ b) < 0.9


def test_tokens_are_cut_and_marked_per_text(embedder):
    text = "Where is my parcel?"
    if embedder.token_layers is None:
        features = embedder.encode([text, "", "lorem ipsum " * 90_000], token_layer=None, spans=True)
        tokens = (features.tokens, features.offsets, features.token_ids, features.special, features.spans)
        assert tokens == (None,) * 5
        assert features.truncated.tolist() == [False, False, True]
        return
    features = embedder.encode([text, ""], token_layer=layer_of(embedder), spans=True)
    count = 7  # two markers, four words, one question mark
    assert features.offsets.tolist() == [0, count, count + 2]
    assert features.special.tolist() == [True, *[False] * 5, True, True, True]
    words = [text[start:stop] for start, stop in features.spans[1:6]]
    assert words == ["Where", "is", "my", "parcel", "?"]
    assert (features.token_ids >= 0).all()
    assert len(set(features.token_ids[1:6].tolist())) == 5


def test_every_layer_named_as_allowed_works_and_others_are_refused(embedder):
    if embedder.token_layers is None:
        with pytest.raises(InvalidParameter, match="no token vectors"):
            embedder.encode(["a"], token_layer=1)
        return
    for layer in range(embedder.token_layers + 1):
        assert embedder.encode(["a b"], token_layer=layer).tokens is not None
    for layer in (-1, embedder.token_layers + 1):
        with pytest.raises(InvalidParameter, match=f"token_layer is {layer}, allowed 0 to"):
            embedder.encode(["a"], token_layer=layer)


def test_several_layers_are_what_each_is_by_itself(embedder):
    if embedder.token_layers is None:
        with pytest.raises(InvalidParameter, match="no token vectors"):
            embedder.encode_layers(TEXTS, [1])
        return
    layers = [embedder.token_layers, 0]
    together = embedder.encode_layers(TEXTS, layers)
    assert len(together) == 2
    for layer, features in zip(layers, together, strict=True):
        alone = embedder.encode(TEXTS, token_layer=layer)
        np.testing.assert_allclose(features.tokens, alone.tokens, atol=1e-5)
        np.testing.assert_array_equal(features.special, alone.special)
        np.testing.assert_array_equal(features.offsets, alone.offsets)
    with pytest.raises(InvalidParameter, match="allowed 0 to"):
        embedder.encode_layers(TEXTS, [0, embedder.token_layers + 1])


def test_a_text_of_a_megabyte_is_cut_and_flagged(embedder):
    features = embedder.encode(["short", "lorem ipsum " * 90_000], token_layer=layer_of(embedder))
    assert features.truncated.tolist() == [False, True]
    assert np.isfinite(features.vectors).all()


def test_no_texts_give_no_rows(embedder):
    features = embedder.encode([], token_layer=layer_of(embedder))
    assert len(features) == 0
    if features.tokens is not None:
        assert features.offsets.tolist() == [0]
        assert len(features.tokens) == 0


def test_a_lone_surrogate_is_refused_and_located(embedder):
    with pytest.raises(InvalidInput, match="lone surrogate at character 3") as caught:
        embedder.encode(["fine", "bad\ud800"], token_layer=None)
    assert [error.pointer for error in caught.value.errors] == ["/1"]


def test_what_is_not_a_list_of_texts_is_refused(embedder):
    with pytest.raises(InvalidInput, match="is int, wanted str"):
        embedder.encode(["fine", 3], token_layer=None)
    with pytest.raises(InvalidInput, match="one str"):
        embedder.encode("fine", token_layer=None)


def test_the_fingerprint_is_stable(embedder):
    assert embedder.fingerprint
    assert embedder.fingerprint == embedder.fingerprint.strip()
