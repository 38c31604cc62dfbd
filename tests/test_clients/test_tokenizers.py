import numpy as np
import pytest
import tiktoken
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer as RustTokenizer
from tokenizers import models, pre_tokenizers, processors

from kshot.clients.embedders.minilm import packaged_folder
from kshot.clients.tokenizers import TiktokenTokenizer, build_tokenizer
from kshot.errors import InvalidInput, InvalidParameter, Unavailable


@pytest.fixture
def tokenizer_file(tmp_path):
    """One token per known word, with everything switched on that must not count."""
    vocabulary = {"[UNK]": 0, "[CLS]": 1, "[SEP]": 2, "[PAD]": 3, "my": 4, "card": 5}
    tokenizer = RustTokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 1), ("[SEP]", 2)]
    )
    tokenizer.enable_truncation(4)
    tokenizer.enable_padding(length=128, pad_id=3, pad_token="[PAD]")
    path = tmp_path / "tokenizer.json"
    tokenizer.save(str(path))
    return path


@pytest.fixture
def encoding():
    """Single bytes, and one merge."""
    ranks = {bytes([i]): i for i in range(256)} | {b"ab": 256}
    return tiktoken.Encoding(
        "toy", pat_str=r"\S+|\s+", mergeable_ranks=ranks, special_tokens={"<|end|>": 257}
    )


def test_without_a_name_lengths_are_estimated():
    for name in (None, "estimate"):
        tokenizer = build_tokenizer(name)
        assert (tokenizer.name, tokenizer.exact) == ("estimate", False)
        assert tokenizer.count(["", "a", "x" * 7, "x" * 8]).tolist() == [0, 1, 2, 3]


def test_a_file_and_its_folder_are_the_same_tokenizer(tokenizer_file):
    for path in (tokenizer_file, tokenizer_file.parent):
        tokenizer = build_tokenizer(str(path))
        assert tokenizer.exact
        assert tokenizer.name == str(path)
        assert tokenizer.count(["my card", ""]).tolist() == [2, 0]


def test_markers_truncation_and_padding_of_the_file_do_not_count(tokenizer_file):
    counts = build_tokenizer(str(tokenizer_file)).count(["card " * 1000])
    assert counts.tolist() == [1000]
    assert counts.dtype == np.int64


def test_a_file_that_is_no_tokenizer_is_refused(tmp_path):
    path = tmp_path / "tokenizer.json"
    for content in (b"{}", b"nonsense", b"\xff"):
        path.write_bytes(content)
        with pytest.raises(InvalidParameter, match="cannot be read"):
            build_tokenizer(str(path))


def test_an_unknown_name_is_refused_with_the_allowed_forms(tmp_path):
    for name in ("gpt-4", "", str(tmp_path), str(tmp_path / "absent.json"), "x" * 5000, "a\0b"):
        with pytest.raises(InvalidParameter, match="allowed: 'estimate', a folder"):
            build_tokenizer(name)


def test_tiktoken_counts_its_own_tokens(encoding):
    tokenizer = TiktokenTokenizer(encoding)
    assert (tokenizer.name, tokenizer.exact) == ("tiktoken:toy", True)
    assert tokenizer.count(["ab", "ba", "", "abab c", "ü"]).tolist() == [1, 2, 0, 4, 2]


def test_text_that_looks_like_a_marker_counts_as_plain_text(encoding):
    assert TiktokenTokenizer(encoding).count(["<|end|>"]).tolist() == [7]


def test_an_unknown_encoding_is_refused_with_the_known_ones():
    with pytest.raises(InvalidParameter, match=r"tiktoken:nope is unknown; allowed: .*o200k_base"):
        build_tokenizer("tiktoken:nope")


def test_a_vocabulary_that_cannot_be_fetched_is_unavailable(monkeypatch, tmp_path):
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")  # nothing listens there
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", str(tmp_path))
    with pytest.raises(Unavailable, match="TIKTOKEN_CACHE_DIR"):
        build_tokenizer("tiktoken:gpt2")


def test_every_tokenizer_refuses_a_lone_surrogate(tokenizer_file, encoding):
    for tokenizer in (
        build_tokenizer(None),
        build_tokenizer(str(tokenizer_file)),
        TiktokenTokenizer(encoding),
    ):
        with pytest.raises(InvalidInput, match="lone surrogate"):
            tokenizer.count(["fine", "\udfff"])


def test_no_texts_have_no_counts(tokenizer_file, encoding):
    for tokenizer in (
        build_tokenizer(None),
        build_tokenizer(str(tokenizer_file)),
        TiktokenTokenizer(encoding),
    ):
        assert tokenizer.count([]).tolist() == []


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_the_estimate_is_the_least_whole_number_of_tokens_of_three_and_a_half_characters(text):
    count = int(build_tokenizer(None).count([text])[0])
    assert 3.5 * (count - 1) < len(text) <= 3.5 * count or (text == "" and count == 0)


@pytest.mark.component
def test_the_packaged_models_tokenizer_counts_word_pieces():
    tokenizer = build_tokenizer(str(packaged_folder()))
    assert tokenizer.count(["How do I reset my PIN?", "word " * 500]).tolist() == [7, 500]
