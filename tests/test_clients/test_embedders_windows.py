import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, pre_tokenizers, processors

from kshot.clients.embedders.engines import run_windows
from kshot.clients.embedders.model_files import ModelFacts
from kshot.clients.embedders.sentence_transformer import SentenceTransformerEmbedder
from kshot.clients.embedders.windows import (
    MAX_ADDED_PADDING,
    MAX_PADDED_TOKENS,
    MAX_WINDOWS,
    WindowTokenizer,
    batches,
)
from kshot.errors import InvalidInput

START, STOP, PAD = 1, 2, 3
FACTS = ModelFacts(dimension=2, token_dimension=3, layers=1, max_tokens=5, pad_id=PAD)


def serialised():
    """Words w0, w1, ... have the ids 10, 11, ...; the file's own truncation and padding must not matter."""
    vocabulary = {"[UNK]": 0, "[CLS]": START, "[SEP]": STOP, "[PAD]": PAD} | {
        f"w{i}": 10 + i for i in range(50)
    }
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", START), ("[SEP]", STOP)]
    )
    tokenizer.enable_truncation(4, direction="left")
    tokenizer.enable_padding(length=64, pad_id=PAD, pad_token="[PAD]")
    return tokenizer.to_str()


class CountingEngine:
    """A model whose answer is known: the sentence points to (tokens, last id), a token to (1, id, layer)."""

    name = "counting"

    def __init__(self):
        self.shapes = []

    def run(self, input_ids, attention_mask, layers):
        assert input_ids.dtype == attention_mask.dtype == np.int64
        assert (input_ids[attention_mask == 0] == PAD).all()
        assert (np.diff(attention_mask, axis=1) <= 0).all()
        self.shapes.append(input_ids.shape)
        last = np.where(attention_mask == 1, input_ids, 0).max(axis=1)
        sentence = unit(np.stack([attention_mask.sum(axis=1), last], axis=1))
        ones = np.ones_like(input_ids)
        return sentence, [unit(np.stack([ones, input_ids, ones * layer], axis=2)) for layer in layers]

    def close(self):
        pass


def unit(values):
    values = values.astype(np.float64)
    return (values / np.linalg.norm(values, axis=-1, keepdims=True)).astype(np.float32)


@pytest.fixture
def tokenizer():
    return WindowTokenizer(serialised(), max_tokens=5)


@pytest.fixture
def embedder(tokenizer):
    return SentenceTransformerEmbedder(
        engine=CountingEngine(), tokenizer=tokenizer, facts=FACTS, fingerprint="counting@0"
    )


def words(first, stop):
    return " ".join(f"w{i}" for i in range(first, stop))


def test_a_text_within_the_window_is_one_window(tokenizer):
    windows = tokenizer.windows([words(0, 3), ""], spans=True)
    assert windows.token_ids.tolist() == [START, 10, 11, 12, STOP, START, STOP]
    assert windows.special.tolist() == [True, False, False, False, True, True, True]
    assert windows.spans.tolist() == [[0, 0], [0, 2], [3, 5], [6, 8], [0, 0], [0, 0], [0, 0]]
    assert windows.starts.tolist() == [0, 5, 7]
    assert windows.texts.tolist() == [0, 1]
    assert windows.offsets.tolist() == [0, 5, 7]
    assert windows.truncated.tolist() == [False, False]


def test_a_longer_text_continues_in_the_next_window(tokenizer):
    windows = tokenizer.windows(["w9", words(0, 7), "w9"], spans=True)
    assert windows.texts.tolist() == [0, 1, 1, 1, 2]
    assert windows.starts.tolist() == [0, 3, 8, 13, 16, 19]
    assert windows.token_ids[3:16].tolist() == [
        *(START, 10, 11, 12, STOP),
        *(START, 13, 14, 15, STOP),
        *(START, 16, STOP),
    ]
    assert windows.offsets.tolist() == [0, 3, 16, 19]
    # Spans count from the start of the text, not of the window.
    assert windows.spans[14].tolist() == [18, 20]
    assert not windows.truncated.any()


def test_windows_beyond_the_last_are_cut_and_flagged(tokenizer):
    full = MAX_WINDOWS * 3
    windows = tokenizer.windows([words(0, full), words(0, full + 1)])
    assert windows.truncated.tolist() == [False, True]
    assert windows.texts.tolist() == [0] * MAX_WINDOWS + [1] * MAX_WINDOWS
    assert windows.spans is None
    words_read = windows.token_ids[~windows.special].tolist()
    assert words_read == [10 + i for i in range(full)] * 2


