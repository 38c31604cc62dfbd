"""Sensitivity sampling: what it expects, how it draws, and that its weights tell the truth on average."""

import numpy as np
import pytest
from scipy.stats import chi2

from kshot.errors import InvalidParameter, InvalidShape
from kshot.selectors import sensitivity
from kshot.selectors.annotation import PlanCandidates
from kshot.selectors.annotation.sensitivity import Sensitivity, draw_in_proportion
from tests.test_selectors.test_annotation.graphs import Reports, Stopped, random_rows, scaled

SEEDS = 10_000


def mean_and_error(estimates):
    return np.mean(estimates), np.std(estimates, ddof=1) / np.sqrt(len(estimates))


def smooth_loss(vectors):
    """A loss that changes no faster than the rows do."""
    return 0.2 + np.abs(vectors[:, 0]) + 0.5 * np.maximum(vectors[:, 1], 0)


def test_losses_are_expected_from_the_nearest_center_and_the_distance():
    vectors = random_rows(1, n=60).astype(np.float64)
    loss = smooth_loss(vectors)
    picks = sensitivity(vectors, 20, loss, seed=3, centers=0.2)
    centers = np.array(picks.diagnostics["centers"])
    assert len(centers) == 4
    squared = np.sum((vectors[:, None] - vectors[centers]) ** 2, axis=2)
    nearest, reach = centers[squared.argmin(axis=1)], squared.min(axis=1)
    lipschitz = np.ptp(loss[centers]) / np.percentile(reach, 95)
    assert picks.diagnostics["lipschitz"] == pytest.approx(lipschitz)
    expected = loss[nearest] + lipschitz * reach
    np.testing.assert_allclose(picks.gains, expected[picks.indices])
    first_power = sensitivity(vectors, 20, loss, seed=3, power=1, lipschitz=2.0)
    np.testing.assert_allclose(
        first_power.gains, (loss[nearest] + 2.0 * np.sqrt(reach))[first_power.indices], atol=1e-6
    )


def test_the_loss_is_looked_at_in_the_centers_only():
    vectors = random_rows(2, n=50)
    loss = smooth_loss(vectors)
    asked = []

    def ask(rows):
        asked.append(rows.tolist())
        return loss[rows]

    picks = sensitivity(vectors, 10, ask, seed=1, labelled=np.array([4, 5]))
    assert asked == [picks.diagnostics["centers"]]
    assert not {4, 5} & set(picks.diagnostics["centers"])
    hidden = np.full(50, np.nan)
    hidden[asked[0]] = loss[asked[0]]
    blind = sensitivity(vectors, 10, hidden, seed=1, labelled=np.array([4, 5]))
    assert blind.indices.tolist() == picks.indices.tolist()
    assert blind.scores.tolist() == picks.scores.tolist()


def test_without_losses_distance_decides():
    vectors = random_rows(3, n=60).astype(np.float64)
    picks = sensitivity(vectors, 60)
    centers = picks.diagnostics["centers"]
    reach = np.sum((vectors[:, None] - vectors[centers]) ** 2, axis=2).min(axis=1)
    np.testing.assert_allclose(picks.gains, (reach / np.percentile(reach, 95))[picks.indices], atol=1e-9)
    # The centres themselves have no chance, and come last in their order.
    assert picks.indices[-len(centers) :].tolist() == sorted(centers)
    # Equal losses everywhere: half of what is expected is the loss, the other half grows with the distance.
    equal = sensitivity(vectors, 60, np.full(60, 7.0))
    np.testing.assert_allclose(equal.gains, 7 + 7 * (reach / np.percentile(reach, 95))[equal.indices])


def test_equal_losses_and_no_distance_give_everybody_the_same_chance():
    same = np.tile([[0.6, 0.8]], (6, 1))
    for loss in (None, np.zeros(6), np.full(6, 3.0)):
        counts = np.zeros(6)
        for seed in range(600):
            picks = sensitivity(same, 1, loss, seed)
            counts[picks.indices] += 1
            assert picks.diagnostics["lipschitz"] == 0
        assert np.sum((counts - 100) ** 2 / 100) < chi2.ppf(0.999, 5)


def test_rows_are_drawn_in_proportion():
    expected = np.array([1.0, 2.0, 3.0, 0.0, 4.0])
    rng = np.random.default_rng(0)
    counts = np.zeros((5, 5))
    for _ in range(SEEDS):
        (first, second), _ = draw_in_proportion(expected, 2, rng)
        counts[first, second] += 1
    assert not counts[3].any()
    assert not counts[:, 3].any()
    chance = np.array([[p / 10 * q / (10 - p) for q in expected] for p in expected]) * SEEDS
    np.fill_diagonal(chance, 0)
    possible = chance > 0
    assert not counts[~possible].any()
    statistic = np.sum((counts - chance)[possible] ** 2 / chance[possible])
    assert statistic < chi2.ppf(0.999, np.count_nonzero(possible) - 1)


@pytest.mark.parametrize("budget", [1, 3, 7, 11])
def test_weighted_sums_estimate_the_mean_whatever_the_truth(budget):
    rng = np.random.default_rng(1)
    expected, truth = rng.uniform(0.1, 3.0, 12), rng.standard_normal(12)
    estimates = []
    for _ in range(SEEDS):
        rows, weights = draw_in_proportion(expected, budget, rng)
        assert len(set(rows.tolist())) == budget
        estimates.append(weights @ truth[rows])
    mean, error = mean_and_error(estimates)
    assert abs(mean - truth.mean()) < 3 * error
    assert error > 0


