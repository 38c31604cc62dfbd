"""Planning what to label: pure algorithms over arrays, one per file.

Use them through the registry (``PLANNERS.get("fast_vote_k")().plan(candidates, budget, rng)``) or as the
plain functions over arrays that `kshot.selectors` exports.
"""

from kshot.selectors.annotation.base import PlanCandidates, Planner
from kshot.selectors.annotation.curve import (
    CoverageCurve,
    RandomCoverage,
    coverage_curve,
    labels_needed,
    objective_curve,
    random_coverage,
)
from kshot.selectors.annotation.measuring import coverage_sample, log_budgets
from kshot.selectors.annotation.registry import PLANNERS

__all__ = [
    "PLANNERS",
    "CoverageCurve",
    "PlanCandidates",
    "Planner",
    "RandomCoverage",
    "coverage_curve",
    "coverage_sample",
    "labels_needed",
    "log_budgets",
    "objective_curve",
    "random_coverage",
]