def test_a_text_of_too_many_characters_is_cut_and_flagged(tokenizer):
    limit = MAX_WINDOWS * 5 * 32
    windows = tokenizer.windows(["w1" + " " * (limit - 2), "w1" + " " * (limit - 1) + "w2"])
    assert windows.truncated.tolist() == [False, True]
    assert windows.token_ids.tolist() == [START, 11, STOP] * 2


@given(st.lists(st.integers(1, 600), max_size=60))
def test_batches_cover_every_window_once_within_the_budget(lengths):
    array = np.array(lengths, dtype=np.int64)
    groups = list(batches(array))
    assert sorted(int(i) for group in groups for i in group) == list(range(len(lengths)))
    for group in groups:
        assert len(group) == 1 or array[group].max() * len(group) <= MAX_PADDED_TOKENS
        assert (np.diff(np.sort(array[group])) * np.arange(1, len(group)) <= MAX_ADDED_PADDING).all()
    longest = [array[group].max() for group in groups]
    assert longest == sorted(longest)


def test_short_windows_are_not_padded_to_the_length_of_long_ones():
    groups = list(batches(np.array([3, 200, 3, 4, 3])))
    assert [group.tolist() for group in groups] == [[0, 2, 4, 3], [1]]


@given(st.lists(st.integers(0, 12), min_size=1, max_size=80), st.sampled_from([[], [0], [1, 0]]))
def test_results_stand_where_their_windows_stand(counts, layers):
    engine = CountingEngine()
    windows = WindowTokenizer(serialised(), 5).windows(
        [words(i % 40, i % 40 + c) for i, c in enumerate(counts)]
    )
    sentences, tokens = run_windows(engine, windows, FACTS, layers)
    for w in range(len(windows.texts)):
        ids = windows.token_ids[windows.starts[w] : windows.starts[w + 1]]
        np.testing.assert_allclose(sentences[w], unit(np.array([len(ids), ids.max()])), atol=1e-6)
    assert len(tokens) == len(layers)
    ones = np.ones(len(windows.token_ids))
    for layer, states in zip(layers, tokens, strict=True):
        np.testing.assert_allclose(
            states, unit(np.stack([ones, windows.token_ids, ones * layer], 1)), atol=1e-6
        )


def test_a_text_of_several_windows_has_their_mean_weighted_by_tokens(embedder):
    features = embedder.encode(["w0", words(0, 4), ""], token_layer=1)
    # w0..w2 in a window of 5 tokens with 3 words, w3 in one of 3 tokens with 1 word.
    mean = 3 * unit(np.array([5, 12])).astype(np.float64) + 1 * unit(np.array([3, 13])).astype(np.float64)
    np.testing.assert_allclose(features.vectors[1], mean / np.linalg.norm(mean), atol=1e-6)
    np.testing.assert_allclose(features.vectors[0], unit(np.array([3, 10])), atol=1e-6)
    np.testing.assert_allclose(features.vectors[2], unit(np.array([2, 2])), atol=1e-6)
    assert features.offsets.tolist() == [0, 3, 11, 13]
    assert features.truncated.tolist() == [False] * 3


def test_windows_that_cancel_out_leave_the_first_one(embedder):
    class Opposites(CountingEngine):
        def run(self, input_ids, attention_mask, layers):
            return np.where(input_ids[:, 1:2] == 10, 1.0, -1.0).astype(np.float32) * np.eye(2)[:1], []

    opposites = SentenceTransformerEmbedder(
        engine=Opposites(), tokenizer=WindowTokenizer(serialised(), 3), facts=FACTS, fingerprint="opposites@0"
    )
    assert opposites.encode(["w0 w1"], token_layer=None).vectors.tolist() == [[1.0, 0.0]]


def test_the_embedder_describes_its_model(embedder):
    described = (
        embedder.fingerprint,
        embedder.dimension,
        embedder.token_layers,
        embedder.default_token_layer,
    )
    assert described == ("counting@0", 2, 1, 1)
    assert embedder.runtime == "counting"


def test_a_surrogate_is_refused_before_the_tokenizer_sees_it(embedder):
    with pytest.raises(InvalidInput, match="text 0 has a lone surrogate"):
        embedder.encode(["\ud800"], token_layer=None)


def test_the_file_of_the_fixture_has_truncation_and_padding_that_are_ignored():
    content = json.loads(serialised())
    assert content["truncation"]["max_length"] == 4
    assert content["padding"]["strategy"] == {"Fixed": 64}
