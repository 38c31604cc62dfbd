"""From a request and a snapshot to chosen rows: eligibility, method, runners-up.

Everything here is synchronous and reads one immutable snapshot, so it runs in any worker thread.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from kshot.arrays import Bools, Candidates, Exactness, Feature, Float64s, Floats, Int64s, Picks, exactness
from kshot.errors import FieldError, InvalidInput, InvalidParameter
from kshot.index.candidates import QueryFeatures, gather, similarities
from kshot.index.snapshot import Eligible, Exclusions, Snapshot
from kshot.records import input_hash
from kshot.schemas.base import Notice
from kshot.schemas.selections import Distinct, Query, SelectRequest
from kshot.selectors import SELECTORS, Selector, select_distinct
from kshot.selectors.base import as_covering
from kshot.selectors.fused_relevance import FusedRelevance
from kshot.selectors.mdl import Mdl
from kshot.selectors.uniform import Uniform
from kshot.server.services.room import Room, packed

RUNNERS_UP = 5


@dataclass(frozen=True, slots=True)
class Method:
    """A method by name, ready to run."""

    name: str
    selector: Selector


@dataclass(frozen=True, slots=True)
class RunnerUp:
    """A row that came close.

    ``like`` is the pick that it nearly equals and the cosine to it, where that is what kept it out;
    ``too_long`` where its length did.
    """

    row: int
    score: float
    like: tuple[int, float] | None = None
    too_long: bool = False


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
    runners_up : sequence of RunnerUp
        Near-duplicates of picks, and what is chosen if `RUNNERS_UP` more are wanted; only when an
        explanation was asked for.
    nearest : float or None
        Highest cosine of a candidate to the query; None without candidates.
    exactness : Exactness
        What is known of it beside the choice from every eligible row.
    without_room : int
        Places left empty because nothing else fits into the budget.
    """

    rows: Int64s
    scores: Float64s
    gains: Float64s
    candidates: int
    diagnostics: Mapping[str, Any]
    runners_up: tuple[RunnerUp, ...] = ()
    nearest: float | None = None
    exactness: Exactness = Exactness.EXACT
    without_room: int = 0

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
    if not len(rows):
        return eligible
    mask = eligible.mask.copy()
    mask[rows] = False
    return replace(eligible, mask=mask, rows=np.flatnonzero(mask))


def beside(snapshot: Snapshot, eligible: Eligible, core: Int64s, distinct: Distinct) -> Eligible:
    """Take out the core of a prompt, and with it whatever would repeat one of its members."""
    if not len(core):
        return eligible
    out = [core]
    if distinct.content:
        out.append(snapshot.repeats.copies(core))
    out.append(_near(snapshot, eligible, core, distinct.similarity))
    return without(eligible, np.concatenate(out))


def _near(snapshot: Snapshot, eligible: Eligible, rows: Int64s, threshold: float | None) -> Int64s:
    """Return the eligible rows that nearly equal one of ``rows``."""
    dense = snapshot.dense
    if threshold is None or dense is None or not len(rows):
        return np.empty(0, np.int64)
    near = np.zeros(len(eligible.rows), np.bool_)
    for row in rows:
        near |= dense.similarities(dense.vectors[row], eligible.rows) >= threshold
    return eligible.rows[near]


def spread(snapshot: Snapshot, core: Int64s, threshold: float | None) -> Int64s:
    """Leave out the members of a core that nearly equal an earlier one."""
    dense = snapshot.dense
    if threshold is None or dense is None or not len(core):
        return core
    vectors = dense.vectors[core]
    kept: list[int] = []
    for place in range(len(core)):
        if not kept or (vectors[kept] @ vectors[place]).max() < threshold:
            kept.append(place)
    return core[kept]


def fitting(
    method: Method, query: QueryFeatures, difficulty_field: str | None = None
) -> tuple[Method, list[Notice]]:
    """Let a fused relevance go without the signals that this query lacks; refuse what cannot do without.

    Raises
    ------
    InvalidParameter
        The method reads token vectors, words, the query's vector or difficulties, and there are none; the
        message lists the methods that work for this query.
    """
    selector, absent = _with_present_signals(method.selector, query)
    notices = [Notice(code="signal_absent", message=f"{method.name} goes without {name}") for name in absent]
    lacking = _lacking(selector, query, difficulty_field)
    if lacking is not None:
        defaults = {
            name: _with_present_signals(SELECTORS.get(name)(), query)[0] for name in SELECTORS.names()
        }
        # Whether there is a scorer to ask is not known here.
        allowed = [
            name
            for name, one in defaults.items()
            if not isinstance(one, Mdl) and _lacking(one, query, difficulty_field) is None
        ]
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
    difficulty_field: str | None,
    room: Room | None = None,
) -> Choice:
    """Run the method over the eligible rows; ``difficulty_field`` is the pool's setting.

    With ``room``, a method that covers the query's parts weighs them against the length of the rows.
    """
    if not len(eligible.rows) or k < 1:
        return Choice.nothing()
    first = gather(snapshot, query, eligible, method.selector, k, difficulty_field, exact=request.exact)
    picks = _run(snapshot, method, first, request, k)
    candidates = first
    while len(picks) < k and len(candidates) < len(eligible.rows):
        # The shortlist was full of near-duplicates: look for others.
        picked = candidates.rows[picks.indices]
        near = np.setdiff1d(_near(snapshot, eligible, picked, request.distinct.similarity), picked)
        eligible = without(eligible, near)
        # Every row, where there is nothing to take out: a shortlist of the same rows would be the same again.
        exact = request.exact or not len(near)
        candidates = gather(snapshot, query, eligible, method.selector, k, difficulty_field, exact=exact)
        picks = _run(snapshot, method, candidates, request, k)
    if "near_duplicates" in picks.diagnostics and len(candidates) < len(eligible.rows):
        # Only what goes by similarity alone has the next best ones on its shortlist for certain.
        candidates = replace(candidates, complete=candidates.complete and not method.selector.needs)
    covered = None if room is None else _covered(method.selector, candidates)
    without_room = 0
    if room is not None and covered is not None:
        found = packed(
            lambda most: _run(snapshot, method, candidates, request, most),
            covered,
            candidates.rows,
            k,
            room,
        )
        picks, without_room = found.picks, found.missing
        candidates = replace(candidates, complete=candidates.complete and found.seen_all)
    runners_up: tuple[RunnerUp, ...] = ()
    if request.explain:
        rows = candidates.rows[picks.indices]
        runners_up = (
            *_near_duplicates(snapshot, method, first, rows, request, k),
            *_runners_up(snapshot, method, candidates, picks, request, k, weighed=covered is not None),
        )
    return Choice(
        rows=candidates.rows[picks.indices],
        scores=picks.scores,
        gains=picks.gains,
        candidates=len(candidates),
        diagnostics=picks.diagnostics,
        runners_up=runners_up,
        nearest=float(max(first.relevance.max(), candidates.relevance.max())),
        exactness=exactness(candidates, picks),
        without_room=without_room,
    )