@pytest.mark.slow
def test_plans_estimate_the_mean_loss_of_the_unlabelled_rows():
    vectors = random_rows(4, n=60, d=4)
    loss, labelled = smooth_loss(vectors), np.arange(5)
    estimates, by_the_plain_mean = [], []
    for seed in range(SEEDS):
        picks = sensitivity(vectors, 15, loss, seed, labelled=labelled)
        estimates.append(picks.scores @ loss[picks.indices])
        by_the_plain_mean.append(loss[picks.indices].mean())
    mean, error = mean_and_error(estimates)
    assert abs(mean - loss[5:].mean()) < 3 * error
    # Without weights it would be wrong: rows with a large loss are drawn more often.
    mean, error = mean_and_error(by_the_plain_mean)
    assert mean - loss[5:].mean() > 3 * error


def test_dividing_by_the_weights_makes_estimates_steadier():
    rng = np.random.default_rng(2)
    expected, truth = rng.uniform(1.0, 3.0, 200), rng.uniform(4.0, 5.0, 200)
    plain, divided = [], []
    for _ in range(300):
        rows, weights = draw_in_proportion(expected, 20, rng)
        plain.append(weights @ truth[rows])
        divided.append(weights @ truth[rows] / weights.sum())
    assert np.std(divided) < 0.2 * np.std(plain)
    assert np.mean(divided) == pytest.approx(truth.mean(), abs=0.02)


def test_all_rows_weigh_the_same_when_all_are_drawn():
    picks = sensitivity(random_rows(5, n=9), 20, np.arange(9.0), labelled=np.array([8]))
    assert sorted(picks.indices.tolist()) == list(range(8))
    assert picks.scores.tolist() == [1 / 8] * 8


def test_rows_without_a_chance_come_last_in_their_order():
    rows, weights = draw_in_proportion(np.array([0.0, 2.0, 0.0, 1.0, 0.0]), 4, np.random.default_rng(0))
    assert set(rows[:2].tolist()) == {1, 3}
    assert rows[2:].tolist() == [0, 2]
    assert weights.tolist() == [0.2] * 4


def test_one_chance_far_above_the_others_is_certain():
    rows, weights = draw_in_proportion(np.array([1e-300, 1.0, 1e-300]), 2, np.random.default_rng(0))
    assert rows[0] == 1
    assert weights[0] == pytest.approx(1 / 3)
    assert np.isfinite(weights).all()


def test_there_are_a_fifth_as_many_centers_as_picks():
    vectors = random_rows(6, n=50)
    for budget, centers in ((1, 1), (5, 1), (6, 2), (50, 10), (500, 10)):
        assert len(sensitivity(vectors, budget).diagnostics["centers"]) == centers
    assert len(sensitivity(vectors, 10, centers=1.0).diagnostics["centers"]) == 10


def test_the_seed_decides():
    vectors = random_rows(7, n=80)
    first, again, other = (sensitivity(vectors, 9, None, seed).indices.tolist() for seed in (1, 1, 2))
    assert first == again != other


def test_the_planner_reads_the_confidence():
    vectors = scaled(np.array([[1.0, 0.01 * i] for i in range(20)] + [[-1.0, 0.01 * i] for i in range(20)]))
    confidence = np.r_[np.full(20, -0.1), np.full(20, -5.0)]
    confidence[33:] = np.nan

    def plan(**parts):
        candidates = PlanCandidates(np.zeros(40, np.bool_), vectors.astype(np.float32), **parts)
        return Sensitivity(centers=0.5, lipschitz=1e-6).plan(candidates, 4, np.random.default_rng(0))

    # One cluster is sure, the other is not, or nobody knows: all picks are there.
    assert (plan(confidence=confidence).indices >= 20).all()
    np.testing.assert_allclose(plan(confidence=confidence).gains, 1, atol=1e-3)
    same = plan(confidence=np.full(40, 0.7))
    assert same.indices.tolist() == plan().indices.tolist() == plan(confidence=None).indices.tolist()


def test_nothing_to_choose_from():
    for vectors in (np.empty((0, 3)), np.eye(3)):
        picks = sensitivity(vectors, 2, labelled=np.ones(len(vectors), np.bool_))
        assert len(picks) == 0


def test_progress_is_reported_and_may_be_stopped():
    reports = Reports()
    sensitivity(random_rows(3, n=30), 20, report=reports)
    assert len(reports.seen) > 4
    with pytest.raises(Stopped):
        sensitivity(random_rows(3, n=30), 20, report=Reports(stop_after=2))


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"budget": 0}, InvalidParameter, "budget is 0"),
        ({"loss": [-1.0, -1.0, -1.0]}, InvalidParameter, "loss at row . is -1"),
        ({"loss": [1.0]}, InvalidShape, "loss has shape"),
        ({"loss": [np.nan] * 3}, InvalidShape, "loss holds nan"),
        ({"loss": lambda rows: np.ones(len(rows) + 1)}, InvalidShape, "loss has shape"),
        ({"centers": 0.0}, InvalidParameter, "centers is 0.0"),
        ({"centers": 1.1}, InvalidParameter, "centers is 1.1"),
        ({"power": 0.5}, InvalidParameter, "power is 0.5"),
        ({"lipschitz": -1.0}, InvalidParameter, "lipschitz is -1.0"),
        ({"vectors": [[0.0, 0.0]] * 3}, InvalidShape, "length zero"),
        ({"labelled": np.array([3])}, InvalidShape, "labelled"),
    ],
)
def test_senseless_input_is_refused(arguments, error, message):
    with pytest.raises(error, match=message):
        sensitivity(**{"vectors": np.eye(3), "budget": 1, **arguments})
