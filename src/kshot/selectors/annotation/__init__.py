"""Planning what to label: pure algorithms over arrays, one per file.

Use them through the registry (``PLANNERS.get("fast_vote_k")().plan(candidates, budget, rng)``) or as the
plain functions over arrays that `kshot.selectors` exports.
"""

from kshot.selectors.annotation.base import PlanCandidates, Planner
from kshot.selectors.annotation.registry import PLANNERS

__all__ = ["PLANNERS", "PlanCandidates", "Planner"]