def _covered(selector: Selector, candidates: Candidates) -> Floats | None:
    """Return what the method covers the query with; None if it does not, or the query has no parts."""
    covering = as_covering(selector)
    scores = None if covering is None else covering.covered(candidates)
    return None if scores is None or not scores.shape[1] else scores


def _with_present_signals(selector: Selector, query: QueryFeatures) -> tuple[Selector, list[str]]:
    """Take the weight from signals of a fused relevance that this query lacks, and name them."""
    if not isinstance(selector, FusedRelevance) or not selector.is_fused:
        return selector, []
    present = {"similarity": query.vector is not None, "bsr": query.tokens is not None}
    present["bm25"] = query.text is not None
    absent = [name for name, is_there in present.items() if getattr(selector, name) and not is_there]
    if not any(getattr(selector, name) and is_there for name, is_there in present.items()):
        return selector, []
    return replace(selector, **dict.fromkeys(absent, 0.0)), absent


def _lacking(selector: Selector, query: QueryFeatures, difficulty_field: str | None) -> str | None:
    """Say what the method would read and this query does not have."""
    if Feature.TOKENS in selector.needs and query.tokens is None:
        return "token vectors, and the pool's embedder gives none"
    reads_text = bool(selector.needs & {Feature.LEXICAL, Feature.STRUCTURES})
    if (reads_text or isinstance(selector, Mdl)) and query.text is None:
        return "the query's text; give `inputs`"
    # Without a field the number of tokens is the difficulty, which a pool without token vectors lacks.
    if Feature.DIFFICULTY in selector.needs and difficulty_field is None and query.tokens is None:
        return "how hard each example is; set the pool's `difficulty_field`"
    by_similarity = not reads_text and not isinstance(selector, Uniform)
    if query.vector is None and (by_similarity or Feature.VECTORS in selector.needs):
        return "a query vector; give `vector`"
    return None


def _run_plainly(method: Method, candidates: Candidates, request: SelectRequest, k: int) -> Picks:
    return method.selector.select(candidates, k, np.random.Generator(np.random.PCG64(request.seed)))


def _run(snapshot: Snapshot, method: Method, candidates: Candidates, request: SelectRequest, k: int) -> Picks:
    def run(some: Candidates) -> Picks:
        return _run_plainly(method, some, request, k)

    dense, threshold = snapshot.dense, request.distinct.similarity
    if threshold is None or dense is None:
        return run(candidates)
    return select_distinct(
        lambda indices: run(candidates if len(indices) == len(candidates) else candidates.take(indices)),
        lambda index: dense.similarities(dense.vectors[candidates.rows[index]], candidates.rows),
        len(candidates),
        threshold,
    )


def _runners_up(
    snapshot: Snapshot,
    method: Method,
    candidates: Candidates,
    picks: Picks,
    request: SelectRequest,
    k: int,
    *,
    weighed: bool,
) -> tuple[RunnerUp, ...]:
    more = _run(snapshot, method, candidates, request, k + RUNNERS_UP)
    chosen = set(picks.indices.tolist())
    next_ones = [
        RunnerUp(int(candidates.rows[index]), float(score), too_long=weighed and place < k)
        for place, (index, score) in enumerate(zip(more.indices.tolist(), more.scores.tolist(), strict=True))
        if index not in chosen
    ][:RUNNERS_UP]
    return tuple(next_ones)


def _near_duplicates(
    snapshot: Snapshot,
    method: Method,
    candidates: Candidates,
    rows: Int64s,
    request: SelectRequest,
    k: int,
) -> list[RunnerUp]:
    """Return what the method picks by itself and nearly equals one of the picks, ``rows``."""
    dense, threshold = snapshot.dense, request.distinct.similarity
    if threshold is None or dense is None or not len(rows):
        return []
    plain = _run_plainly(method, candidates, request, k)
    found = []
    for index, score in zip(plain.indices.tolist(), plain.scores.tolist(), strict=True):
        row = int(candidates.rows[index])
        cosines = dense.similarities(dense.vectors[row], rows)
        if row not in rows and cosines.max() >= threshold:
            nearest = int(cosines.argmax())
            found.append(RunnerUp(row, float(score), (int(rows[nearest]), float(cosines[nearest]))))
    return found[:RUNNERS_UP]


def _only(eligible: Eligible, rows: Int64s) -> Eligible:
    mask: Bools = np.zeros(len(eligible.mask), np.bool_)
    mask[rows] = True
    return replace(eligible, mask=mask, rows=rows)
