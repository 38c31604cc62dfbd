"""Vote-k: rows that stand for many others, from what a model is sure of to what it is not."""

from dataclasses import dataclass
from math import ceil, floor
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from kshot.arrays import Float64s, Int64s, Picks, require_shape
from kshot.errors import InvalidParameter, InvalidShape
from kshot.selectors.annotation.base import (
    GraphSpec,
    PlanCandidates,
    PlanFeature,
    Report,
    labelled_mask,
    planned,
    require_budget,
    require_feature,
    silent,
)
from kshot.selectors.annotation.fast_vote_k import (
    Parity,
    count_votes,
    farthest_rows,
    fast_vote_k,
    most_voted,
    require_votes,
)
from kshot.selectors.annotation.neighbour_graph import NeighbourGraph
from kshot.selectors.annotation.neighbour_search import graph_of
from kshot.selectors.annotation.registry import PLANNERS
from kshot.selectors.annotation.votes import VoteCount
from kshot.selectors.base import check_parameters, parameter

_LEAST_PHASE1 = 10
_PHASE1_SHARE = 10


def vote_k(
    vectors: ArrayLike,
    budget: int,
    confidence: ArrayLike | None = None,
    n_neighbors: int = 150,
    discount: float = 10.0,
    phase1: int | None = None,
    conf_keep: float = 0.9,
    center: bool = True,  # noqa: FBT001, FBT002
    parity: Parity = "none",
    *,
    graph: NeighbourGraph | None = None,
    labelled: NDArray[Any] | None = None,
    report: Report = silent,
) -> Picks:
    """Choose a few rows by their votes, then one of each band of a model's confidence, again by votes.

    Phase 1 is `fast_vote_k`. For phase 2 all rows that are left are sorted from the least to the most
    confident, the surest tenth is passed over, and the others are cut into as many bands as rows are wanted:
    the row with the largest sum of votes is taken from each, from the least confident band on. The
    confidences are those of a model that is shown the rows of phase 1, so they are labelled first, and the
    plan is continued with ``labelled``.

    Parameters
    ----------
    vectors : float array, shape (n, d)
        Unit rows, not centred.
    budget : int
        Rows wanted, at least 1; all unlabelled rows if there are fewer.
    confidence : float array, shape (n,), optional
        How sure a model is of its answer to each row: larger is surer, in any unit; NaN where it is unknown,
        which counts as least sure. Without, all rows are chosen by `fast_vote_k`.
    n_neighbors, discount, center, graph, report
        As in `fast_vote_k`.
    phase1 : int, optional
        Rows of phase 1, at least 0; default: a tenth of the budget, at least 10. Labelled rows count as such,
        so that phase 1 is as much shorter.
    conf_keep : float
        In (0, 1]: share of the rows that may be chosen in phase 2, the least confident ones.
    parity : str
        "reference" adds votes up and breaks ties as the published code does; picks of phase 2 then do not
        discount the votes of their voters, though they do not vote themselves.
    labelled : bool array of shape (n,), or row numbers, optional
        Rows that are chosen before the first pick.

    Returns
    -------
    Picks
        ``gains``: each pick's sum of votes. Diagnostics: ``phase1``, how many picks at the beginning are of
        phase 1; ``bucket_rows``, the size of a band; ``without_votes``, how many picks nobody voted for; and
        ``graph_recall``. Without confidences: ``fallback``, and the diagnostics of `fast_vote_k`.

    Raises
    ------
    InvalidShape
        As in `fast_vote_k`; or the confidences are not one for each row, or infinite.
    InvalidParameter
        As in `fast_vote_k`; or ``phase1`` is below 0, or ``conf_keep`` is not in (0, 1].

    Notes
    -----
    Cost as in `fast_vote_k`. With m rows, those of phase 1 among them but none labelled beyond those, and B
    rows left to choose, a band has ``floor(conf_keep m / B)`` rows; but at least one, and no more than fill
    the bands with unchosen rows. In a band where nobody votes for any row, the one that most rows have among
    their neighbours is taken. Ties go to the lowest index; under parity to the least confident row.

    References
    ----------
    .. [1] Su et al. (2023), "Selective annotation makes language models better few-shot learners", ICLR,
       section 2.1.
    """
    require_budget(budget)
    require_votes(discount, parity)
    _require_phases(phase1, conf_keep)
    graph = graph_of(vectors, graph, n_neighbors, center=center, report=report)
    n = len(graph)
    if confidence is None:
        picks = fast_vote_k(
            vectors, budget, discount=discount, parity=parity, graph=graph, labelled=labelled, report=report
        )
        return planned(picks.indices, picks.gains, {"fallback": "fast_vote_k", **picks.diagnostics})
    sure = np.asarray(confidence, np.float64)
    require_shape("confidence", sure, (n,))
    if np.isinf(sure).any():
        raise InvalidShape("confidence holds an infinity; allowed are finite numbers and NaN for unknown")
    mask = labelled_mask(labelled, n)
    known = int(np.count_nonzero(mask))
    wanted = min(budget, n - known)
    size = max(_LEAST_PHASE1, ceil(budget / _PHASE1_SHARE)) if phase1 is None else phase1
    first = min(max(size - known, 0), wanted)
    votes = count_votes(graph, discount, mask, wanted, parity)
    indices, gains = most_voted(votes, first, report)
    rest = first - len(indices)
    if rest:
        far = farthest_rows(vectors, votes.chosen, rest, len(indices), center=graph.center, report=report)
        for row in far:
            votes.choose(row)
        indices += far
        gains += [0.0] * rest
    left = n - known - first
    bucket = _bucket_rows(conf_keep * (left + min(size, known + first)), wanted - first, left)
    order = _by_confidence(sure, votes)
    voters = np.bincount(graph.indices.ravel(), minlength=n)
    for place in range(wanted - first):
        rows = order[place * bucket : (place + 1) * bucket]
        row, gain = _best_of(votes, rows, voters, parity)
        votes.choose(row, discount=parity == "none")
        indices.append(row)
        gains.append(gain)
        report(len(indices), wanted)
    diagnostics = {
        "phase1": first,
        "bucket_rows": bucket,
        "without_votes": gains.count(0.0),
        "graph_recall": graph.recall,
    }
    return planned(indices, gains, diagnostics)


