"""Choosing demonstrations: pure algorithms over arrays, one per file.

Use them through the registry (``SELECTORS.get("dpp")(lam=0.02).select(candidates, k, rng)``) or, without any
server, as the plain functions over arrays that are exported here.
"""

from kshot.selectors.base import Selector
from kshot.selectors.coverage import coverage_greedy
from kshot.selectors.determinantal import dpp_map, relevance_kernel_factors
from kshot.selectors.fusion import reciprocal_rank_fusion, standardise
from kshot.selectors.late_interaction import bsr_scores, maxsim
from kshot.selectors.lexical import Bm25Matrix, Bm25Variant, bm25_contributions, bm25_scores
from kshot.selectors.mmr import mmr
from kshot.selectors.ordering import PromptOrder, prompt_order
from kshot.selectors.packing import PackingPolicy, pack
from kshot.selectors.ranking import top_k
from kshot.selectors.registry import SELECTORS, Registry
from kshot.selectors.representative import facility_location

__all__ = [
    "SELECTORS",
    "Bm25Matrix",
    "Bm25Variant",
    "PackingPolicy",
    "PromptOrder",
    "Registry",
    "Selector",
    "bm25_contributions",
    "bm25_scores",
    "bsr_scores",
    "coverage_greedy",
    "dpp_map",
    "facility_location",
    "maxsim",
    "mmr",
    "pack",
    "prompt_order",
    "reciprocal_rank_fusion",
    "relevance_kernel_factors",
    "standardise",
    "top_k",
]
