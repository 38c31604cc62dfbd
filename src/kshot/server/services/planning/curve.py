"""The budget curve of a plan, beside what others would make of the same budget."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kshot.arrays import Bools, Float32s, Int64s, Picks
from kshot.schemas.curves import (
    BudgetCurve,
    CurvePoint,
    LabelsNeeded,
    ObjectivePoint,
    RandomPoint,
    RandomSeries,
)
from kshot.selectors import (
    CoverageCurve,
    RandomCoverage,
    coverage_curve,
    coverage_sample,
    labels_needed,
    log_budgets,
    objective_curve,
    random_coverage,
)
from kshot.selectors.annotation.base import Report, labelled_mask, silent
from kshot.selectors.annotation.k_center import k_center

SHARE = 0.9
"""Share of the coverage of labelling everything that is asked for."""
MOST_LABELS = 20_000
"""Labels up to which an order is followed to find where it reaches the share, unless the plan is longer."""
MOST_STEPS = 250_000_000
"""Most rows, times labels, of a plan that is gone on with: some planners look at all rows for every label."""
MOST_MEASURED = 10_000
"""Rows that coverage is measured on: their mean is known to about 0.001."""
SEEDS = 20
_SCOUTS = 3
"""Random orders that tell how far to follow all of them."""
_MARGIN = 1.05
_K_CENTER_STEPS = 30_000_000
"""Most rows, times labels, that k-center may look at: at 384 dimensions half a minute on one core."""
_DIGITS = 6
_PARTS = 1000

Extend = Callable[[int], Picks]
"""Plan again, the same way but for a larger budget: the plan so far comes first."""


def budget_curve(
    vectors: Float32s,
    picks: Picks,
    labelled: NDArray[Any] | None,
    *,
    method: str,
    extend: Extend | None = None,
    seed: int = 0,
    report: Report = silent,
) -> BudgetCurve:
    """Measure what each label of a plan buys, and how many it takes for `SHARE` of the coverage of all.

    Parameters
    ----------
    vectors : float32 array, shape (n, d)
        Unit rows, not centred.
    picks : Picks
        The plan: rows that are not labelled, in the order in which to label.
    labelled : bool array, shape (n,), or int array, or None
        Rows that were labelled before, as mask or row numbers.
    method : str
        The planner's name.
    extend : callable or None
        For nested planners: lets the question be answered where the plan is too short for it.
    seed : int
        Decides about the measured rows and the random orders.
    report : callable
        Told of thousandths of the work; raising in it stops.

    Notes
    -----
    With m measured rows, c labels followed, and r random labels followed, O(m c d + m u d + seeds m r) time,
    where u <= n rows stand in the random orders; k-center comes on top. Nothing of shape (n, n) is made.
    """
    mask = labelled_mask(labelled, len(vectors))
    unlabelled = int(np.count_nonzero(~mask))
    sample = coverage_sample(len(vectors), labelled=mask, most=MOST_MEASURED, seed=seed)
    pool = _Measured(vectors, mask, sample, min(unlabelled, max(MOST_LABELS, len(picks))), seed)
    followed, needed = pool.follow(picks, extend, _part(report, 0.0, 0.3))
    random, random_needed = pool.at_random([len(picks), needed, len(followed)], _part(report, 0.3, 0.8))
    budgets = random.budgets
    path = pool.curve(followed.indices, budgets[budgets <= len(followed)], _part(report, 0.8, 0.9))
    is_own = method == "k_center"
    rival = path if is_own else pool.k_center(budgets[budgets <= len(picks)], _part(report, 0.9, 1.0))
    report(_PARTS, _PARTS)
    return BudgetCurve(
        method=method,
        budget=len(picks),
        labelled=len(mask) - unlabelled,
        unlabelled=unlabelled,
        rows_measured=len(sample),
        points=_points(path),
        random=RandomSeries(seeds=random.seeds, points=_random_points(random)),
        k_center=None if rival is None else [one for one in _points(rival) if one.budget <= len(picks)],
        objective=_objective(followed, path.budgets),
        needed=LabelsNeeded(
            share=SHARE,
            budget=needed,
            random_budget=random_needed,
            tried=len(followed),
            random_tried=pool.limit if random_needed is None else len(random.each) - 1,
            sentence=_sentence(pool, followed, path, random, (needed, random_needed)),
        ),
    )


@dataclass(frozen=True, slots=True)
class _Measured:
    """A pool's vectors, its labelled rows, the rows to measure, and how many labels to follow at most."""

    vectors: Float32s
    mask: Bools
    sample: Int64s
    limit: int
    seed: int

    @property
    def has_labels(self) -> bool:
        return bool(self.mask.any())

    def grid(self, end: int, *marks: int | None) -> Int64s:
        """Return the budgets to show: up to ``end``, marks among them, 0 where there is a state before."""
        also = [one for one in marks if one is not None and 0 < one <= end]
        also += [0] if self.has_labels else []
        return np.unique(np.concatenate([log_budgets(end), np.array(also, np.int64)]))

    def curve(self, order: Int64s, budgets: Int64s, report: Report) -> CoverageCurve:
        """Measure an order up to the last of the budgets."""
        return coverage_curve(
            self.vectors,
            order[: budgets.max(initial=0)],
            budgets,
            labelled=self.mask,
            sample=self.sample,
            report=report,
        )

    def follow(self, picks: Picks, extend: Extend | None, report: Report) -> tuple[Picks, int | None]:
        """Make the plan longer until it reaches the share, or cannot; return it, and how many it needs."""
        limit = min(self.limit, MOST_STEPS // max(1, len(self.mask)))
        done = 0.0
        while True:
            # Each plan is twice as long as the one before: half of what is left is its share of the work.
            part = _part(report, done, (1 + done) / 2)
            done = (1 + done) / 2
            needed = labels_needed(self.curve(picks.indices, self.grid(len(picks)), part), SHARE)
            if needed is not None or extend is None or len(picks) >= limit:
                return picks, needed
            longer = extend(min(max(1, 2 * len(picks)), limit))
            if len(longer) <= len(picks) or (longer.indices[: len(picks)] != picks.indices).any():
                # Not this plan, gone on with: it has nothing to say about this plan's labels.
                return picks, None
            picks = longer

    def at_random(self, marks: list[int | None], report: Report) -> tuple[RandomCoverage, int | None]:
        """Follow random orders past the share, if they reach it; return them, and how many that takes.

        ``marks`` are the plan's length, what it needs, if that is known, and how far it was followed.
        """
        planned, needed, followed = marks
        scouts = self._random(self.grid(self.limit), _SCOUTS, _part(report, 0.0, 0.2))
        guess = labels_needed(scouts, SHARE)
        end = max(planned or 0, (followed if needed is None else needed) or 0)
        end = max(end, 0 if guess is None else min(self.limit, math.ceil(_MARGIN * guess)))
        random = self._random(self.grid(end, *marks), SEEDS, _part(report, 0.2, 0.9))
        random_needed = labels_needed(random, SHARE)
        if random_needed is None and guess is not None and end < self.limit:
            # The scouts were luckier than all orders together.
            longer = self.grid(min(self.limit, 2 * end), *marks)
            random = self._random(longer, SEEDS, _part(report, 0.9, 1.0))
            random_needed = labels_needed(random, SHARE)
        return random, random_needed

    def _random(self, budgets: Int64s, seeds: int, report: Report) -> RandomCoverage:
        return random_coverage(
            self.vectors,
            budgets,
            seeds,
            labelled=self.mask,
            sample=self.sample,
            seed=self.seed,
            report=report,
        )

    def k_center(self, budgets: Int64s, report: Report) -> CoverageCurve | None:
        """Plan with k-center among measured and labelled rows and measure that; None if it takes too long."""
        rows = np.union1d(self.sample, np.flatnonzero(self.mask))
        budgets = budgets[budgets <= np.count_nonzero(~self.mask[rows])]
        wanted = int(budgets.max(initial=0))
        if not wanted or len(rows) * (wanted + np.count_nonzero(self.mask)) > _K_CENTER_STEPS:
            return None
        picks = k_center(self.vectors[rows], wanted, labelled=self.mask[rows], report=_part(report, 0.0, 0.9))
        return self.curve(rows[picks.indices], budgets, _part(report, 0.9, 1.0))


def _sentence(
    pool: _Measured,
    followed: Picks,
    path: CoverageCurve,
    random: RandomCoverage,
    needed: tuple[int | None, int | None],
) -> str:
    """Answer in one line how many labels reach the share."""
    wanted = f"{_percent(SHARE)} of the coverage of labelling everything"
    if not pool.limit:
        return "Everything is labelled."
    if needed[0] == 0:
        return f"What is labelled already reaches {wanted}."
    if needed[0] is not None:
        others = f"more than {pool.limit:,}" if needed[1] is None else f"{needed[1]:,}"
        verb = "reaches" if needed[0] == 1 else "reach"
        return f"{_labels(needed[0], pool)} {verb} {wanted} (random: {others})."
    reached = f"{_percent(path.each[-1])} of the coverage of labelling everything"
    others = _percent(random.each[len(followed)])
    verb = "reaches" if len(followed) == 1 else "reach"
    return (
        f"{_labels(len(followed), pool)} {verb} {reached} (random: {others}); {_percent(SHARE)} takes more."
    )


def _labels(count: int, pool: _Measured) -> str:
    return f"{count:,} {'more ' if pool.has_labels else ''}label{'' if count == 1 else 's'}"


def _percent(share: float) -> str:
    # Rounded down: what is below the share must not read as if it had reached it.
    return f"{math.floor(100 * share + 1e-9)} %"


def _points(curve: CoverageCurve) -> list[CurvePoint]:
    return [
        CurvePoint(budget=budget, mean=round(mean, _DIGITS), p10=round(p10, _DIGITS))
        for budget, mean, p10 in zip(
            curve.budgets.tolist(), curve.mean.tolist(), curve.p10.tolist(), strict=True
        )
    ]


def _random_points(random: RandomCoverage) -> list[RandomPoint]:
    names = ("mean", "mean_low", "mean_high", "p10", "p10_low", "p10_high")
    columns = np.round([getattr(random, name) for name in names], _DIGITS).T.tolist()
    return [
        RandomPoint(budget=budget, **dict(zip(names, values, strict=True)))
        for budget, values in zip(random.budgets.tolist(), columns, strict=True)
    ]


def _objective(picks: Picks, budgets: Int64s) -> list[ObjectivePoint]:
    if not np.isfinite(picks.gains).all():
        return []
    values = objective_curve(picks.gains, budgets).tolist()
    return [
        ObjectivePoint(budget=budget, value=value)
        for budget, value in zip(budgets.tolist(), values, strict=True)
    ]


def _part(report: Report, start: float, end: float) -> Report:
    """Report a piece of the work as its part of the whole."""

    def reported(done: int, total: int) -> None:
        share = start + (end - start) * done / max(total, 1)
        report(round(share * _PARTS), _PARTS)

    return reported
