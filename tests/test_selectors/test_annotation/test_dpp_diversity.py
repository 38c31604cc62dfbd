"""Determinantal diversity: against determinants computed from scratch."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kshot.errors import InvalidParameter, InvalidShape
from kshot.selectors import dpp_diversity, log_det_distance
from kshot.selectors.annotation import PLANNERS, PlanCandidates
from kshot.selectors.annotation.dpp_diversity import DppDiversity
from tests import oracles
from tests.test_selectors.test_annotation.graphs import (
    Reports,
    Stopped,
    crowded_rows,
    random_rows,
    scaled,
)


def kernel(vectors, quality, lam):
    unit = scaled(vectors.astype(np.float64))
    return np.exp(lam * (quality[:, None] + quality) / 2) * (unit @ unit.T)


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("lam", [0.0, 0.5, 3.0])
def test_picks_are_those_of_the_largest_determinant(seed, lam):
    vectors = random_rows(seed, n=30, d=40)
    quality = np.random.default_rng(seed).standard_normal(30)
    labelled = list(range(seed % 4))
    picks = dpp_diversity(vectors, 8, quality, lam=lam, labelled=np.array(labelled, np.int64))
    expected, volume = oracles.greedy_volume(kernel(vectors, quality, lam), 8, labelled)
    assert picks.indices.tolist() == expected
    assert picks.gains.sum() == pytest.approx(volume, abs=1e-6)
    assert picks.diagnostics == {"logdet": pytest.approx(volume, abs=1e-6), "filled": 0}
    assert (np.diff(picks.gains) <= 1e-9).all()


def test_the_determinant_grows_for_as_long_as_a_pick_adds_more_than_one():
    vectors, quality = random_rows(3, n=30, d=40), np.linspace(-1, 1, 30)
    picks = dpp_diversity(vectors, 30, quality, lam=2.0)
    L = kernel(vectors, quality, 2.0)
    volumes = [np.linalg.slogdet(L[np.ix_(picks.indices[:m], picks.indices[:m])])[1] for m in range(31)]
    rises = np.diff(volumes) > 0
    assert 5 < np.count_nonzero(rises) < 30
    assert rises.tolist() == (picks.gains > 0).tolist()
    # It rises up to some size, and falls from there on.
    assert (np.diff(rises.astype(int)) <= 0).all()


def test_quality_decides_between_directions_of_their_own():
    vectors = np.eye(4)
    assert dpp_diversity(vectors, 4, [0.1, 0.3, 0.2, 0.3]).indices.tolist() == [1, 3, 2, 0]
    assert dpp_diversity(vectors, 4).indices.tolist() == [0, 1, 2, 3]
    picks = dpp_diversity(vectors, 2, [1.0, 3.0, 2.0, -5.0], lam=2.0)
    assert picks.indices.tolist() == [1, 2]
    assert picks.gains.tolist() == pytest.approx([6, 4])


def test_beyond_the_rank_rows_come_by_quality_then_in_their_order():
    vectors = np.eye(2)[[0, 0, 1, 1, 0]]
    picks = dpp_diversity(vectors, 5, [1.0, 5.0, 2.0, 2.0, 1.0], lam=1.0)
    assert picks.indices.tolist() == [1, 2, 3, 0, 4]
    assert picks.diagnostics == {"logdet": pytest.approx(7), "filled": 3}
    floor = np.log(1e-10)
    assert picks.gains.tolist() == pytest.approx([5, 2, 2 + floor, 1 + floor, 1 + floor])
    by_row = dpp_diversity(vectors, 5)
    assert by_row.indices.tolist() == [0, 2, 1, 3, 4]


def test_without_worth_quality_still_orders_what_is_filled():
    picks = dpp_diversity(np.eye(2)[[0, 0, 1, 1, 0]], 5, [1.0, 5.0, 2.0, 2.5, 1.5], lam=0.0)
    assert picks.indices.tolist() == [0, 2, 1, 3, 4]


def test_what_labelled_rows_span_adds_nothing():
    vectors = np.array([[1.0, 0, 0], [0, 1, 0], [0.6, 0.8, 0], [0.6, 0, 0.8], [0, 0, 1]])
    picks = dpp_diversity(vectors, 3, labelled=np.array([0, 1]))
    # Row 4 is all new, row 3 has 0.64 of its square beside the labelled rows, row 2 nothing.
    assert picks.indices.tolist() == [4, 2, 3]
    assert picks.diagnostics["filled"] == 2
    assert dpp_diversity(vectors[:4], 1, labelled=np.array([0, 1])).gains.tolist() == pytest.approx(
        [np.log(0.64)]
    )


def test_many_labelled_rows_span_no_more_than_there_is():
    vectors = random_rows(5, n=400, d=10)
    picks = dpp_diversity(vectors, 6, labelled=np.arange(300))
    assert picks.indices.tolist() == [300, 301, 302, 303, 304, 305]
    assert picks.diagnostics == {"logdet": 0.0, "filled": 6}


@pytest.mark.parametrize("size", [1e-200, 1e3, 1e5, 1e200])
def test_any_quality_gives_finite_gains(size):
    vectors, quality = random_rows(6, n=12, d=20), size * np.linspace(-1, 1, 12)
    picks = dpp_diversity(vectors, 12, quality, labelled=np.array([11]))
    assert sorted(picks.indices.tolist()) == list(range(11))
    assert np.isfinite(picks.gains).all()
    if size > 1:
        assert picks.indices.tolist() == list(range(10, -1, -1))


@given(vectors=crowded_rows(), budget=st.integers(1, 10))
def test_no_more_rows_than_dimensions_are_chosen_for_their_direction(vectors, budget):
    picks = dpp_diversity(vectors, budget)
    assert len(picks) == min(budget, len(vectors))
    chosen = len(picks) - picks.diagnostics["filled"]
    assert chosen == min(budget, np.linalg.matrix_rank(vectors))
    assert (np.diff(picks.gains) <= 1e-9).all()


def test_orthogonal_rows_are_as_diverse_as_can_be():
    rotation = np.linalg.qr(np.random.default_rng(0).standard_normal((20, 20)))[0]
    for k in (1, 5, 20):
        assert log_det_distance(rotation, k) == pytest.approx(0, abs=1e-9)
        # Further rows do not matter where k orthogonal ones are among them.
        assert log_det_distance(np.concatenate([rotation, rotation]), k) == pytest.approx(0, abs=1e-9)


def test_identical_rows_are_at_the_floor():
    same = np.tile([[0.6, 0.8, 0.0, 0.0]], (9, 1))
    # One row is a direction; three repeat it. No four rows of four dimensions need repeat any.
    assert log_det_distance(same, 4) == pytest.approx(3 / 4 * -np.log(1e-8))
    assert log_det_distance(same, 4, jitter=1e-3) == pytest.approx(3 / 4 * -np.log(1e-3))
    # Nine rows of four dimensions must repeat five; these repeat eight.
    assert log_det_distance(same, 9) == pytest.approx((8 - 5) / 9 * -np.log(1e-8))


def test_the_distance_is_the_logdet_of_the_most_diverse_rows():
    vectors = random_rows(7, n=25, d=30)
    unit = scaled(vectors.astype(np.float64))
    _, volume = oracles.greedy_volume(unit @ unit.T, 6)
    assert log_det_distance(vectors, 6) == pytest.approx(-volume / 6)
    everything = np.linalg.slogdet(unit @ unit.T)[1]
    assert log_det_distance(vectors, 25) == log_det_distance(vectors, 99) == pytest.approx(-everything / 25)


def test_tighter_crowds_are_farther_from_diverse():
    rng = np.random.default_rng(8)
    center, noise = np.eye(32)[0], rng.standard_normal((50, 32)) / np.sqrt(32)
    distances = [log_det_distance(center + spread * noise, 10) for spread in (3.0, 1.0, 0.3, 0.1)]
    assert distances == sorted(distances)
    assert distances[0] > 0


def test_no_rows_are_at_no_distance():
    assert log_det_distance(np.empty((0, 3)), 5) == 0


def test_the_planner_takes_the_quality_of_the_candidates():
    quality = np.array([0.1, 0.2, 0.9])
    candidates = PlanCandidates(np.zeros(3, np.bool_), np.eye(3, dtype=np.float32), quality=quality)
    planner = PLANNERS.get("dpp_diversity")()
    assert planner == DppDiversity()
    assert planner.plan(candidates, 2, np.random.default_rng(0)).indices.tolist() == [2, 1]
    flat = DppDiversity(lam=0)
    assert flat.plan(candidates, 2, np.random.default_rng(0)).indices.tolist() == [0, 1]


def test_progress_is_reported_and_may_be_stopped():
    reports = Reports()
    dpp_diversity(random_rows(3, n=9, d=20), 3, report=reports)
    assert reports.seen == [(1, 3), (2, 3), (3, 3)]
    with pytest.raises(Stopped):
        dpp_diversity(random_rows(3, n=9, d=20), 4, report=Reports(stop_after=2))


def test_senseless_input_is_refused():
    with pytest.raises(InvalidParameter, match="budget is 0"):
        dpp_diversity(np.eye(2), 0)
    for lam in (-1.0, np.inf, np.nan):
        with pytest.raises(InvalidParameter, match="lam is"):
            dpp_diversity(np.eye(2), 1, lam=lam)
    with pytest.raises(InvalidShape, match="quality has shape"):
        dpp_diversity(np.eye(2), 1, [1.0])
    with pytest.raises(InvalidShape, match="quality holds nan"):
        dpp_diversity(np.eye(2), 1, [1.0, np.nan])
    with pytest.raises(InvalidParameter, match="k is 0"):
        log_det_distance(np.eye(2), 0)
    for jitter in (0.0, 1.5, np.nan):
        with pytest.raises(InvalidParameter, match="jitter is"):
            log_det_distance(np.eye(2), 1, jitter=jitter)
    for function in (dpp_diversity, log_det_distance):
        for vectors in ([1.0], [[np.nan, 0.0]], [[0.0, 0.0]]):
            with pytest.raises(InvalidShape, match="vectors"):
                function(vectors, 1)
