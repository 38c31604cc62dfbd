"""Running a planner: over all rows or stratum by stratum, for a number of rows or for what they cost."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from kshot.arrays import Float64s, Int64s, Picks
from kshot.errors import InvalidInput
from kshot.selectors.annotation import PlanCandidates, Planner
from kshot.selectors.annotation.base import Report, silent
from kshot.selectors.annotation.budgets import affordable, stratum_order


@dataclass(frozen=True, slots=True)
class Ordered:
    """Rows in the order in which to label them.

    Attributes
    ----------
    indices : int64 array, shape (m,)
    gains : float64 array, shape (m,)
    diagnostics : dict
    layers : int64 array, shape (m,), or None
        From 1: for `auto_ideal`, how many steps a row is from a labelled one.
    """

    indices: Int64s
    gains: Float64s
    diagnostics: dict[str, Any] = field(default_factory=dict)
    layers: Int64s | None = None

    @classmethod
    def of(cls, picks: Picks) -> "Ordered":
        """Return what a planner picked."""
        sizes = picks.diagnostics.get("layers")
        layers = None if sizes is None else np.repeat(np.arange(1, len(sizes) + 1), sizes)
        return cls(picks.indices, picks.gains, dict(picks.diagnostics), layers)

    def picks(self) -> Picks:
        """Return the same as a planner would."""
        return Picks(self.indices, self.gains, self.gains, self.diagnostics)

    def take(self, places: Any) -> "Ordered":
        """Return some of the rows, in their order."""
        layers = None if self.layers is None else self.layers[places]
        return Ordered(self.indices[places], self.gains[places], self.diagnostics, layers)


class Order(Protocol):
    """Plans for a number of rows; always the same for the same number."""

    def __call__(self, budget: int, report: Report = silent) -> Ordered:
        """Return ``min(budget, unlabelled)`` rows; fewer where the planner ends by itself."""


@dataclass(frozen=True, slots=True)
class Stratum:
    """A part of the rows that is planned by itself: their numbers, and what the planner is given."""

    name: str | None
    rows: Int64s
    candidates: PlanCandidates


def whole_order(planner: Planner, candidates: PlanCandidates, seed: int) -> Order:
    """Return the order of a planner over all rows."""

    def order(budget: int, report: Report = silent) -> Ordered:
        return Ordered.of(planner.plan(candidates, budget, _generator(seed), report))

    return order


def stratified_order(
    planner: Planner,
    strata: Sequence[Stratum],
    seed: int,
    shares: Float64s | None = None,
) -> Order:
    """Return the order in which strata give rows in proportion, each in the planner's own order.

    The places of a stratum whose planner ends by itself stay empty; no other stratum gets them.
    """
    counts = [stratum.candidates.unlabelled for stratum in strata]

    def order(budget: int, report: Report = silent) -> Ordered:
        sources = stratum_order(counts, budget, shares)
        quotas = np.bincount(sources, minlength=len(strata))
        parts = []
        for place, (stratum, quota) in enumerate(zip(strata, quotas.tolist(), strict=True)):
            if quota:
                part = _part(planner, stratum, quota, seed, report)
                parts.append((stratum, part, np.flatnonzero(sources == place)[: len(part.indices)]))
        places = np.argsort(np.concatenate([where for _, _, where in parts]))
        layers = [part.layers for _, part, _ in parts if part.layers is not None]
        return Ordered(
            np.concatenate([stratum.rows[part.indices] for stratum, part, _ in parts]),
            np.concatenate([part.gains for _, part, _ in parts]),
            {"strata": {_name(stratum): part.diagnostics for stratum, part, _ in parts}},
            np.concatenate(layers) if layers else None,
        ).take(places)

    return order


def _part(planner: Planner, stratum: Stratum, quota: int, seed: int, report: Report) -> Ordered:
    try:
        return Ordered.of(planner.plan(stratum.candidates, quota, _generator(seed), report))
    except InvalidInput as error:
        message = f"stratum {_name(stratum)}: {error.message}"
        raise type(error)(message, errors=error.errors) from error


def _name(stratum: Stratum) -> str:
    return "null" if stratum.name is None else stratum.name


def within_cost(
    order: Order,
    costs: Float64s,
    max_cost: float,
    rows: Int64s,
    *,
    nested: bool,
    report: Report = silent,
) -> Ordered:
    """Plan for what labelling may cost.

    Parameters
    ----------
    order : callable
    costs : float64 array, shape (n,)
        Of every row; at least 0 where it can be planned.
    max_cost : float
    rows : int64 array, shape (m,)
        Rows that can be planned.
    nested : bool
        Whether the first rows of a larger plan are the smaller plan.
    report : callable
        Told how far each plan is.

    Returns
    -------
    Ordered
        Where plans are nested, the rows of the order that can be paid for, each that is too dear passed over.
        Otherwise the largest plan that can be paid for, among those that bisection looks at; or the one that
        is larger by one row, each that is too dear passed over, if more rows remain. If no plan can be paid
        for, the rows that can be of the largest one that might.

    Notes
    -----
    A nested plan is made again, twice as large, until what is left buys no row at all or no row is left; any
    other plan is made for O(log n) sizes.
    """
    return (_nested if nested else _bisected)(order, costs, max_cost, rows, report)


def _nested(order: Order, costs: Float64s, max_cost: float, rows: Int64s, report: Report) -> Ordered:
    most = len(rows)
    mean = float(np.mean(costs[rows]))
    size = most if mean <= 0 else max(1, min(most, math.ceil(1.2 * max_cost / mean)))
    while True:
        planned = order(size, report)
        taken = affordable(costs[planned.indices], max_cost)
        left = max_cost - float(costs[planned.indices][taken].sum())
        beyond = costs[np.setdiff1d(rows, planned.indices)]
        if size >= most or not len(beyond) or left < beyond.min():
            return planned.take(taken)
        size = min(2 * size, most)


def _bisected(order: Order, costs: Float64s, max_cost: float, rows: Int64s, report: Report) -> Ordered:
    # No plan is larger than the cheapest rows allow.
    high = most = int(affordable(np.sort(costs[rows]), max_cost).sum())
    low, best = 0, Ordered(np.empty(0, np.int64), np.empty(0, np.float64))
    while low < high:
        middle = (low + high + 1) // 2
        planned = order(middle, report)
        if costs[planned.indices].sum() <= max_cost:
            low, best = middle, planned
        else:
            high = middle - 1
    larger = low + 1 if low else most
    if 0 < larger <= len(rows):
        planned = order(larger, report)
        rest = planned.take(affordable(costs[planned.indices], max_cost))
        if len(rest.indices) > len(best.indices):
            return rest
    return best


def _generator(seed: int) -> np.random.Generator:
    return np.random.Generator(np.random.PCG64(seed))
