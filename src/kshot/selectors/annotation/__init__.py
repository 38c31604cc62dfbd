"""Planning what to label: pure algorithms over arrays, one per file.

Use them through the registry (``PLANNERS.get("fast_vote_k")().plan(candidates, budget, rng)``) or as the
plain functions over arrays that `kshot.selectors` exports.
"""

from kshot.selectors.annotation.base import PlanCandidates, Planner
from kshot.selectors.annotation.cascade import CascadeLayers, ideal_layers
from kshot.selectors.annotation.curve import (
    CoverageCurve,
    RandomCoverage,
    coverage_curve,
    labels_needed,
    objective_curve,
    random_coverage,
)
from kshot.selectors.annotation.dispersion import max_sum_dispersion
from kshot.selectors.annotation.dpp_diversity import dpp_diversity, log_det_distance
from kshot.selectors.annotation.facility_location import facility_location
from kshot.selectors.annotation.fast_vote_k import fast_vote_k
from kshot.selectors.annotation.ideal import ideal
from kshot.selectors.annotation.k_center import k_center
from kshot.selectors.annotation.k_means import k_means
from kshot.selectors.annotation.least_confidence import least_confidence
from kshot.selectors.annotation.measuring import coverage_sample, log_budgets
from kshot.selectors.annotation.mig import mig
from kshot.selectors.annotation.neighbour_graph import NeighbourGraph
from kshot.selectors.annotation.neighbour_search import extend_graph, knn_graph
from kshot.selectors.annotation.registry import PLANNERS
from kshot.selectors.annotation.sensitivity import sensitivity
from kshot.selectors.annotation.structurally_diverse import structurally_diverse
from kshot.selectors.annotation.uniform import random_rows
from kshot.selectors.annotation.vote_k import vote_k

__all__ = [
    "PLANNERS",
    "CascadeLayers",
    "CoverageCurve",
    "NeighbourGraph",
    "PlanCandidates",
    "Planner",
    "RandomCoverage",
    "coverage_curve",
    "coverage_sample",
    "dpp_diversity",
    "extend_graph",
    "facility_location",
    "fast_vote_k",
    "ideal",
    "ideal_layers",
    "k_center",
    "k_means",
    "knn_graph",
    "labels_needed",
    "least_confidence",
    "log_budgets",
    "log_det_distance",
    "max_sum_dispersion",
    "mig",
    "objective_curve",
    "random_coverage",
    "random_rows",
    "sensitivity",
    "structurally_diverse",
    "vote_k",
]
