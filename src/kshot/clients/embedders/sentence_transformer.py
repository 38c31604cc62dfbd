"""Any local sentence-transformers model: exported once, then run without torch."""

import logging
import os
import subprocess
import sys
from collections.abc import Sequence
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from kshot.arrays import Float32s
from kshot.clients.embedders.base import TextFeatures, check_texts, check_token_layer
from kshot.clients.embedders.engines import Engine, OnnxEngine, run_windows, usable_cores
from kshot.clients.embedders.model_files import (
    GRAPH,
    TOKENIZER,
    ModelFacts,
    find_model,
    find_or_export,
    model_digest,
)
from kshot.clients.embedders.windows import Windows, WindowTokenizer
from kshot.errors import InvalidInput, InvalidParameter, MissingDependency

_EXPORT_TIMEOUT_S = 900
_logger = logging.getLogger(__name__)


class SentenceTransformerEmbedder:
    """A transformer encoder with its sentence-transformers pipeline; gives the token vectors of any layer.

    Build it with `open_model`. Texts longer than the model's window are read in up to
    `kshot.clients.embedders.windows.MAX_WINDOWS` consecutive windows: the sentence vector is the mean of the
    windows' vectors, weighted by their tokens and scaled to length 1; the token vectors stand one window
    after the other, each with its own markers. A text within one window has exactly the model's own vector.
    A model's default prompt is not applied: prefixes belong into the pool's embed template.

    Threads may share it: tokenizer and run-time hold no state between calls.
    """

    def __init__(
        self, *, engine: Engine, tokenizer: WindowTokenizer, facts: ModelFacts, fingerprint: str
    ) -> None:
        self._engine = engine
        self._tokenizer = tokenizer
        self._facts = facts
        self._fingerprint = fingerprint

    @property
    def fingerprint(self) -> str:
        """The model's name and the checksum of its files."""
        return self._fingerprint

    @property
    def dimension(self) -> int:
        """Length of a sentence vector."""
        return self._facts.dimension

    @property
    def token_layers(self) -> int:
        """Number of encoder layers; layer 0 is the embedding layer."""
        return self._facts.layers

    @property
    def default_token_layer(self) -> int:
        """Two thirds of the way up, such as the 4th of 6, where matching tokens selects best."""
        return round(self._facts.layers * 2 / 3)

    @property
    def runtime(self) -> str:
        """What computes: ``onnx``, or ``torch`` where the export failed."""
        return self._engine.name

    def encode(self, texts: Sequence[str], *, token_layer: int | None, spans: bool = False) -> TextFeatures:
        """Return the features of ``texts``; see `Embedder.encode`."""
        if token_layer is not None:
            (features,) = self._encode(texts, [token_layer], spans=spans)
            return features
        check_texts(texts)
        windows = self._tokenizer.windows(texts, spans=False)
        sentences, _ = run_windows(self._engine, windows, self._facts, [])
        return TextFeatures(_join(sentences, windows), windows.truncated)

    def encode_layers(self, texts: Sequence[str], layers: Sequence[int]) -> list[TextFeatures]:
        """Return the features of ``texts`` at several layers, by one pass; see `Embedder.encode_layers`."""
        return self._encode(texts, layers, spans=False)

    def close(self) -> None:
        """Free the model."""
        self._engine.close()

    def _encode(self, texts: Sequence[str], layers: Sequence[int], *, spans: bool) -> list[TextFeatures]:
        check_texts(texts)
        for layer in layers:
            check_token_layer(layer, self.token_layers)
        windows = self._tokenizer.windows(texts, spans=spans)
        sentences, states = run_windows(self._engine, windows, self._facts, layers)
        vectors = _join(sentences, windows)
        return [
            TextFeatures(
                vectors=vectors,
                truncated=windows.truncated,
                tokens=tokens,
                offsets=windows.offsets,
                token_ids=windows.token_ids,
                special=windows.special,
                spans=windows.spans,
            )
            for tokens in states
        ]