def _require_phases(phase1: int | None, conf_keep: float) -> None:
    if phase1 is not None and phase1 < 0:
        raise InvalidParameter(f"phase1 is {phase1}, allowed >= 0")
    if not 0 < conf_keep <= 1:
        raise InvalidParameter(f"conf_keep is {conf_keep}, allowed > 0, <= 1")


def _bucket_rows(considered: float, buckets: int, left: int) -> int:
    """Return the rows of each band, all of which lie within the ``left`` rows."""
    if not buckets:
        return 0
    # A share such as 0.9 of 10 rows is 9 rows, however it is rounded.
    return max(1, min(floor(considered / buckets + 1e-9), left // buckets))


def _by_confidence(confidence: Float64s, votes: VoteCount) -> Int64s:
    """Sort the rows that are left from the least to the most confident; equal ones in row order."""
    rows = np.flatnonzero(~votes.chosen)
    sure = np.where(np.isnan(confidence[rows]), -np.inf, confidence[rows])
    return rows[np.argsort(sure, kind="stable")]


def _best_of(votes: VoteCount, rows: Int64s, voters: Int64s, parity: Parity) -> tuple[int, float]:
    """Return the row of a band with the most votes, or the one with most voters of all if none has any."""
    rows = rows if parity == "reference" else np.sort(rows)
    best = votes.best(rows)
    if best is not None:
        return best
    return int(rows[np.argmax(voters[rows])]), 0.0


@PLANNERS.register("vote_k")
@dataclass(frozen=True, slots=True)
class VoteK:
    """Rows that many others resemble, from every band of a model's confidence except the surest.

    Label the first batch, let a model answer every row from it, and plan on with its confidences: half-known
    rows are covered as well as unknown ones. See `vote_k` for the rule and its source. Without confidences
    the plan is that of `fast_vote_k`, and the diagnostics say so (``fallback``).
    """

    nested: ClassVar[bool] = False
    needs: ClassVar[frozenset[PlanFeature]] = frozenset({PlanFeature.VECTORS, PlanFeature.GRAPH})
    wants: ClassVar[frozenset[PlanFeature]] = frozenset({PlanFeature.CONFIDENCE})

    n_neighbors: int = parameter(150, description="Neighbours that every row votes for.", ge=1)
    discount: float = parameter(
        10.0,
        description="A vote counts this many times less for every chosen row that the voter votes for.",
        ge=1,
    )
    phase1: int | None = parameter(
        None,
        description="Rows chosen without confidences; default: a tenth of the budget, at least 10.",
        ge=0,
    )
    conf_keep: float = parameter(
        0.9, description="Share of the rows that confidences leave in, the least confident ones.", gt=0, le=1
    )
    center: bool = parameter(
        True, description="Compare rows by how they differ from the mean of the pool, not from zero."
    )

    def __post_init__(self) -> None:
        check_parameters(self)

    @property
    def graph(self) -> GraphSpec:
        """Neighbours that are voted for."""
        return GraphSpec(self.n_neighbors, self.center)

    def plan(
        self, candidates: PlanCandidates, budget: int, rng: np.random.Generator, report: Report = silent
    ) -> Picks:
        """Return ``min(budget, unlabelled)`` picks."""
        return vote_k(
            require_feature(candidates.vectors, PlanFeature.VECTORS),
            budget,
            candidates.confidence,
            discount=self.discount,
            phase1=self.phase1,
            conf_keep=self.conf_keep,
            graph=require_feature(candidates.graph, PlanFeature.GRAPH),
            labelled=candidates.labelled,
            report=report,
        )
