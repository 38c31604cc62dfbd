"""Layers of rows for a model to label, as a planner."""

import numpy as np
import pytest

from kshot.errors import InvalidInput
from kshot.selectors.annotation import PLANNERS, NeighbourGraph, PlanCandidates


def chain(n):
    """Every row points at the next one, the last at itself's predecessor, always successfully."""
    indices = np.array([[min(i + 1, n - 2) if i == n - 1 else i + 1] for i in range(n)], np.int32)
    return NeighbourGraph(indices, np.ones((n, 1), np.float32), center=False)


def planned(labelled, budget, n=6):
    mask = np.zeros(n, np.bool_)
    mask[labelled] = True
    candidates = PlanCandidates(labelled=mask, graph=chain(n))
    return PLANNERS.get("auto_ideal")().plan(candidates, budget, np.random.default_rng(0))


def test_rows_come_in_the_layers_in_which_they_are_reached():
    picks = planned([0, 3], 9)
    # 0 reaches 1 and 3 reaches 4; then 1 reaches 2 and 4 reaches 5; then nothing new is left.
    assert picks.indices.tolist() == [1, 4, 2, 5]
    assert picks.diagnostics["layers"] == [2, 2]
    assert picks.gains.tolist() == [1.0] * 4


def test_the_budget_cuts_the_last_layer():
    picks = planned([0, 3], 3)
    assert picks.indices.tolist() == [1, 4, 2]
    assert picks.diagnostics["layers"] == [2, 1]


def test_without_labels_there_is_nothing_to_start_from():
    with pytest.raises(InvalidInput, match="labelled examples, and none takes part"):
        planned([], 3)
