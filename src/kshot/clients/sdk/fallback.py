"""Demonstrations of last resort: what an application shows when no server answers."""

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

from kshot.errors import Conflict, InvalidInput, KshotError, NotFound, Unauthorized
from kshot.formatting import Turn, estimated_tokens
from kshot.records import Content
from kshot.schemas.base import Notice
from kshot.schemas.selections import Demonstration, SelectionReply, SetStatistics, Usage

logger = logging.getLogger(__name__)

FallbackExamples: TypeAlias = Sequence[Mapping[str, Any]]
Fallback: TypeAlias = FallbackExamples | Callable[[Content | None], FallbackExamples]
"""Examples ``{"inputs": ..., "outputs": ...}`` in prompt order, or a function of the query giving them."""

_CALLERS_FAULT = (InvalidInput, Unauthorized, NotFound, Conflict)


def is_outage(error: KshotError) -> bool:
    """Tell a failure of the server, or on the way to it, from a mistake of the caller.

    Mistakes (4xx but for 408 and 429) are never covered by a fallback: they would not be seen.
    """
    return not isinstance(error, _CALLERS_FAULT)


def checked(fallback: Fallback | None) -> Fallback | None:
    """Check fallback examples when they are given rather than when they are needed.

    Raises
    ------
    InvalidInput
        An example lacks ``inputs`` or ``outputs``.
    """
    if fallback is None or callable(fallback):
        return fallback
    return _checked_examples(fallback)


def _checked_examples(examples: FallbackExamples) -> list[Mapping[str, Any]]:
    if isinstance(examples, str | Mapping):
        raise InvalidInput(f"fallback is {type(examples).__name__}, wanted a list of examples")
    for position, example in enumerate(examples):
        missing = [name for name in ("inputs", "outputs") if name not in example]
        if missing:
            raise InvalidInput(f"fallback example {position} lacks {' and '.join(missing)}")
    return list(examples)


def fallback_reply(
    fallback: Fallback, *, pool: str, query: Content | None, k: int | None, failure: KshotError
) -> SelectionReply:
    """Put the first ``k`` fallback examples into the form of an answer; ``failure`` becomes a warning."""
    examples = _checked_examples(fallback(query) if callable(fallback) else fallback)
    demonstrations = [_demonstration(rank, example) for rank, example in enumerate(examples[:k])]
    logger.warning("fallback demonstrations used for pool %s: %s", pool, failure.code)
    return SelectionReply(
        selection_id="",
        pool=pool,
        pool_version=0,
        method="fallback",
        demonstrations=demonstrations,
        usage=Usage(
            tokens=sum(demonstration.tokens for demonstration in demonstrations),
            estimated=True,
            eligible=len(examples),
            candidates=len(examples),
        ),
        set=SetStatistics(mean_pairwise=None, labels={}),
        prefix_hash=None,
        timing_ms={},
        degraded=True,
        warnings=[Notice(code=failure.code, message=failure.message)],
    )


def _demonstration(rank: int, example: Mapping[str, Any]) -> Demonstration:
    inputs, outputs = example["inputs"], example["outputs"]
    return Demonstration(
        id=str(example.get("id", f"fallback-{rank}")),
        rank=rank,
        part="dynamic",
        inputs=inputs,
        outputs=outputs,
        metadata=dict(example.get("metadata", {})),
        score=0.0,
        gain=0.0,
        similarity=None,
        tokens=estimated_tokens(Turn.of(inputs, outputs).text),
    )
