"""Export a sentence-transformers model to an ONNX graph, and prove that the graph computes the same.

Imports torch. It runs as a process of its own (``python -m kshot.clients.embedders.onnx_export MODEL_FOLDER
EMPTY_FOLDER``), so that a server never holds torch in memory.
"""

import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike

from kshot.clients.embedders.engines import Engine, OnnxEngine, run_windows, usable_cores
from kshot.clients.embedders.model_files import GRAPH, TOKENIZER, write_export
from kshot.clients.embedders.torch_pipeline import LoadedModel, load
from kshot.clients.embedders.windows import WindowTokenizer

LOWEST_COSINE = 0.9999
"""Between an engine's vectors and sentence-transformers': every sentence, every token, every layer."""
_OPSET = 17
_SENTENCE = "The courier left my parcel (No. 4711) at the neighbour's, although I was at home until 18:30. "
PROBES = (
    "",
    "a",
    "Is it open?",
    "WHY was my card declined at the supermarket?",
    "Zoë's naïve résumé — 20 % off, 日本語のテキスト, Ελληνικά, русский, 🙂",
    "def area(r: float) -> float:\n\treturn 3.14159 * r ** 2",
    "x" * 300,
    _SENTENCE,
    _SENTENCE * 4,
    _SENTENCE * 24,
)


class UnfaithfulError(Exception):
    """An engine's vectors differ from those of sentence-transformers."""


def export(folder: Path, target: Path) -> None:
    """Write graph, tokenizer and facts of the model in ``folder`` to the empty folder ``target``.

    Raises
    ------
    UnfaithfulError
        See `prove`.
    InvalidInput
        The folder holds no model that can be loaded.
    """
    model = load(folder)
    inputs = ["input_ids", "attention_mask"]
    layers = [f"layer_{i}" for i in range(model.facts.layers + 1)]
    # Two rows of different length, so that padding is part of what is traced.
    ids = torch.full((2, 5), 7, dtype=torch.long)
    mask = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]])
    rows, tokens = {0: "b"}, {0: "b", 1: "t"}
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter(
            "ignore"
        )  # tracing warns that it may not generalise: `prove` shows that it does
        torch.onnx.export(
            model.pipeline,
            (ids, mask),
            str(target / GRAPH),
            input_names=inputs,
            output_names=["sentence", *layers],
            dynamic_axes={"sentence": rows, **dict.fromkeys([*inputs, *layers], tokens)},
            opset_version=_OPSET,
            dynamo=False,
        )
    (target / TOKENIZER).write_text(model.tokenizer_json, encoding="utf-8")
    lowest = prove(OnnxEngine(target / GRAPH, usable_cores()), model)
    write_export(target, model.facts, {"lowest_cosine": lowest, "torch": str(torch.__version__)})


def prove(engine: Engine, model: LoadedModel) -> float:
    """Compare an engine with sentence-transformers on `PROBES`: sentence vectors and tokens of every layer.

    The engine reads padded batches as it does in service, the reference reads tokens text by text.

    Returns
    -------
    float
        The lowest cosine found.

    Raises
    ------
    UnfaithfulError
        It is below `LOWEST_COSINE`.
    """
    windows = WindowTokenizer(model.tokenizer_json, model.facts.max_tokens).windows(PROBES)
    # sentence-transformers reads the first window of a text and drops the rest.
    firsts = np.searchsorted(windows.texts, np.arange(len(PROBES)))
    wanted = model.transformer.encode(list(PROBES), normalize_embeddings=True, show_progress_bar=False)
    sentences, _ = run_windows(engine, windows, model.facts, [])
    lowest = _lowest_cosine(sentences[firsts], wanted)
    slices = [slice(*windows.starts[first : first + 2]) for first in firsts]
    references = [_states(model, windows.token_ids[own]) for own in slices]
    for layer in range(model.facts.layers + 1):
        _, (tokens,) = run_windows(engine, windows, model.facts, [layer])
        for own, states in zip(slices, references, strict=True):
            lowest = min(lowest, _lowest_cosine(tokens[own], states[layer]))
    if not lowest >= LOWEST_COSINE:  # also refuses NaN
        raise UnfaithfulError(
            f"{engine.name} gives vectors at cosine {lowest:.6f} to sentence-transformers', "
            f"allowed >= {LOWEST_COSINE}"
        )
    return lowest


def _states(model: LoadedModel, token_ids: ArrayLike) -> list[Any]:
    ids = torch.from_numpy(np.asarray(token_ids, dtype=np.int64))[None]
    with torch.inference_mode():
        _, *states = model.pipeline(ids, torch.ones_like(ids))
    return [state[0].numpy() for state in states]


def _lowest_cosine(left: ArrayLike, right: ArrayLike) -> float:
    a, b = np.asarray(left, dtype=np.float64), np.asarray(right, dtype=np.float64)
    cosines = (a * b).sum(axis=1) / (np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1))
    return float(cosines.min())


if __name__ == "__main__":
    export(Path(sys.argv[1]), Path(sys.argv[2]))
