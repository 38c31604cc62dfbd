"""Orders of rows: what can be paid for, and strata in proportion."""

import numpy as np
import pytest

from kshot.arrays import Picks
from kshot.errors import InvalidParameter
from kshot.selectors.annotation import PlanCandidates
from kshot.selectors.annotation.base import silent
from kshot.selectors.annotation.uniform import RandomRows
from kshot.server.services.planning.runs import Ordered, Stratum, stratified_order, whole_order, within_cost


class Asked:
    """An order that is known beforehand, and the sizes that were asked for."""

    def __init__(self, rows, *, shuffled=False):
        self.rows = np.array(rows, np.int64)
        self.shuffled = shuffled
        self.sizes = []

    def __call__(self, budget, report=None):
        self.sizes.append(budget)
        rows = self.rows[:budget]
        if self.shuffled:  # another order for every size, as of a method whose plans are not nested
            rows = np.roll(rows, budget)
        return Ordered(rows, np.ones(len(rows)))


def spent(costs, ordered):
    return float(np.array(costs)[ordered.indices].sum())


def test_a_nested_plan_passes_over_what_is_too_dear_and_fills_up():
    costs = np.array([3.0, 50.0, 2.0, 4.0, 1.0])
    order = Asked([0, 1, 2, 3, 4])
    found = within_cost(order, costs, 6.0, np.arange(5), nested=True)
    assert found.indices.tolist() == [0, 2, 4]
    # 1.2 * 6 / 12 = 0.6 rows are guessed first, then twice as many until no row is left.
    assert order.sizes == [1, 2, 4, 5]


def test_a_nested_plan_is_not_made_again_once_nothing_more_can_be_bought():
    order = Asked(range(100))
    found = within_cost(order, np.full(100, 2.0), 20.0, np.arange(100), nested=True)
    assert found.indices.tolist() == list(range(10))
    assert order.sizes == [12]


def test_labelled_rows_without_a_cost_do_not_matter():
    costs = np.array([np.nan, 1.0, 1.0, np.nan])
    found = within_cost(Asked([2, 1]), costs, 5.0, np.array([1, 2]), nested=True)
    assert found.indices.tolist() == [2, 1]


def test_rows_without_cost_are_all_planned():
    found = within_cost(Asked(range(4)), np.zeros(4), 1.0, np.arange(4), nested=True)
    assert found.indices.tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize("max_cost", [0.5, 1.0, 7.5, 10.0, 55.0, 1000.0])
def test_other_plans_are_as_large_as_can_be_paid_for(max_cost):
    costs = np.arange(1.0, 11.0)
    order = Asked(range(10), shuffled=True)
    found = within_cost(order, costs, max_cost, np.arange(10), nested=False)
    assert spent(costs, found) <= max_cost
    # Of the first M rows 1 + 2 + ... + M is spent, whatever their order.
    sizes = [m for m in range(11) if m * (m + 1) / 2 <= max_cost]
    assert len(found.indices) == max(sizes)


def test_a_larger_plan_less_its_dearest_rows_beats_a_smaller_one():
    # Two rows cost 4 + 4, within 9. Of three, one is too dear: those left are three less one, so no gain ...
    sizes_to_rows = {1: [0], 2: [0, 1], 3: [0, 1, 2], 4: [3, 4, 5, 6]}
    costs = np.array([4.0, 4.0, 9.0, 1.0, 1.0, 1.0, 9.0])

    def order(budget, report=None):
        rows = np.array(sizes_to_rows[budget])
        return Ordered(rows, np.ones(len(rows)))

    assert within_cost(order, costs, 9.0, np.arange(7), nested=False).indices.tolist() == [0, 1]
    # ... but of another three, all others remain.
    sizes_to_rows[3] = [3, 4, 5, 6]
    assert within_cost(order, costs, 9.0, np.arange(7), nested=False).indices.tolist() == [3, 4, 5]


def test_where_no_plan_can_be_paid_for_some_rows_of_one_are():
    costs = np.array([9.0, 1.0, 1.0, 1.0])
    found = within_cost(Asked(range(4)), costs, 3.0, np.arange(4), nested=False)
    assert found.indices.tolist() == [1, 2]


def strata(sizes, labelled=()):
    mask = np.zeros(sum(sizes), np.bool_)
    mask[list(labelled)] = True
    ends = np.cumsum(sizes)
    return [
        Stratum(f"s{i}", rows := np.arange(end - size, end), PlanCandidates(labelled=mask[rows]))
        for i, (size, end) in enumerate(zip(sizes, ends, strict=True))
    ]


def test_strata_give_rows_in_proportion_and_of_their_own():
    order = stratified_order(RandomRows(), strata([6, 3, 1]), 0)
    found = order(5)
    assert [int(row) for row in np.digitize(found.indices, [6, 9])] == [0, 1, 2, 0, 0]
    assert len(set(found.indices.tolist())) == 5
    assert sorted(order(10).indices.tolist()) == list(range(10))
    assert sorted(found.diagnostics["strata"]) == ["s0", "s1", "s2"]


def test_labelled_rows_of_a_stratum_take_no_share():
    found = stratified_order(RandomRows(), strata([4, 4], labelled=[0, 1, 2, 3]), 0)(3)
    assert (found.indices >= 4).all()


class Ends(RandomRows):
    """A planner that ends by itself: a row for every labelled one, in layers of one."""

    def plan(self, candidates, budget, rng, report=silent):
        if not candidates.labelled.any():
            raise InvalidParameter("nothing is labelled")
        rows = np.flatnonzero(~candidates.labelled)[: min(budget, candidates.labelled.sum())]
        gains = rows.astype(np.float64) + 0.5
        return Picks(rows, gains, gains, {"layers": [1] * len(rows)})


def test_a_planner_that_ends_by_itself_leaves_places_of_its_stratum_empty():
    # s0 has 1 row to give, s1 has 3.
    order = stratified_order(Ends(), strata([8, 8], labelled=[0, 8, 9, 10]), 0, np.array([1.0, 1.0]))
    found = order(8)
    assert found.indices.tolist() == [1, 11, 12, 13]
    assert found.gains.tolist() == [1.5, 3.5, 4.5, 5.5]
    assert found.layers is not None
    assert found.layers.tolist() == [1, 1, 2, 3]
    # The second place of s0 is empty: a smaller plan is the beginning of the larger one.
    assert order(3).indices.tolist() == [1, 11]


def test_a_stratum_that_cannot_be_planned_is_named():
    with pytest.raises(InvalidParameter, match="stratum s1: nothing is labelled"):
        stratified_order(Ends(), strata([4, 4], labelled=[0]), 0)(4)


def test_rows_keep_their_layers_where_others_are_too_dear():
    candidates = PlanCandidates(labelled=np.arange(8) < 4)
    order = whole_order(Ends(), candidates, 0)
    costs = np.array([1.0, 1.0, 1.0, 1.0, 1.0, 9.0, 1.0, 1.0])
    found = within_cost(order, costs, 3.0, np.arange(4, 8), nested=True)
    assert found.indices.tolist() == [4, 6, 7]
    assert found.layers is not None
    assert found.layers.tolist() == [1, 3, 4]


def test_a_plan_is_the_same_whenever_it_is_made():
    candidates = PlanCandidates(labelled=np.zeros(20, np.bool_))
    order = whole_order(RandomRows(), candidates, 7)
    assert order(5).indices.tolist() == order(5).indices.tolist()
    assert whole_order(RandomRows(), candidates, 8)(5).indices.tolist() != order(5).indices.tolist()
