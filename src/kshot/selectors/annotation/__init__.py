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
from kshot.selectors.annotation.fast_vote_k import fast_vote_k
from kshot.selectors.annotation.measuring import coverage_sample, log_budgets
from kshot.selectors.annotation.neighbour_graph import NeighbourGraph
from kshot.selectors.annotation.neighbour_search import extend_graph, knn_graph
from kshot.selectors.annotation.registry import PLANNERS
from kshot.selectors.annotation.vote_k import vote_k

__all__ = [
    "PLANNERS",
    "CoverageCurve",
    "NeighbourGraph",
    "PlanCandidates",
    "Planner",
    "RandomCoverage",
    "coverage_curve",
    "coverage_sample",
    "extend_graph",
    "fast_vote_k",
    "knn_graph",
    "labels_needed",
    "log_budgets",
    "objective_curve",
    "random_coverage",
    "vote_k",
]
