"""Local models against sentence-transformers itself."""

import json
import os
import shutil
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

from kshot.clients.embedders.factory import build_embedder
from kshot.clients.embedders.minilm import open_minilm, packaged_folder
from kshot.clients.embedders.online import OnlineEncoder
from kshot.clients.embedders.sentence_transformer import open_model
from kshot.errors import InvalidInput, InvalidParameter
from kshot.schemas.pools import MiniLm, SentenceTransformers

pytestmark = pytest.mark.component

LEAST_COSINE = 0.9999
PROSE = (
    "the parcel was left at my neighbour's door although I stayed home all day; who pays for a lost card, "
    "and when does a transfer of 20.50 euros to Zürich arrive? "
)
WORDS = PROSE.split()
TEXTS = [
    "",
    "a",
    "?",
    "UPPER CASE AND lower case",
    "naïve façade, Ångström, 日本語のテキスト, Ελληνικά, русский текст, العربية, 🙂🚀",
    "def f(x):\n\treturn x ** 2  # squared",
    '{"name": "Ada", "age": 36}',
    "http://example.com/a?b=c&d=e",
    "[CLS] [MASK] [SEP]",
    "x" * 200,
    *(" ".join(WORDS[i % 7 : i % 7 + i]) for i in range(2, 22)),
    " ".join(WORDS * 3),
    " ".join(WORDS * 4),
    " ".join(WORDS * 5),
]


@pytest.fixture(scope="module", autouse=True)
def _quiet_and_offline():
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HF_HUB_OFFLINE", "1")
        patch.setenv("TRANSFORMERS_VERBOSITY", "error")
        yield


def load_reference(folder):
    return pytest.importorskip("sentence_transformers").SentenceTransformer(str(folder), device="cpu").eval()


@pytest.fixture(scope="module")
def reference():
    return load_reference(packaged_folder())


def reference_sentences(model, texts):
    return model.encode(texts, normalize_embeddings=True, show_progress_bar=False)


def reference_states(model, text):
    """Every layer's hidden states of one text, straight from the transformer; (layers + 1, t, d)."""
    torch = pytest.importorskip("torch")
    inputs = model.tokenizer([text], truncation=True, max_length=model.max_seq_length, return_tensors="pt")
    with torch.inference_mode():
        output = model[0].auto_model(
            input_ids=inputs["input_ids"],
            attention_mask=inputs["attention_mask"],
            output_hidden_states=True,
            return_dict=True,
        )
    return np.stack([state[0].numpy() for state in output.hidden_states])


def cosines(a, b):
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    return (a * b).sum(-1) / (np.linalg.norm(a, axis=-1) * np.linalg.norm(b, axis=-1))


def assert_same_as(reference, embedder):
    assert len(TEXTS) >= 30
    sentences = embedder.encode(TEXTS, token_layer=None)
    assert not sentences.truncated.any()
    assert cosines(sentences.vectors, reference_sentences(reference, TEXTS)).min() >= LEAST_COSINE
    states = [reference_states(reference, text) for text in TEXTS]
    for layer in range(embedder.token_layers + 1):
        features = embedder.encode(TEXTS, token_layer=layer)
        for i in range(len(TEXTS)):
            tokens = features.tokens[features.offsets[i] : features.offsets[i + 1]]
            assert tokens.shape == states[i][layer].shape
            assert cosines(tokens, states[i][layer]).min() >= LEAST_COSINE


def test_minilm_gives_the_vectors_of_sentence_transformers_at_every_layer(minilm, reference):
    assert (minilm.dimension, minilm.token_layers, minilm.default_token_layer) == (384, 6, 4)
    assert_same_as(reference, minilm)


def test_minilm_reads_a_long_text_in_windows_weighted_by_their_tokens(minilm, reference):
    text = " ".join(f"item {i} of the list" for i in range(70))  # 5 tokens to an item
    features = minilm.encode([text, "short"], token_layer=4, spans=True)
    assert features.truncated.tolist() == [False, False]
    spans, special = features.one(0).spans, features.one(0).special
    assert np.flatnonzero(special).tolist() == [0, 255, 256, 353]
    windows = [text[spans[1, 0] : spans[254, 1]], text[spans[257, 0] : spans[352, 1]]]
    assert " ".join(windows) == text
    first, second = reference_sentences(reference, windows).astype(np.float64)
    assert cosines(features.vectors[0], 254 * first + 96 * second) >= LEAST_COSINE
    assert cosines(features.vectors[0], first) < LEAST_COSINE


def test_minilms_special_tokens_are_the_markers(minilm):
    features = minilm.encode(["where is it"], token_layer=4)
    assert features.token_ids[[0, -1]].tolist() == [101, 102]
    assert features.special.tolist() == [True, False, False, False, True]


async def test_minilm_serves_queries_online(minilm):
    encoder = OnlineEncoder(minilm)
    one: Any = await encoder.encode_one("Where is my parcel?", 4)
    wanted: Any = minilm.encode(["Where is my parcel?"], token_layer=4)
    np.testing.assert_allclose(one.tokens, wanted.tokens, atol=1e-5)
    await encoder.close()


