"""Choosing demonstrations: pure algorithms over arrays, one per file.

Use them through the registry (``SELECTORS.get("dpp")(lam=0.02).select(candidates, k, rng)``) or, without any
server, as the plain functions over arrays that are exported here.
"""

from kshot.selectors.adaptive import GainCurve, adaptive_k
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
from kshot.selectors.annotation.sensitivity import sensitivity
from kshot.selectors.annotation.structurally_diverse import structurally_diverse
from kshot.selectors.annotation.uniform import random_rows
from kshot.selectors.annotation.vote_k import vote_k
from kshot.selectors.base import Selector
from kshot.selectors.bsr import bsr
from kshot.selectors.cds import curriculum
from kshot.selectors.certificate import certified_steps
from kshot.selectors.coverage import coverage_greedy
from kshot.selectors.determinantal import dpp_map, relevance_kernel_factors
from kshot.selectors.fusion import reciprocal_rank_fusion, standardise
from kshot.selectors.health import (
    LabelBalance,
    NearDuplicates,
    SuspectedLabels,
    label_balance,
    near_duplicate_rows,
    suspected_labels,
)
from kshot.selectors.knapsack import coverage_knapsack
from kshot.selectors.late_interaction import bsr_scores, inverse_document_frequency, maxsim
from kshot.selectors.lexical import Bm25Matrix, Bm25Variant, bm25_contributions, bm25_scores
from kshot.selectors.mdl import best_organisation, label_entropy, organisations
from kshot.selectors.mmr import mmr
from kshot.selectors.near_duplicates import select_distinct
from kshot.selectors.nearest import nearest_rows
from kshot.selectors.ordering import PromptOrder, prompt_order
from kshot.selectors.packing import PackingPolicy, pack
from kshot.selectors.ranking import top_k
from kshot.selectors.refinement import coverage_contenders, ranking_contenders
from kshot.selectors.registry import SELECTORS, Registry
from kshot.selectors.set_bm25 import bm25_partial_scores
from kshot.selectors.set_cosine import cosine_partial_scores
from kshot.selectors.sift import sift
from kshot.selectors.structural import structural_recall
from kshot.selectors.structure_cover import covering_picks
from kshot.selectors.votek_overlap import votek_overlap

__all__ = [
    "SELECTORS",
    "Bm25Matrix",
    "Bm25Variant",
    "CascadeLayers",
    "CoverageCurve",
    "GainCurve",
    "LabelBalance",
    "NearDuplicates",
    "NeighbourGraph",
    "PackingPolicy",
    "PromptOrder",
    "RandomCoverage",
    "Registry",
    "Selector",
    "SuspectedLabels",
    "adaptive_k",
    "best_organisation",
    "bm25_contributions",
    "bm25_partial_scores",
    "bm25_scores",
    "bsr",
    "bsr_scores",
    "certified_steps",
    "cosine_partial_scores",
    "coverage_contenders",
    "coverage_curve",
    "coverage_greedy",
    "coverage_knapsack",
    "coverage_sample",
    "covering_picks",
    "curriculum",
    "dpp_diversity",
    "dpp_map",
    "extend_graph",
    "facility_location",
    "fast_vote_k",
    "ideal",
    "ideal_layers",
    "inverse_document_frequency",
    "k_center",
    "k_means",
    "knn_graph",
    "label_balance",
    "label_entropy",
    "labels_needed",
    "least_confidence",
    "log_budgets",
    "log_det_distance",
    "max_sum_dispersion",
    "maxsim",
    "mig",
    "mmr",
    "near_duplicate_rows",
    "nearest_rows",
    "objective_curve",
    "organisations",
    "pack",
    "prompt_order",
    "random_coverage",
    "random_rows",
    "ranking_contenders",
    "reciprocal_rank_fusion",
    "relevance_kernel_factors",
    "select_distinct",
    "sensitivity",
    "sift",
    "standardise",
    "structural_recall",
    "structurally_diverse",
    "suspected_labels",
    "top_k",
    "vote_k",
    "votek_overlap",
]
