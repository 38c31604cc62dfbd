"""Likelihoods from a language model in this process, where no server gives them."""

import asyncio
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

import numpy as np

from kshot.arrays import Float64s
from kshot.clients.embedders.model_files import model_digest
from kshot.clients.scorers.base import (
    Capabilities,
    Generated,
    NotScored,
    Pair,
    Scored,
    ScoringMode,
    ScoringOptions,
    Text,
    Tokens,
)
from kshot.clients.scorers.boundary import Fed
from kshot.clients.scorers.local_feeding import Feeding
from kshot.clients.scorers.rows import Row, group_rows, pack, plan_rows
from kshot.clients.scorers.special_tokens import learn_special_tokens
from kshot.clients.scorers.token_scores import TokenScores
from kshot.clients.scorers.tokenization import run_locally
from kshot.errors import (
    InvalidParameter,
    KshotError,
    MissingDependency,
    ScorerUnavailable,
)

if TYPE_CHECKING:
    from kshot.clients.scorers.causal_model import CausalModel, Dtype, Step

P = ParamSpec("P")
T = TypeVar("T")
_DEFAULTS = ScoringOptions()
_MODES = (ScoringMode.ECHO, ScoringMode.LABEL)
_BATCH_TOKENS = 2048
_CACHE_TOKENS = 8192
"""Tokens whose attention keys and values are held at once: 2 GB of a model of eight billion parameters."""
_BATCH_ROWS = 64
_REASON_CHARACTERS = 200
_TOLERANCE_NATS = {"float32": 1e-4, "bfloat16": 0.05}


@dataclass(frozen=True, slots=True)
class _Loaded:
    model: "CausalModel"
    feeding: Feeding
    capabilities: Capabilities


