"""From a request and a snapshot to chosen rows: eligibility, method, runners-up.

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
from kshot.selectors.uniform import Uniform

RUNNERS_UP = 5


@dataclass(frozen=True, slots=True)
class Method:
    """A method by name, ready to run."""

    name: str
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
        Chosen if `RUNNERS_UP` more were wanted; only when an explanation was asked for.
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
        message = "needs a query vector; give `vector`"
        raise InvalidInput(f"/min_score {message}", errors=[FieldError("/min_score", message)])
    near = eligible.rows[similarities(snapshot, query, eligible.rows) >= min_score]
    return _only(eligible, near)


def without(eligible: Eligible, rows: Int64s) -> Eligible:
    """Take rows out."""
    return _only(eligible, np.setdiff1d(eligible.rows, rows)) if len(rows) else eligible


def fitting(method: Method, query: QueryFeatures) -> tuple[Method, list[Notice]]:
    """Let the fused method go without the signals that this query lacks; refuse what cannot do without.

    Raises
    ------
    InvalidParameter
        The method reads token vectors, words or the query's vector, and there are none; the message lists
        the methods that work for this query.
    """
    notices: list[Notice] = []
    selector = method.selector
    if isinstance(selector, Fused):
        selector, notices = _with_present_signals(selector, query)
    lacking = _lacking(selector, query)
    if lacking is not None:
        allowed = [name for name in SELECTORS.names() if _lacking(_default(name, query), query) is None]
        message = f"{method.name!r} needs {lacking}; methods that work here: {', '.join(allowed)}"
        raise InvalidParameter(message, errors=[FieldError("/method", message)])
    return Method(method.name, selector), notices


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
        runners_up=_runners_up(method, candidates, picks, request.seed, k) if request.explain else (),
    )


def _with_present_signals(selector: Fused, query: QueryFeatures) -> tuple[Fused, list[Notice]]:
    present = {"similarity": query.vector is not None, "bsr": query.tokens is not None}
    present["bm25"] = query.text is not None
    absent = [name for name, is_there in present.items() if getattr(selector, name) and not is_there]
    if not any(getattr(selector, name) and is_there for name, is_there in present.items()):
        return selector, []
    notices = [Notice(code="signal_absent", message=f"fused goes without {name}") for name in absent]
    return replace(selector, **dict.fromkeys(absent, 0.0)), notices


def _default(name: str, query: QueryFeatures) -> Selector:
    selector = SELECTORS.get(name)()
    return _with_present_signals(selector, query)[0] if isinstance(selector, Fused) else selector


def _lacking(selector: Selector, query: QueryFeatures) -> str | None:
    """Say what the method would read and this query does not have."""
    if Feature.TOKENS in selector.needs and query.tokens is None:
        return "token vectors, and the pool's embedder gives none"
    if Feature.LEXICAL in selector.needs:
        return "the query's text; give `inputs`" if query.text is None else None
    if query.vector is None and not isinstance(selector, Uniform):
        return "a query vector; give `vector`"
    return None


def _run(method: Method, candidates: Candidates, seed: int, k: int) -> Picks:
    return method.selector.select(candidates, k, np.random.Generator(np.random.PCG64(seed)))


def _runners_up(
    method: Method, candidates: Candidates, picks: Picks, seed: int, k: int
) -> tuple[tuple[int, float], ...]:
    more = _run(method, candidates, seed, k + RUNNERS_UP)
    chosen = set(picks.indices.tolist())
    return tuple(
        (int(candidates.rows[index]), float(score))
        for index, score in zip(more.indices.tolist(), more.scores.tolist(), strict=True)
        if index not in chosen
    )[:RUNNERS_UP]


def _only(eligible: Eligible, rows: Int64s) -> Eligible:
    mask: Bools = np.zeros(len(eligible.mask), np.bool_)
    mask[rows] = True
    return replace(eligible, mask=mask, rows=rows)