def test_a_cached_model_starts_without_torch(minilm, model_cache):
    code = (
        "import sys, json\n"
        "from kshot.clients.embedders.factory import build_embedder\n"
        "from kshot.schemas.pools import MiniLm\n"
        "e = build_embedder(MiniLm())\n"
        "v = e.encode(['Where is my parcel?'], token_layer=4).vectors\n"
        "heavy = ['torch', 'sentence_transformers', 'transformers', 'onnx', 'huggingface_hub', 'scipy']\n"
        "heavy = [m for m in heavy if m in sys.modules]\n"
        "print(json.dumps([e.fingerprint, e.runtime, v[0, :3].tolist(), heavy]))"
    )
    environment = os.environ | {"KSHOT_CACHE": str(model_cache), "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    fingerprint, runtime, start, heavy = json.loads(done.stdout)
    assert (fingerprint, runtime, heavy) == (minilm.fingerprint, "onnx", [])
    wanted = minilm.encode(["Where is my parcel?"], token_layer=None).vectors[0, :3]
    np.testing.assert_allclose(start, wanted, atol=1e-5)


def test_threads_do_not_change_the_vectors(minilm, model_cache):
    single = open_minilm(threads=1, cache=model_cache)
    np.testing.assert_allclose(
        single.encode(TEXTS, token_layer=None).vectors,
        minilm.encode(TEXTS, token_layer=None).vectors,
        atol=1e-5,
    )
    single.close()
    single.close()
    with pytest.raises(RuntimeError, match="closed"):
        single.encode(["late"], token_layer=None)


def test_a_flipped_bit_in_the_weights_is_refused(tmp_path):
    folder = tmp_path / "model"
    shutil.copytree(packaged_folder(), folder)
    with (folder / "model.safetensors").open("r+b") as file:
        file.seek(50_000_000)
        byte = file.read(1)[0]
        file.seek(50_000_000)
        file.write(bytes([byte ^ 1]))
    with pytest.raises(InvalidInput, match="SHA-256"):
        open_minilm(folder=folder, cache=tmp_path / "cache")


def tiny_model(folder, architecture, *, pooling):
    """A random two-layer model with a dense head; Roberta counts positions from the padding id."""
    transformers = pytest.importorskip("transformers")
    sentence_transformers = pytest.importorskip("sentence_transformers")
    modules = pytest.importorskip("sentence_transformers.sentence_transformer.modules")
    pytest.importorskip("torch").manual_seed(7)
    vocabulary = {"[PAD]": 0, "[UNK]": 1, "[CLS]": 2, "[SEP]": 3}
    vocabulary |= {chr(c): len(vocabulary) + i for i, c in enumerate(range(33, 127))}
    vocabulary |= {f"##{chr(c)}": len(vocabulary) + i for i, c in enumerate(range(33, 127))}
    rust = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    rust.normalizer, rust.pre_tokenizer = normalizers.BertNormalizer(), pre_tokenizers.BertPreTokenizer()
    rust.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_object=rust, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]"
    )
    sizes = {
        "vocab_size": len(vocabulary),
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "intermediate_size": 64,
        "max_position_embeddings": 1100,
        "pad_token_id": 0,
    }
    transformer = folder / "transformer"
    config = getattr(transformers, f"{architecture}Config")(**sizes)
    getattr(transformers, f"{architecture}Model")(config).save_pretrained(transformer)
    tokenizer.save_pretrained(transformer)
    body = modules.Transformer(str(transformer), max_seq_length=1024)
    model = sentence_transformers.SentenceTransformer(
        modules=[body, modules.Pooling(32, pooling_mode=pooling), modules.Dense(32, 12)], device="cpu"
    )
    model.save(str(folder / "saved"))
    return folder / "saved"


@pytest.fixture(scope="module", params=[("Bert", "cls"), ("Roberta", "mean")], ids="-".join)
def tiny(request, tmp_path_factory):
    architecture, pooling = request.param
    return tiny_model(tmp_path_factory.mktemp("tiny"), architecture, pooling=pooling)


def test_any_sentence_transformers_model_is_exported_with_its_head(tiny, tmp_path):
    embedder: Any = build_embedder(
        SentenceTransformers(type="sentence-transformers", model=str(tiny)), cache=tmp_path
    )
    assert embedder.runtime == "onnx"
    assert embedder.fingerprint.startswith("saved@")
    assert (embedder.dimension, embedder.token_layers, embedder.default_token_layer) == (12, 2, 1)
    assert embedder.encode(["a"], token_layer=1).tokens.shape == (3, 32)
    assert_same_as(load_reference(tiny), embedder)
    embedder.close()


def test_where_nothing_can_be_cached_torch_runs_the_model(tiny, tmp_path, caplog):
    not_a_folder = tmp_path / "file"
    not_a_folder.write_text("")
    embedder = open_model(str(tiny), cache=not_a_folder)
    assert embedder.runtime == "torch"
    assert "runs by torch" in caplog.text
    assert_same_as(load_reference(tiny), embedder)
    embedder.close()
    with pytest.raises(RuntimeError, match="closed"):
        embedder.encode(["late"], token_layer=None)


def test_a_folder_that_holds_no_encoder_is_refused(tmp_path):
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(InvalidInput, match="not a usable sentence-transformers text model"):
        open_model(str(folder), cache=tmp_path / "cache")


def test_a_name_that_the_hub_cache_does_not_hold_is_refused(monkeypatch, tmp_path):
    with pytest.raises(
        InvalidParameter, match="'no-such-model-4711' is neither an existing folder nor a model"
    ):
        open_model("no-such-model-4711", cache=tmp_path)


def test_the_default_settings_build_the_packaged_model(monkeypatch, model_cache, minilm):
    monkeypatch.setenv("KSHOT_CACHE", str(model_cache))
    embedder = build_embedder(MiniLm(), threads=1)
    assert embedder.fingerprint == minilm.fingerprint
    embedder.close()
