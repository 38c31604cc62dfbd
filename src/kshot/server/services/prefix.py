"""The part of a prompt that is the same for every query: a core of the pool, cut to an engine's blocks."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from kshot.arrays import Int64s
from kshot.errors import FieldError, InvalidInput
from kshot.index.snapshot import Eligible, Exclusions, Snapshot
from kshot.schemas.selections import SelectRequest
from kshot.server.services.assembly import Chosen
from kshot.server.services.choosing import spread
from kshot.server.services.runtime import PoolRuntime


@dataclass(frozen=True, slots=True)
class Prefix:
    """What the prompts of a pool begin with.

    ``cacheable`` are the tokens in full blocks; all of them where no block size is known. ``hash`` is None
    without demonstrations.
    """

    hash: str | None
    tokens: int
    cacheable: int


def core_rows(
    runtime: PoolRuntime, snapshot: Snapshot, request: SelectRequest, allowed: Eligible, k: int
) -> Int64s:
    """Return the rows of the core that this request asks for and may see, in their fixed order.

    Raises
    ------
    InvalidInput
        More are asked for than ``k``.
    """
    if request.stable is None:
        return np.empty(0, np.int64)
    if request.stable.k > k:
        message = f"received {request.stable.k}, allowed 1 to k = {k}"
        raise InvalidInput(f"/stable/k {message}", errors=[FieldError("/stable/k", message)])
    key = "" if request.filter is None else request.filter.model_dump_json(by_alias=True, exclude_none=True)
    # A query's own exclusions must not change the core of all the others: they only take rows out of it.
    everything = snapshot.eligible(request.filter, Exclusions())
    rows = runtime.cores.rows(key, snapshot, everything, request.stable.k)
    rows = spread(snapshot, rows, request.distinct.similarity)
    return rows[allowed.mask[rows]]


def aligned(
    runtime: PoolRuntime, system: str | None, core: Sequence[Chosen], block_tokens: int | None
) -> list[Chosen]:
    """Cut the core where the fewest tokens stand beyond a full block, the longest of equally good ones."""
    if block_tokens is None or not core:
        return list(core)
    texts = [_text(runtime, system, core[:count]) for count in range(1, len(core) + 1)]
    left_over = np.asarray(runtime.tokenizer.count(texts), np.int64) % block_tokens
    best = len(core) - 1 - int(left_over[::-1].argmin())
    return list(core[: best + 1])


def described(
    runtime: PoolRuntime, system: str | None, core: Sequence[Chosen], block_tokens: int | None
) -> Prefix:
    """Name and measure the prefix as it is sent."""
    text = _text(runtime, system, core)
    tokens = int(runtime.tokenizer.count([text])[0]) if text else 0
    cacheable = tokens if block_tokens is None else tokens - tokens % block_tokens
    digest = hashlib.sha256(text.encode()).hexdigest()[:16] if core else None
    return Prefix(digest, tokens, cacheable)


def _text(runtime: PoolRuntime, system: str | None, core: Sequence[Chosen]) -> str:
    texts = [one.turn.text for one in core]
    return runtime.templates.separator.join([system, *texts] if system else texts)
