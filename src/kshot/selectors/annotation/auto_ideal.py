"""Auto-IDEAL: what a model may label once people have labelled a few."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from kshot.arrays import Picks
from kshot.errors import InvalidInput
from kshot.selectors.annotation.base import (
    GraphSpec,
    PlanCandidates,
    PlanFeature,
    Report,
    planned,
    require_budget,
    require_feature,
    silent,
)
from kshot.selectors.annotation.cascade import ideal_layers
from kshot.selectors.annotation.registry import PLANNERS
from kshot.selectors.base import check_parameters, parameter


@PLANNERS.register("auto_ideal")
@dataclass(frozen=True, slots=True)
class AutoIdeal:
    """Rows that the labelled ones reach, layer by layer: for a model to label, helped by the layers before.

    One cascade from the labelled rows; see `ideal_layers` for the rule and its source. It ends by itself, so
    there may be fewer picks than the budget. Gains are 1 per row; diagnostics give the size of each of the
    ``layers``, the first of them reached by labelled rows.
    """

    nested: ClassVar[bool] = True
    needs: ClassVar[frozenset[PlanFeature]] = frozenset({PlanFeature.GRAPH})
    wants: ClassVar[frozenset[PlanFeature]] = frozenset()

    n_neighbors: int = parameter(10, description="Neighbours that every row may influence.", ge=1)
    center: bool = parameter(
        True, description="Compare rows by how they differ from the mean of the pool, not from zero."
    )

    def __post_init__(self) -> None:
        check_parameters(self)

    @property
    def graph(self) -> GraphSpec:
        """Neighbours that are influenced."""
        return GraphSpec(self.n_neighbors, self.center)

    def plan(
        self, candidates: PlanCandidates, budget: int, rng: np.random.Generator, report: Report = silent
    ) -> Picks:
        """Return at most ``min(budget, unlabelled)`` picks.

        Raises
        ------
        InvalidInput
            No row is labelled.
        """
        require_budget(budget)
        if not candidates.labelled.any():
            raise InvalidInput("auto_ideal starts from labelled examples, and none takes part")
        graph = require_feature(candidates.graph, PlanFeature.GRAPH)
        report(0, budget)
        found = ideal_layers(graph, candidates.labelled, int(rng.integers(2**31)), budget)
        sizes = np.bincount(found.layers)[1:].tolist()
        return planned(found.rows, np.ones(len(found)), {"layers": sizes, "graph_recall": graph.recall})
