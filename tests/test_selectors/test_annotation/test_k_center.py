"""Farthest first: against every choice of centres there is, and against distances measured anew."""

import importlib
import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kshot.errors import InvalidParameter, InvalidShape
from kshot.selectors import k_center
from kshot.selectors.annotation.directions import directions
from tests import oracles
from tests.test_selectors.test_annotation.graphs import (
    Reports,
    Stopped,
    crowded_rows,
    random_rows,
    scaled,
)

# The function of that name hides it.
module = importlib.import_module("kshot.selectors.annotation.k_center")


def on_a_circle(*degrees):
    angles = np.deg2rad(degrees)
    return np.stack([np.cos(angles), np.sin(angles)], axis=1)


def chord(degrees):
    return 2 * np.sin(np.deg2rad(degrees) / 2)


def test_it_starts_in_the_middle_and_goes_to_the_farthest():
    picks = k_center(on_a_circle(0, 10, 20, 100, 200), 4)
    # The mean points to about 43 degrees, nearest to 20; from there 200 is opposite, then 100 is 80 away.
    assert picks.indices.tolist() == [2, 4, 3, 0]
    assert picks.scores.tolist() == pytest.approx([2, 2, chord(80), chord(20)])
    assert picks.diagnostics["radius"] == pytest.approx(chord(10))
    # The radius is 2 before any pick and after the first; then it falls to 80, 20 and 10 degrees.
    assert picks.gains.tolist() == pytest.approx(
        [0, 2 - chord(80), chord(80) - chord(20), chord(20) - chord(10)]
    )


@pytest.mark.parametrize("seed", range(20))
def test_the_radius_is_at_most_twice_the_smallest_possible(seed):
    vectors = random_rows(seed, n=12, d=3).astype(np.float64)
    picks = k_center(vectors, 3)
    best = min(oracles.radius(vectors, centers) for centers in itertools.combinations(range(12), 3))
    assert oracles.radius(vectors, picks.indices.tolist()) <= 2 * best
    assert picks.diagnostics["radius"] == pytest.approx(
        oracles.radius(vectors, picks.indices.tolist()), abs=1e-7
    )


@given(vectors=crowded_rows(), data=st.data())
def test_every_pick_is_as_far_as_can_be(vectors, data):
    n = len(vectors)
    labelled = sorted(data.draw(st.sets(st.integers(0, n - 1), max_size=3)))
    budget = data.draw(st.integers(1, n))
    picks = k_center(vectors, budget, labelled=np.array(labelled, np.int64))
    assert len(picks) == min(budget, n - len(labelled))
    unit, chosen = scaled(vectors), labelled
    for pick, score in zip(picks.indices.tolist(), picks.scores.tolist(), strict=True):
        if chosen:
            assert score == pytest.approx(oracles.radius(unit, chosen), abs=1e-6)
            nearest = min(float(np.linalg.norm(unit[pick] - unit[s])) for s in chosen)
            assert score == pytest.approx(nearest, abs=1e-6)
        else:
            assert unit[pick] @ unit.mean(axis=0) == pytest.approx(max(unit @ unit.mean(axis=0)))
        chosen = [*chosen, pick]
    if chosen:
        assert picks.diagnostics["radius"] == pytest.approx(oracles.radius(unit, chosen), abs=1e-6)
    assert sum(picks.gains) == pytest.approx(
        (oracles.radius(unit, labelled) if labelled else 2) - picks.diagnostics["radius"], abs=1e-6
    )


def test_rows_that_are_labelled_need_no_pick_near_them():
    vectors = on_a_circle(0, 90, 180, 181)
    assert k_center(vectors, 1, labelled=np.array([3])).indices.tolist() == [0]
    mask = np.array([True, False, False, True])
    picks = k_center(vectors, 9, labelled=mask)
    assert picks.indices.tolist() == [1, 2]
    assert picks.scores.tolist() == pytest.approx([chord(90), chord(1)])


def test_identical_rows_are_filled_by_row_number():
    same = np.repeat(random_rows(1, n=2, d=40), [5, 4], axis=0)
    picks = k_center(same, 9)
    assert picks.indices[:2].tolist() == [0, 5]
    assert picks.indices[2:].tolist() == [1, 2, 3, 4, 6, 7, 8]
    assert picks.scores[2:].tolist() == [0] * 7
    assert picks.diagnostics["radius"] == 0


def test_lengths_do_not_matter():
    vectors = random_rows(2, n=40).astype(np.float64)
    lengths = np.random.default_rng(2).uniform(1e-3, 1e3, 40)
    assert k_center(vectors * lengths[:, None], 20).indices.tolist() == k_center(vectors, 20).indices.tolist()


@pytest.mark.parametrize("block", [None, 20, 1])
@pytest.mark.parametrize("same", [False, True])
def test_labelled_rows_count_as_if_looked_at_one_by_one(monkeypatch, block, same):
    rng = np.random.default_rng(4)
    vectors = random_rows(4, n=60, d=7)[rng.integers(0, 3 if same else 60, 60)]
    labelled = np.flatnonzero(rng.random(60) < 0.4)
    Z, _ = directions(vectors, center=False)
    own = np.einsum("id,id->i", Z, Z)
    squared = np.full(60, 4.0)
    for row in labelled:
        squared = np.minimum(squared, own + own[row] - 2 * np.einsum("id,d->i", Z, Z[row]))
    squared[squared < 1e-13] = 0
    if block is not None:
        monkeypatch.setattr(module, "_BLOCK", block)
    picks = k_center(vectors, 1, labelled=labelled)
    # To the last digit, so that equal rows tie wherever they stand.
    assert picks.scores[0] == np.sqrt(squared.max())
    free = np.setdiff1d(np.arange(60), labelled)
    assert picks.indices[0] == free[np.argmax(squared[free])]


def test_progress_is_reported_and_may_be_stopped():
    reports = Reports()
    k_center(random_rows(3, n=9), 4, labelled=np.array([0, 1]), report=reports)
    # Both labelled rows are looked at together.
    assert reports.seen == [(0, 4), (1, 4), (2, 4), (3, 4), (4, 4)]
    with pytest.raises(Stopped):
        k_center(random_rows(3, n=9), 4, report=Reports(stop_after=2))


def test_nothing_to_choose_from():
    assert len(k_center(np.empty((0, 3)), 2)) == 0
    everything = k_center(np.eye(3), 2, labelled=np.ones(3, np.bool_))
    assert len(everything) == 0
    assert everything.diagnostics == {"radius": 0.0}


def test_senseless_input_is_refused():
    with pytest.raises(InvalidParameter, match="budget is 0"):
        k_center(np.eye(2), 0)
    for vectors in ([1.0], [[np.nan, 0.0]], [[0.0, 0.0]]):
        with pytest.raises(InvalidShape, match="vectors"):
            k_center(vectors, 1)
    with pytest.raises(InvalidShape, match="labelled"):
        k_center(np.eye(2), 1, labelled=np.array([2]))
