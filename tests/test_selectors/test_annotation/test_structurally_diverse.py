"""Structural diversity: every pick is checked against counts made anew."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.sparse import csr_array
from scipy.stats import chi2

from kshot.errors import InvalidParameter, InvalidShape
from kshot.selectors import structurally_diverse
from kshot.selectors.annotation.structurally_diverse import StructureCycle
from tests.strategies import grid
from tests.test_selectors.test_annotation.graphs import Reports, Stopped


def bags(*rows):
    """One row of counts for each string of letters."""
    letters = sorted(set("".join(rows)))
    return csr_array(np.array([[row.count(letter) for letter in letters] for row in rows], np.int64))


@st.composite
def count_matrices(draw, max_rows=8):
    shape = (draw(st.integers(1, max_rows)), draw(st.integers(0, 5)))
    return draw(grid(shape, -2, 3)).clip(min=0).astype(np.int64)


def check(counts, picks, templates=None, labelled=()):
    """Walk through a plan as the published procedure prescribes it; return the cycles it completes."""
    left = [i for i in range(len(counts)) if i not in labelled]
    covered = {c for i in labelled for c in np.flatnonzero(counts[i])}
    ever = set(covered)
    used = {templates[i] for i in labelled} if templates is not None else set()
    cycles = 0
    for step, (row, gain) in enumerate(zip(picks.indices.tolist(), picks.gains.tolist(), strict=True)):
        weights = counts[left].sum(axis=0)
        assert (weights >= 0).all()
        present = set(np.flatnonzero(weights))
        if present <= covered:
            covered = set()
        if templates is not None and {templates[i] for i in left} <= used:
            used = set()
        own = set(np.flatnonzero(counts[row]))
        if not present:
            assert picks.diagnostics["filled"] == len(picks) - step
            assert set(picks.indices[step:].tolist()) <= set(left)
            break
        heaviest = max(weights[c] for c in present - covered)
        reasons = [c for c in own - covered if weights[c] == heaviest]
        assert reasons
        if templates is not None and templates[row] in used:
            # Of some structure that may have been the reason, no row has a template that was not used.
            assert any(all(templates[i] in used for i in left if counts[i, c]) for c in reasons)
        assert gain == len(own - ever)
        left.remove(row)
        covered |= own
        ever |= own
        if templates is not None:
            used.add(templates[row])
        cycles += set(np.flatnonzero(counts[left].sum(axis=0))) <= covered
    assert picks.diagnostics["covered"] == len(ever)
    assert picks.diagnostics["cycles"] == cycles


def test_frequent_structures_come_first_and_then_all_over_again():
    counts = bags(*["a"] * 10, *["b"] * 5, "c")
    picks = structurally_diverse(counts, 8)
    kinds = ["abc"[0 if row < 10 else 1 if row < 15 else 2] for row in picks.indices]
    # 9, 4 and 0 occurrences are left after the first cycle.
    assert kinds == ["a", "b", "c", "a", "b", "a", "b", "a"]
    assert picks.gains.tolist() == [1, 1, 1, 0, 0, 0, 0, 0]
    assert picks.diagnostics == {"covered": 3, "structures": 3, "cycles": 3, "filled": 0}


def test_occurrences_count_and_not_rows():
    assert structurally_diverse(bags("b", "b", "aaa"), 1).indices.tolist() == [2]


def test_a_row_covers_all_that_it_has():
    # Row 0 is taken for a and brings b along, so that c is next although b is left twice and c once.
    picks = structurally_diverse(bags("aaaab", "c", "bb"), 3)
    assert picks.indices.tolist() == [0, 1, 2]
    assert picks.gains.tolist() == [2, 1, 0]


@given(counts=count_matrices(), data=st.data())
def test_every_pick_is_for_the_most_frequent_structure_that_is_not_covered(counts, data):
    n = len(counts)
    labelled = sorted(data.draw(st.sets(st.integers(0, n - 1), max_size=3)))
    templates = data.draw(st.none() | st.lists(st.integers(0, 2), min_size=n, max_size=n))
    budget, seed = data.draw(st.integers(1, n + 1)), data.draw(st.integers(0, 5))
    picks = structurally_diverse(
        csr_array(counts), budget, seed, templates, labelled=np.array(labelled, np.int64)
    )
    assert len(picks) == min(budget, n - len(labelled))
    check(counts, picks, templates, labelled)


@given(counts=count_matrices(), data=st.data())
def test_weights_are_the_occurrences_that_remain(counts, data):
    labelled = np.array(data.draw(st.lists(st.booleans(), min_size=len(counts), max_size=len(counts))))
    matrix = csr_array(counts)
    matrix.eliminate_zeros()
    cycle = StructureCycle(matrix, labelled, np.random.default_rng(0))
    for row in data.draw(st.permutations(np.flatnonzero(~labelled).tolist())):
        assert cycle.weights.tolist() == counts[cycle.left].sum(axis=0).tolist()
        cycle.take(row)
    assert not cycle.weights.any()
    assert cycle.most_frequent() is None


def test_templates_take_turns():
    counts = bags(*["a"] * 6)
    templates = [7, 7, 7, 7, 3, 5]
    for seed in range(20):
        picks = structurally_diverse(counts, 6, seed, templates)
        assert sorted(templates[i] for i in picks.indices[:3]) == [3, 5, 7]
    # A labelled row has had the turn of its template.
    first = {
        structurally_diverse(counts, 2, seed, templates, labelled=np.array([0])).indices[0]
        for seed in range(20)
    }
    assert first == {4, 5}


def test_rare_structures_can_be_left_out():
    counts = bags("ab", "a", "c", "cd")
    assert structurally_diverse(counts, 4).diagnostics["structures"] == 4
    picks = structurally_diverse(counts, 4, min_freq=2)
    assert picks.diagnostics["structures"] == picks.diagnostics["covered"] == 2
    check(counts.toarray()[:, [0, 2]], picks)
    nothing = structurally_diverse(counts, 4, min_freq=3)
    assert nothing.diagnostics == {"covered": 0, "structures": 0, "cycles": 0, "filled": 4}


def test_rows_without_structures_come_last_at_random():
    counts = csr_array(np.array([[0], [1], [0], [1], [0]]))
    plans = {tuple(structurally_diverse(counts, 5, seed).indices.tolist()) for seed in range(100)}
    assert len(plans) == 12
    assert all(set(plan[:2]) == {1, 3} for plan in plans)


def test_the_row_of_a_structure_and_ties_of_structures_are_drawn_evenly():
    # Structures a and b tie; of both, one of two rows is taken.
    counts = bags("a", "a", "b", "b")
    drawn = Counter(int(structurally_diverse(counts, 1, seed).indices[0]) for seed in range(2000))
    assert sum((drawn[row] - 500) ** 2 / 500 for row in range(4)) < chi2.ppf(0.999, 3)


def test_what_is_labelled_need_not_be_covered_first():
    counts = bags("a", "a", "a", "b")
    assert structurally_diverse(counts, 1, labelled=np.array([0])).indices.tolist() == [3]
    everything = structurally_diverse(counts, 1, labelled=np.array([0, 3]))
    assert everything.gains.tolist() == [0]
    assert everything.diagnostics["covered"] == 2


def test_the_seed_decides_and_smaller_plans_begin_larger_ones():
    counts = csr_array(np.random.default_rng(0).poisson(0.3, (60, 30)))
    whole = structurally_diverse(counts, 60, 5).indices.tolist()
    assert sorted(whole) == list(range(60))
    for budget in (1, 10, 40):
        assert structurally_diverse(counts, budget, 5).indices.tolist() == whole[:budget]
    assert structurally_diverse(counts, 60, 6).indices.tolist() != whole
    check(counts.toarray(), structurally_diverse(counts, 60, 5))


def test_inputs_may_be_untidy_and_stay_as_they_are():
    # An explicit zero, and a structure counted in two places.
    untidy = csr_array(
        (np.array([1, 0, 1, 1, 2]), np.array([0, 1, 1, 1, 0]), np.array([0, 2, 4, 5])), shape=(3, 2)
    )
    before = untidy.data.copy(), untidy.indices.copy(), untidy.indptr.copy()
    tidy = structurally_diverse(csr_array(np.array([[1, 0], [0, 2], [2, 0]])), 3, 2)
    assert structurally_diverse(untidy, 3, 2).indices.tolist() == tidy.indices.tolist()
    after = untidy.data, untidy.indices, untidy.indptr
    assert all(np.array_equal(a, b) for a, b in zip(before, after, strict=True))


def test_progress_is_reported_and_may_be_stopped():
    reports = Reports()
    structurally_diverse(bags("a", "b", "c"), 3, report=reports)
    assert reports.seen == [(1, 3), (2, 3), (3, 3)]
    with pytest.raises(Stopped):
        structurally_diverse(bags("a", "b", "c"), 3, report=Reports(stop_after=2))


def test_senseless_input_is_refused():
    with pytest.raises(InvalidParameter, match="budget is 0"):
        structurally_diverse(bags("a"), 0)
    with pytest.raises(InvalidParameter, match="min_freq is 0"):
        structurally_diverse(bags("a"), 1, min_freq=0)
    with pytest.raises(InvalidParameter, match="count of -1"):
        structurally_diverse(csr_array(np.array([[-1]])), 1)
    with pytest.raises(InvalidShape, match="template_ids"):
        structurally_diverse(bags("a"), 1, 0, [1, 2])
    with pytest.raises(InvalidShape, match="labelled"):
        structurally_diverse(bags("a"), 1, labelled=np.array([1]))
    assert len(structurally_diverse(csr_array((0, 3), dtype=np.int64), 1)) == 0
