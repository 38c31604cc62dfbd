"""MIG: against the formulas written out with dense matrices."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.sparse import csr_array

from kshot.errors import InvalidParameter, InvalidShape
from kshot.selectors import mig
from kshot.selectors.annotation import PlanCandidates
from kshot.selectors.annotation.mig import Mig, propagation
from tests import oracles
from tests.test_selectors.test_annotation.graphs import Reports, Stopped, scaled


def carried(*rows, tags=None):
    tags = max((tag for row in rows for tag in row), default=-1) + 1 if tags is None else tags
    matrix = np.zeros((len(rows), tags), np.bool_)
    for i, row in enumerate(rows):
        matrix[i, list(row)] = True
    return csr_array(matrix)


def random_tags(seed, n=40, tags=9, density=0.3):
    """Tags of which some are alike, and rows that carry some of them."""
    rng = np.random.default_rng(seed)
    vectors = np.repeat(rng.standard_normal((3, 6)), 3, axis=0) + 0.2 * rng.standard_normal((9, 6))
    return csr_array(rng.random((n, tags)) < density), vectors[:tags], rng.uniform(0.1, 3.0, n)


def test_each_unused_tag_comes_first_where_tags_are_unrelated():
    rows = carried([0], [0], [1], [0], [2], [1], [2])
    picks = mig(rows, np.eye(3), 7)
    assert picks.indices.tolist() == [0, 2, 4, 1, 5, 6, 3]
    # A tag is worth (1 + a) ** b - a ** b the first time, then less.
    first, second, third = np.diff([(t + 1e-6) ** 0.8 for t in range(4)])
    assert picks.gains.tolist() == pytest.approx([first] * 3 + [second] * 3 + [third])
    slope = [0.8 * (t + 1e-6) ** -0.2 for t in range(3)]
    assert picks.scores.tolist() == pytest.approx([slope[0]] * 3 + [slope[1]] * 3 + [slope[2]])
    assert picks.diagnostics["information"] == pytest.approx(picks.gains.sum())


def test_information_is_passed_on_by_columns():
    # Tags 0 and 1 have a cosine of 0.96, tag 2 none above 0.9. Column 0 of W sums to 1 + 0.96 / 2.
    P = propagation(scaled(np.array([[1, 0], [0.96, 0.28], [0, 1.0]])), 0.9, 0.5).toarray()
    np.testing.assert_allclose(P, np.array([[1, 0.48, 0], [0.48, 1, 0], [0, 0, 1.48]]) / 1.48, atol=1e-12)
    hub = propagation(scaled(np.array([[1, 0.0], [1, 0.4], [1, -0.4]])), 0.9, 1.0).toarray()
    # Row 0 is near both others, which are not near each other: what it passes on is not what it gets.
    near = 1 / np.sqrt(1.16)
    assert hub[0].tolist() == pytest.approx([1 / (1 + 2 * near), near / (1 + near), near / (1 + near)])
    assert hub[1].tolist() == pytest.approx([near / (1 + 2 * near), 1 / (1 + near), 0])


@pytest.mark.parametrize(("threshold", "weight"), [(0.9, 0.0), (1.0, 1.0)])
def test_nothing_is_passed_on_without_weight_or_below_the_threshold(threshold, weight):
    P = propagation(scaled(np.array([[1, 0], [0.96, 0.28], [0, 1.0]])), threshold, weight)
    np.testing.assert_array_equal(P.toarray(), np.eye(3))


def test_tags_that_mean_the_same_pass_a_threshold_of_one():
    same = scaled(np.random.default_rng(0).standard_normal((1, 7))).repeat(2, axis=0)
    np.testing.assert_allclose(propagation(same, 1.0, 1.0).toarray(), np.full((2, 2), 0.5))


@pytest.mark.parametrize("seed", range(12))
def test_picks_are_those_of_slopes_computed_afresh(seed):
    tags, vectors, quality = random_tags(seed)
    labelled = list(range(seed % 3))
    weight = [1.0, 0.4, 2.0][seed % 3]
    picks = mig(tags, vectors, 38, quality, labelled=np.array(labelled, np.int64), prop_weight=weight)
    expected, slopes, information = oracles.mig(
        tags.toarray(), vectors, 40 - len(labelled), quality, labelled, weight=weight
    )
    assert picks.indices.tolist() == expected[:38]
    np.testing.assert_allclose(picks.scores, slopes[:38], atol=1e-5)
    np.testing.assert_allclose(picks.gains, information[:38], atol=1e-9)
    assert (np.diff(picks.scores) <= 1e-9).all()


def test_long_plans_do_not_drift():
    tags, vectors, quality = random_tags(5, n=700, density=0.2)
    picks = mig(tags, vectors, 700, quality)
    expected, slopes, _ = oracles.mig(tags.toarray(), vectors, 700, quality)
    assert picks.indices.tolist() == expected
    np.testing.assert_allclose(picks.scores, slopes, atol=1e-9)


def test_one_tag_and_the_same_in_parts_tie():
    # All rows say as much as each other at first, whatever the rounding of thirds and sevenths.
    rows = carried([0, 1, 2, 3, 4, 5, 6], [7, 8, 9], [10])
    assert mig(rows, np.eye(11), 3).indices.tolist() == [0, 1, 2]
    assert mig(rows[[2, 1, 0]], np.eye(11), 3).indices.tolist() == [0, 1, 2]


@given(seed=st.integers(0, 50), row=st.integers(0, 39))
def test_a_better_row_is_picked_no_later(seed, row):
    tags, vectors, quality = random_tags(seed)
    better = np.where(np.arange(40) == row, 2 * quality, quality)
    place = mig(tags, vectors, 40, quality).indices.tolist().index(row)
    assert mig(tags, vectors, 40, better).indices.tolist().index(row) <= place


def test_rows_without_tags_come_last():
    picks = mig(carried([], [0], [], [0]), [[1.0]], 4, [9.0, 1.0, 9.0, 1.0])
    assert picks.indices.tolist() == [1, 3, 0, 2]
    assert picks.gains[2:].tolist() == picks.scores[2:].tolist() == [0, 0]
    assert mig(carried([], [], tags=0), np.empty((0, 4)), 2).indices.tolist() == [0, 1]


def test_what_is_labelled_is_known():
    rows = carried([0], [0], [1])
    assert mig(rows, np.eye(2), 1, labelled=np.array([0])).indices.tolist() == [2]
    # A label on a tag that means nearly the same counts as well.
    near = scaled(np.array([[1.0, 0.1], [1.0, 0.0], [0.0, 1.0]]))
    assert mig(carried([0], [1], [2]), near, 1, labelled=np.array([0])).indices.tolist() == [2]


def test_any_number_but_zero_is_a_tag():
    counts = csr_array(np.array([[5, 0], [0, 1], [1, 1]]))
    counts.data[1] = 0
    picks = mig(counts, np.eye(2), 3)
    assert picks.indices.tolist() == mig(carried([0], [], [0, 1]), np.eye(2), 3).indices.tolist()
    assert picks.gains.tolist() == mig(carried([0], [], [0, 1]), np.eye(2), 3).gains.tolist()
    assert counts.data.tolist() == [5, 0, 1, 1]


def test_the_planner_passes_its_parameters_on():
    tags, vectors, quality = random_tags(3)
    candidates = PlanCandidates(np.arange(40) < 2, tags=tags, tag_vectors=vectors, quality=quality)
    parameters: dict[str, Any] = {"sim_threshold": 0.95, "prop_weight": 0.5, "phi_a": 0.1, "phi_b": 0.5}
    picks = Mig(**parameters).plan(candidates, 12, np.random.default_rng(0))
    plain = mig(tags, vectors, 12, quality, labelled=np.arange(2), **parameters)
    assert picks.indices.tolist() == plain.indices.tolist()
    for name in parameters:
        changed = {**parameters, name: {"sim_threshold": 1.0, "phi_b": 0.9}.get(name, 3.0)}
        other = Mig(**changed).plan(candidates, 12, np.random.default_rng(0))
        assert other.gains.tolist() != picks.gains.tolist()


def test_progress_is_reported_and_may_be_stopped():
    reports = Reports()
    mig(carried([0], [1], [0]), np.eye(2), 3, report=reports)
    assert reports.seen == [(1, 3), (2, 3), (3, 3)]
    with pytest.raises(Stopped):
        mig(carried([0], [1], [0]), np.eye(2), 3, report=Reports(stop_after=2))


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"budget": 0}, InvalidParameter, "budget is 0"),
        ({"quality": [1.0, 0.0]}, InvalidParameter, r"quality\[1\] is 0"),
        ({"quality": [1.0]}, InvalidShape, "quality has shape"),
        ({"quality": [1.0, np.nan]}, InvalidShape, "quality holds nan"),
        ({"tag_vectors": np.eye(3)}, InvalidShape, "tag_vectors has shape"),
        ({"tag_vectors": [[1.0], [0.0]]}, InvalidShape, "length zero"),
        ({"labelled": np.array([2])}, InvalidShape, "labelled"),
        ({"sim_threshold": 0.0}, InvalidParameter, "sim_threshold is 0.0"),
        ({"sim_threshold": 1.1}, InvalidParameter, "sim_threshold is 1.1"),
        ({"prop_weight": -1.0}, InvalidParameter, "prop_weight is -1.0"),
        ({"phi_a": 0.0}, InvalidParameter, "phi_a is 0.0"),
        ({"phi_b": 1.1}, InvalidParameter, "phi_b is 1.1"),
    ],
)
def test_senseless_input_is_refused(arguments, error, message):
    with pytest.raises(error, match=message):
        mig(**{"tags": carried([0], [1]), "tag_vectors": np.eye(2), "budget": 1, **arguments})