def _join(sentences: Float32s, windows: Windows) -> Float32s:
    n = len(windows.truncated)
    if len(sentences) == n:
        return sentences
    firsts = np.searchsorted(windows.texts, np.arange(n))
    content = np.add.reduceat((~windows.special).astype(np.float64), windows.starts[:-1])
    totals = np.add.reduceat(sentences * np.maximum(content, 1.0)[:, None], firsts, axis=0)
    norms = np.linalg.norm(totals, axis=1)[:, None]
    # Windows that cancel out leave no direction; the first one is as good as any.
    joined = np.where(norms > 1e-6, totals / np.maximum(norms, 1e-6), sentences[firsts])
    return joined.astype(np.float32)


def open_model(
    model: str, *, name: str | None = None, threads: int | None = None, cache: Path | None = None
) -> SentenceTransformerEmbedder:
    """Open a model by folder or hub name, exporting it first if this machine has not done so.

    Parameters
    ----------
    model : str
        A folder, or a name such as ``sentence-transformers/all-mpnet-base-v2``; see `find_model`.
    name : str or None
        What the fingerprint says; by default the folder's own name or the hub name.
    threads : int or None
        Threads per call, >= 1; None for every core that this process may use.
    cache : Path or None
        Root folder of exported models; None for `kshot.clients.embedders.model_files.cache_folder`.

    Raises
    ------
    InvalidParameter
        There is no such model, or ``threads`` is below 1.
    InvalidInput
        It is not a text encoder that kshot can run.
    MissingDependency
        A package of ``kshot[embedded]`` is absent.

    Notes
    -----
    The first opening takes several seconds and a process with torch. Where the export fails or is not
    faithful, a warning is logged and torch itself runs the model in this process: same vectors, slower.
    """
    if threads is not None and threads < 1:
        raise InvalidParameter(f"threads is {threads}, allowed >= 1")
    folder = find_model(model)
    digest = model_digest(folder)
    fingerprint = f"{name or Path(model).absolute().name}@{digest[:16]}"
    threads = threads or usable_cores()
    try:
        exported = find_or_export(digest, partial(_export_in_child, folder), cache=cache)
    except (OSError, subprocess.SubprocessError) as error:
        _logger.warning("model %s runs by torch, as it could not be exported: %s", fingerprint, error)
        return _open_by_torch(folder, threads, fingerprint)
    tokenizer = (exported.folder / TOKENIZER).read_text(encoding="utf-8")
    return SentenceTransformerEmbedder(
        engine=OnnxEngine(exported.folder / GRAPH, threads),
        tokenizer=WindowTokenizer(tokenizer, exported.facts.max_tokens),
        facts=exported.facts,
        fingerprint=fingerprint,
    )


def _require_torch() -> None:
    for package in ("torch", "sentence_transformers", "onnx"):
        if find_spec(package) is None:
            raise MissingDependency.of(package, extra="embedded", purpose="the first use of a local model")


def _export_in_child(folder: Path, target: Path) -> None:
    _require_torch()
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    # -P: a file of the working directory must not take the place of a package.
    command = [sys.executable, "-P", "-m", "kshot.clients.embedders.onnx_export", str(folder), str(target)]
    done = subprocess.run(  # noqa: S603  our own interpreter and module, no shell
        command, env=environment, capture_output=True, text=True, timeout=_EXPORT_TIMEOUT_S, check=False
    )
    if done.returncode != 0:
        last_line = (done.stderr.strip().splitlines() or ["no output"])[-1]
        raise subprocess.SubprocessError(f"exit code {done.returncode}: {last_line}")


def _open_by_torch(folder: Path, threads: int, fingerprint: str) -> SentenceTransformerEmbedder:
    _require_torch()
    from kshot.clients.embedders.onnx_export import UnfaithfulError, prove  # noqa: PLC0415  imports torch
    from kshot.clients.embedders.torch_pipeline import TorchEngine, load  # noqa: PLC0415  imports torch

    loaded = load(folder)
    engine = TorchEngine(loaded.pipeline, threads)
    try:
        prove(engine, loaded)
    except UnfaithfulError as error:
        raise InvalidInput(f"{folder} is not a text encoder that kshot can run: {error}") from error
    return SentenceTransformerEmbedder(
        engine=engine,
        tokenizer=WindowTokenizer(loaded.tokenizer_json, loaded.facts.max_tokens),
        facts=loaded.facts,
        fingerprint=fingerprint,
    )
