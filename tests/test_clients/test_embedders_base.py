from typing import Any

import numpy as np
import pytest

from kshot.clients.embedders.base import TextFeatures
from kshot.clients.embedders.external import ExternalEmbedder
from kshot.clients.embedders.factory import build_embedder
from kshot.clients.embedders.hashing import HashingEmbedder
from kshot.clients.embedders.openai_compatible import OpenAiCompatibleEmbedder
from kshot.errors import InvalidInput, InvalidParameter, InvalidShape
from kshot.schemas.pools import External, Hashing, OpenAiCompatible, SentenceTransformers

VECTORS = np.eye(2, dtype=np.float32)
WHOLE = np.zeros(2, dtype=np.bool_)
TOKENS = np.eye(3, dtype=np.float32)
IDS = np.arange(3, dtype=np.int32)
SPECIAL = np.zeros(3, dtype=np.bool_)


def offsets(*values):
    return np.array(values, dtype=np.int64)


def test_one_text_is_copied_out_of_its_batch():
    spans = np.array([[0, 1], [2, 3], [4, 5]], dtype=np.int32)
    features = TextFeatures(VECTORS, np.array([False, True]), TOKENS, offsets(0, 1, 3), IDS, SPECIAL, spans)
    one: Any = features.one(1)
    assert len(one) == 1
    assert one.vectors.tolist() == [[0.0, 1.0]]
    assert one.truncated.tolist() == [True]
    assert one.tokens.tolist() == TOKENS[1:].tolist()
    assert one.offsets.tolist() == [0, 2]
    assert one.token_ids.tolist() == [1, 2]
    assert one.spans.tolist() == [[2, 3], [4, 5]]
    assert not any(np.shares_memory(a, b) for a, b in ((one.vectors, VECTORS), (one.tokens, TOKENS)))


def test_size_counts_every_array():
    features = TextFeatures(VECTORS, WHOLE, TOKENS, offsets(0, 1, 3), IDS, SPECIAL)
    assert features.nbytes == 16 + 2 + 36 + 24 + 12 + 3


def test_frozen_arrays_refuse_writing():
    features = TextFeatures(VECTORS.copy(), WHOLE.copy())
    features.freeze()
    with pytest.raises(ValueError, match="read-only"):
        features.vectors[0, 0] = 2.0


@pytest.mark.parametrize("cuts", [(0, 0, 3), (1, 2, 3), (0, 1, 2), (0, 3, 1), (0, 3)])
def test_offsets_that_do_not_cut_the_tokens_are_refused(cuts):
    with pytest.raises(InvalidShape, match="offsets"):
        TextFeatures(VECTORS, WHOLE, TOKENS, offsets(*cuts), IDS, SPECIAL)


def test_parts_that_disagree_are_refused():
    with pytest.raises(InvalidShape, match="together"):
        TextFeatures(VECTORS, WHOLE, TOKENS)
    with pytest.raises(InvalidShape, match="token_ids"):
        TextFeatures(VECTORS, WHOLE, TOKENS, offsets(0, 1, 3), IDS[:2], SPECIAL)
    with pytest.raises(InvalidShape, match="truncated"):
        TextFeatures(VECTORS, WHOLE[:1])
    with pytest.raises(InvalidShape, match="nan"):
        TextFeatures(VECTORS * np.float32(np.nan), WHOLE)


def test_the_external_embedder_says_what_to_pass_instead():
    embedder = ExternalEmbedder(1024)
    assert (embedder.dimension, embedder.token_layers, embedder.default_token_layer) == (1024, None, None)
    with pytest.raises(InvalidInput, match=r"pass `vector` \(1024 numbers\)"):
        embedder.encode(["a"], token_layer=None)
    embedder.close()


def test_external_pools_of_other_dimensions_do_not_compare():
    assert ExternalEmbedder(3).fingerprint != ExternalEmbedder(4).fingerprint


def test_settings_build_their_embedder(monkeypatch):
    monkeypatch.setenv("KSHOT_EMBEDDER_KEY_SOME", "secret")
    assert isinstance(build_embedder(Hashing(type="hashing")), HashingEmbedder)
    assert build_embedder(External(type="external", dimension=7)).dimension == 7
    remote = build_embedder(
        OpenAiCompatible(
            type="openai",
            model="m",
            base_url="http://host/v1",
            dimensions=5,
            api_key_env="KSHOT_EMBEDDER_KEY_SOME",
        )
    )
    assert isinstance(remote, OpenAiCompatibleEmbedder)
    assert remote.dimension == 5
    remote.close()


def test_a_key_variable_that_is_not_set_is_named(monkeypatch):
    monkeypatch.delenv("KSHOT_EMBEDDER_KEY_SOME", raising=False)
    spec = OpenAiCompatible(
        type="openai", model="m", base_url="http://host/v1", api_key_env="KSHOT_EMBEDDER_KEY_SOME"
    )
    with pytest.raises(InvalidParameter, match=r"KSHOT_EMBEDDER_KEY_SOME.* is not set"):
        build_embedder(spec)


@pytest.mark.parametrize("model", ["/no/such/folder", "no such model", "a/b/c"])
def test_a_model_that_is_neither_folder_nor_name_is_refused(model):
    with pytest.raises(InvalidParameter, match="neither an existing folder nor a name"):
        build_embedder(SentenceTransformers(type="sentence-transformers", model=model))
