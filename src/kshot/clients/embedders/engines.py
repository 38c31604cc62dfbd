"""Run a model over windows of tokens: the engine contract, onnxruntime, and batching for any engine."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from kshot.arrays import Float32s, Int64s
from kshot.clients.embedders.model_files import ModelFacts
from kshot.clients.embedders.windows import Windows, batches
from kshot.errors import MissingDependency


class Engine(Protocol):
    """Computes one padded batch; any number of threads may share it."""

    @property
    def name(self) -> str:
        """What computes: ``onnx`` or ``torch``."""
        ...

    def run(
        self, input_ids: Int64s, attention_mask: Int64s, layers: Sequence[int]
    ) -> tuple[Float32s, list[Float32s]]:
        """Return sentence vectors (b, d) and, for each layer, token vectors (b, t, d_t); all of length 1.

        Parameters
        ----------
        input_ids, attention_mask : int64 array, shape (b, t)
            The mask is 1 for tokens and 0 for padding; token vectors of padding mean nothing.
        layers : sequence of int
        """
        ...

    def close(self) -> None:
        """Free the model; a second call does nothing."""
        ...


class OnnxEngine:
    """One onnxruntime session over an exported graph.

    Parameters
    ----------
    graph : Path
        Inputs ``input_ids`` and ``attention_mask``; outputs ``sentence`` and ``layer_0``, ``layer_1``, ...
    threads : int
        Threads that one call uses, the calling one included.

    Notes
    -----
    Only the outputs asked for are fetched. Worker threads do not spin while they wait: on an idle two-core
    machine spinning saves 0.3 ms of 3.8 ms per short text, on a busy one it doubles the time and starves the
    other work of the process.
    """

    name = "onnx"

    def __init__(self, graph: Path, threads: int) -> None:
        try:
            import onnxruntime  # noqa: PLC0415  an extra
        except ImportError as error:
            raise MissingDependency.of("onnxruntime", extra="embedded", purpose="a local embedder") from error
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.log_severity_level = 3
        self._session: Any = onnxruntime.InferenceSession(
            str(graph), options, providers=["CPUExecutionProvider"]
        )

    def run(
        self, input_ids: Int64s, attention_mask: Int64s, layers: Sequence[int]
    ) -> tuple[Float32s, list[Float32s]]:
        """See `Engine.run`."""
        session = self._session
        if session is None:
            raise RuntimeError("the embedder is closed")
        outputs = ["sentence", *(f"layer_{layer}" for layer in layers)]
        sentence, *tokens = session.run(outputs, {"input_ids": input_ids, "attention_mask": attention_mask})
        return sentence, tokens

    def close(self) -> None:
        """See `Engine.close`."""
        self._session = None


def run_windows(
    engine: Engine, windows: Windows, facts: ModelFacts, layers: Sequence[int]
) -> tuple[Float32s, list[Float32s]]:
    """Run all windows in batches of similar length and put the results back into order.

    Returns
    -------
    sentences : float32 array, shape (w, d)
        One unit row per window.
    tokens : list of float32 arrays, shape (t, d_t)
        For each layer, one unit row per token of ``windows.token_ids``.
    """
    lengths = np.diff(windows.starts)
    sentences = np.empty((len(lengths), facts.dimension), dtype=np.float32)
    tokens = [np.empty((len(windows.token_ids), facts.token_dimension), dtype=np.float32) for _ in layers]
    for batch in batches(lengths):
        longest = int(lengths[batch].max())
        mask = np.arange(longest) < lengths[batch][:, None]
        positions = (windows.starts[batch][:, None] + np.arange(longest))[mask]
        ids = np.full(mask.shape, facts.pad_id, dtype=np.int64)
        ids[mask] = windows.token_ids[positions]
        sentences[batch], states = engine.run(ids, mask.astype(np.int64), layers)
        for target, state in zip(tokens, states, strict=True):
            target[positions] = state[mask]
    return sentences, tokens


def usable_cores() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
