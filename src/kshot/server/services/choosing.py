"""From a request and a snapshot to chosen rows: eligibility, stable core, method, explanation.

Everything here is synchronous and reads one immutable snapshot, so it runs in any worker thread.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from kshot.arrays import Bools, Candidates, Feature, Float64s, Int64s, Picks
from kshot.errors import FieldError, InvalidInput, InvalidParameter
from kshot.index.candidates import QueryFeatures, gather, similarities
from kshot.index.snapshot import Eligible, Exclusions, Snapshot
from kshot.records import input_hash
from kshot.schemas.base import Notice
from kshot.schemas.selections import Query, SelectRequest
from kshot.selectors import SELECTORS, Selector
from kshot.selectors.fused import Fused

RUNNERS_UP = 5
NEAR_IDENTICAL = 0.98


@dataclass(frozen=True, slots=True)
class Method:
    """A method by name, with the parameters that were given for it."""

    name: str
    params: Mapping[str, Any]
    selector: Selector


@dataclass(frozen=True, slots=True)
class Choice:
    """What was chosen, before texts are fetched.

    Attributes
    ----------
    rows : int64 array, shape (k,)
        In pick order.
    scores, gains : float64 arrays, shape (k,)
    candidates : int
    diagnostics : mapping
    runners_up : sequence of (row, score)
        Would have been picked next; only when an explanation was asked for.
    """

    rows: Int64s
    scores: Float64s
    gains: Float64s
    candidates: int
    diagnostics: Mapping[str, Any]
    runners_up: tuple[tuple[int, float], ...] = ()

    @classmethod
    def nothing(cls) -> "Choice":
        """Choose no row."""
        return cls(np.empty(0, np.int64), np.empty(0), np.empty(0), 0, {})


def exclusions(request: Query) -> Exclusions:
    """Translate the wire form."""
    exclude = request.exclude
    same = exclude.same_content and request.inputs is not None
    return Exclusions(
        ids=tuple(exclude.ids),
        content_hashes=tuple(exclude.content_hashes),
        input_hash=input_hash(request.inputs) if same and request.inputs is not None else None,
        groups=tuple(exclude.groups),
        splits=tuple(exclude.splits),
    )


def with_min_score(
    snapshot: Snapshot, query: QueryFeatures, eligible: Eligible, min_score: float | None
) -> Eligible:
    """Keep the rows whose cosine to the query reaches ``min_score``."""
    if min_score is None:
        return eligible
    if query.vector is None:
        raise InvalidInput(
            "min_score needs a query vector", errors=[FieldError("/min_score", "needs a query vector")]
        )
    near = eligible.rows[similarities(snapshot, query, eligible.rows) >= min_score]
    return replace(eligible, mask=_mask(near, len(snapshot)), rows=near)


def without(eligible: Eligible, rows: Int64s) -> Eligible:
    """Take rows out."""
    if not len(rows):
        return eligible
    kept = np.setdiff1d(eligible.rows, rows, assume_unique=True)
    return replace(eligible, mask=_mask(kept, len(eligible.mask)), rows=kept)


def fitting(method: Method, snapshot: Snapshot, query: QueryFeatures) -> tuple[Method, list[Notice]]:
    """Adapt the fused method to a pool without token vectors; refuse methods that cannot do without.

    Raises
    ------
    InvalidParameter
        The method reads token vectors, words or the query's vector, and there are none; the message lists
        the methods that work here.
    """
    selector, notices = method.selector, []
    if (
        snapshot.tokens is None
        and snapshot.dense is not None
        and isinstance(selector, Fused)
        and selector.bsr
    ):
        if not selector.similarity and not selector.bm25:
            raise _unfit(method, snapshot, "token vectors, and the pool's embedder gives none")
        selector = replace(selector, bsr=0.0)
        notices.append(
            Notice(code="signal_absent", message="the pool has no token vectors; fused goes without bsr")
        )
    if Feature.TOKENS in selector.needs and query.tokens is None:
        raise _unfit(method, snapshot, "token vectors, and there are none for this pool and query")
    if Feature.LEXICAL in selector.needs and query.text is None:
        raise _unfit(method, snapshot, "the query's text; give `inputs`")
    if method.name != "random" and query.vector is None and Feature.LEXICAL not in selector.needs:
        raise _unfit(method, snapshot, "a query vector; give `vector`")
    return replace(method, selector=selector), notices


def choose(
    snapshot: Snapshot,
    query: QueryFeatures,
    eligible: Eligible,
    method: Method,
    request: SelectRequest,
    k: int,
) -> Choice:
    """Run the method over the eligible rows."""
    if not len(eligible.rows) or k < 1:
        return Choice.nothing()
    candidates = gather(snapshot, query, eligible, method.selector, k)
    picks = _run(method, candidates, request.seed, k)
    return Choice(
        rows=candidates.rows[picks.indices],
        scores=picks.scores,
        gains=picks.gains,
        candidates=len(candidates),
        diagnostics=picks.diagnostics,
        runners_up=_runners_up(method, candidates, picks, request, k) if request.explain else (),
    )


def _run(method: Method, candidates: Candidates, seed: int, k: int) -> Picks:
    return method.selector.select(candidates, k, np.random.Generator(np.random.PCG64(seed)))


def _runners_up(
    method: Method, candidates: Candidates, picks: Picks, request: SelectRequest, k: int
) -> tuple[tuple[int, float], ...]:
    """Ask for a few more and return those that were not picked."""
    more = _run(method, candidates, request.seed, k + RUNNERS_UP)
    chosen = set(picks.indices.tolist())
    return tuple(
        (int(candidates.rows[index]), float(score))
        for index, score in zip(more.indices.tolist(), more.scores.tolist(), strict=True)
        if index not in chosen
    )[:RUNNERS_UP]


def _unfit(method: Method, snapshot: Snapshot, reason: str) -> InvalidParameter:
    has_tokens = snapshot.tokens is not None
    allowed = [
        name
        for name in SELECTORS.names()
        if has_tokens or name == "fused" or Feature.TOKENS not in SELECTORS.get(name)().needs
    ]
    message = f"{method.name!r} needs {reason}; methods of this pool: {', '.join(allowed)}"
    return InvalidParameter(message, errors=[FieldError("/method", message)])


def _mask(rows: Int64s, n: int) -> Bools:
    mask = np.zeros(n, np.bool_)
    mask[rows] = True
    return mask