class TransformersScorer:
    """A `Scorer` over transformers on the CPU.

    The model is loaded when it is first needed. One worker thread runs it; concurrent calls take turns, batch
    by batch, and a call that is cancelled computes no further batch. What contexts share in front is computed
    once, and so is whatever is asked for twice in a batch.

    Deterministic: the same batch has the same scores to the last bit, in any order. Other company in it
    changes scores by rounding, see `Capabilities.tolerance_nats`.

    Parameters
    ----------
    model : str
        A folder, or a name on the Hugging Face hub, which is looked up in the local cache and downloaded if
        need be; ``HF_HUB_OFFLINE=1`` forbids that.
    dtype : str
        ``float32``, or ``bfloat16`` for half the memory.
    end : str or None
        The marker that ends an answer (``terminator="eot"``); None for the tokenizer's own.
    max_model_tokens : int or None
        To stay below what the model says of itself.

    Raises
    ------
    InvalidParameter
        ``dtype`` is unknown.
    MissingDependency
        A package of ``kshot[scorer]`` is absent.
    """

    def __init__(
        self,
        model: str,
        *,
        dtype: "Dtype" = "float32",
        end: str | None = None,
        max_model_tokens: int | None = None,
    ) -> None:
        if dtype not in _TOLERANCE_NATS:
            raise InvalidParameter(f"dtype is {dtype!r}, allowed: {', '.join(_TOLERANCE_NATS)}")
        for package in ("torch", "transformers"):
            if find_spec(package) is None:
                raise MissingDependency.of(
                    package, extra="scorer", purpose="a language model in this process"
                )
        self._name = model
        self._dtype: Dtype = dtype
        self._end = end
        self._max_model_tokens = max_model_tokens
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="kshot-score")
        self._loaded: _Loaded | None = None
        self._closed = False

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._name!r}, dtype={self._dtype!r})"

    async def capabilities(self) -> Capabilities:
        """Return what the model can do; loads it if need be.

        Raises
        ------
        ScorerUnavailable
            It cannot be loaded, or the scorer is closed.
        """
        return (await self._ready()).capabilities

    async def score_batch(
        self, pairs: Sequence[Pair], options: ScoringOptions = _DEFAULTS
    ) -> list[Scored | NotScored]:
        """Score pairs; one result each, in their order.

        Raises
        ------
        ScorerUnavailable
            As in `capabilities`, and for mode ``trie``: there is no server whose cache it would use.
        """
        loaded = await self._ready()
        if options.mode is ScoringMode.TRIE:
            raise ScorerUnavailable("mode 'trie' is refused: a model in this process has 'echo' and 'label'")
        fed = await self._run(loaded.feeding.feed, pairs, options)
        good = [(one.context, one.completion) for one in fed if isinstance(one, Fed)]
        scores = await self._scores(loaded.model, good)
        results: list[Scored | NotScored] = []
        for one in fed:
            if isinstance(one, NotScored):
                results.append(one)
                continue
            mode = options.mode or (ScoringMode.LABEL if len(one.completion) == 1 else ScoringMode.ECHO)
            found = TokenScores(*scores[one.context, one.completion], mode)
            results.append(found.scored(one, per_token=options.per_token))
        return results

    async def label_logprobs(self, prompts: Sequence[Text], label_token_ids: Sequence[int]) -> Float64s:
        """Return ln p(label | prompt) of single-token labels, in nats, shape (prompts, labels).

        Raises
        ------
        InvalidInput
            A prompt is too long or cannot be tokenised, or a label is no token.
        ScorerUnavailable
            As in `capabilities`.
        """
        loaded = await self._ready()
        labels = tuple(label_token_ids)
        loaded.feeding.check_ids(labels, "label_token_ids")
        contexts = await self._run(loaded.feeding.begin, prompts, room=1)
        pairs = [(context, (label,)) for context in contexts for label in labels]
        scores = await self._scores(loaded.model, pairs)
        nats = [scores[pair][0][0] for pair in pairs]
        return np.array(nats, dtype=np.float64).reshape(len(contexts), len(labels))

    async def greedy(self, prompts: Sequence[Text], max_tokens: int, stop: str = "\n") -> list[Generated]:
        """Return the greedy answer to each prompt and the mean log-probability of its tokens.

        What ends the answer, a marker or ``stop``, counts as its last token.

        Raises
        ------
        InvalidInput
            A prompt leaves no room for the answer, or cannot be tokenised.
        ScorerUnavailable
            As in `capabilities`.
        """
        if max_tokens < 1:
            raise InvalidParameter(f"max_tokens is {max_tokens}, allowed >= 1")
        loaded = await self._ready()
        contexts = await self._run(loaded.feeding.begin, prompts, room=max_tokens)
        distinct = sorted(set(contexts))
        lengths = [len(context) + max_tokens for context in distinct]
        told: dict[Tokens, Generated] = {}
        for batch in pack(range(len(distinct)), lengths, max_tokens=2 * _BATCH_TOKENS, max_rows=_BATCH_ROWS):
            part = [distinct[i] for i in batch]
            answers = await self._run(loaded.model.generate, part, max_tokens, stop)
            told |= zip(part, answers, strict=True)
        return [told[context] for context in contexts]

    async def close(self) -> None:
        """Drop the model; what is under way ends its batch. A second call does nothing."""
        self._closed = True
        self._loaded = None
        self._worker.shutdown(wait=False)

    async def _run(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        if self._closed:
            raise ScorerUnavailable("the scorer is closed")
        call = partial(function, *args, **kwargs)
        return await asyncio.get_running_loop().run_in_executor(self._worker, call)

    async def _ready(self) -> _Loaded:
        if self._loaded is not None:
            return self._loaded
        return await self._run(self._load)

    def _load(self) -> _Loaded:
        if self._loaded is None:  # else a call before this one has loaded it
            self._loaded = _load(self._name, self._dtype, self._end, self._max_model_tokens)
        return self._loaded

    async def _scores(
        self, model: "CausalModel", pairs: Sequence[tuple[Tokens, Tokens]]
    ) -> dict[tuple[Tokens, Tokens], tuple[tuple[float, ...], bool]]:
        """Return ln p of each token of each completion, and whether all of them were the likeliest."""
        rows, places = plan_rows(pairs)
        row_to_steps: dict[int, list[Step]] = {}
        for shared, batches in _batches(rows):
            prefilled: Any = None
            for batch in batches:
                part = [rows[number] for number in batch]
                if shared and prefilled is None:
                    prefix = part[0].ids[:shared]
                    prefilled = await self._run(model.prefill, prefix)
                steps = await self._run(model.read, part, shared=shared, prefilled=prefilled)
                row_to_steps |= zip(batch, steps, strict=True)
        scores = {}
        for pair, place in places.items():
            path = list(zip(row_to_steps[place.row], place.tokens, strict=False))
            nats = tuple(step.token_to_nats[token] for step, token in path)
            scores[pair] = nats, all(step.likeliest == token for step, token in path)
        return scores


def _batches(rows: Sequence[Row]) -> Iterator[tuple[int, list[tuple[int, ...]]]]:
    """Yield how much rows share, and their batches; those that share nothing come together."""
    groups = group_rows(rows)
    lengths = [len(row.ids) for row in rows]
    alone = [group.rows[0] for group in groups if not group.shared]
    yield 0, pack(alone, lengths, max_tokens=_BATCH_TOKENS, max_rows=_BATCH_ROWS)
    for group in groups:
        if group.shared:
            yield group.shared, pack(group.rows, lengths, max_tokens=_CACHE_TOKENS, max_rows=_BATCH_ROWS)


def _load(name: str, dtype: "Dtype", end: str | None, max_model_tokens: int | None) -> _Loaded:
    from kshot.clients.scorers.causal_model import CausalModel  # noqa: PLC0415  imports torch

    try:
        folder = _find(name)
        model = CausalModel(folder, dtype)
        digest = model_digest(folder)
    except (OSError, ValueError, RuntimeError, KeyError, KshotError) as error:
        why = f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0][:_REASON_CHARACTERS]}"
        raise ScorerUnavailable(f"model {name!r} cannot be loaded: {why}") from error
    window = min(model.window, max_model_tokens or model.window)
    return _Loaded(
        model,
        Feeding(
            tokenizer=model,
            special=run_locally(learn_special_tokens(end or model.end_marker), model),
            window=window,
            vocabulary_size=model.vocabulary_size,
        ),
        Capabilities(
            backend="transformers",
            model=name,
            fingerprint=f"transformers:{Path(name).name}@{digest[:16]}/{dtype}",
            max_model_tokens=window,
            modes=_MODES,
            tolerance_nats=_TOLERANCE_NATS[dtype],
        ),
    )


def _find(name: str) -> Path:
    folder = Path(name)
    if folder.is_dir():
        return folder
    from huggingface_hub import snapshot_download  # noqa: PLC0415  slow to import, rarely needed

    wanted = ["*.json", "*.jinja", "*.model", "*.safetensors", "*.txt"]
    return Path(snapshot_download(name, allow_patterns=wanted))
