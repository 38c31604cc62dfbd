"""k-means: one row of each cluster, by means and distances computed anew."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kshot.errors import InvalidParameter, InvalidShape
from kshot.selectors import k_means
from kshot.selectors.annotation.base import silent
from kshot.selectors.annotation.clusters import FIXED, _fill_empty, cluster, nearest_center
from tests.test_selectors.test_annotation.graphs import (
    Reports,
    Stopped,
    crowded_rows,
    random_rows,
    scaled,
)


def crowds(seed, sizes, spread=0.1, d=12):
    """Rows around one axis each, and the number of the crowd of each row."""
    rng = np.random.default_rng(seed)
    crowd = np.repeat(np.arange(len(sizes)), sizes)
    return scaled(np.eye(d)[crowd] + spread * rng.standard_normal((len(crowd), d)) / np.sqrt(d)), crowd


def clustered(vectors, k, seed=0, fixed=()):
    mask = np.zeros(len(vectors), np.bool_)
    mask[list(fixed)] = True
    return cluster(vectors, k, mask, np.random.default_rng(seed), 100, silent)


@pytest.mark.parametrize("seed", range(10))
def test_every_crowd_gets_the_row_nearest_to_its_mean_and_the_largest_comes_first(seed):
    sizes = [30, 50, 20, 40]
    vectors, crowd = crowds(seed, sizes)
    picks = k_means(vectors, 4, seed)
    assert crowd[picks.indices].tolist() == [1, 3, 0, 2]
    assert picks.gains.tolist() == picks.scores.tolist() == [50, 40, 30, 20]
    for pick in picks.indices.tolist():
        members = np.flatnonzero(crowd == crowd[pick])
        mean = vectors[members].mean(axis=0)
        assert pick == members[np.argmin(np.linalg.norm(vectors[members] - mean, axis=1))]


@pytest.mark.parametrize("seed", range(5))
def test_in_the_end_every_row_is_nearest_to_the_mean_of_its_own_cluster(seed):
    vectors = random_rows(seed, n=60, d=3).astype(np.float64)
    clusters = clustered(vectors, 5, seed)
    means = np.stack([vectors[clusters.numbers == c].mean(axis=0) for c in range(5)])
    np.testing.assert_allclose(clusters.centers, means, atol=1e-12)
    distances = np.linalg.norm(vectors[:, None] - means, axis=2)
    own = distances[np.arange(60), clusters.numbers]
    # The last round may have moved a row and yet have lowered the summed squares by less than 1/10,000.
    assert np.mean(own > distances.min(axis=1) + 1e-6) <= 1 / 60


def test_rounds_lower_the_spread():
    vectors = random_rows(1, n=300, d=6).astype(np.float64)

    def spread(rounds):
        none = np.zeros(300, np.bool_)
        clusters = cluster(vectors, 8, none, np.random.default_rng(3), rounds, silent)
        assert clusters.rounds <= rounds
        return np.sum((vectors - clusters.centers[clusters.numbers]) ** 2)

    spreads = [spread(rounds) for rounds in (1, 2, 4, 8, 100)]
    assert (np.diff(spreads) <= 1e-9).all()
    assert spreads[-1] < 0.97 * spreads[0]


def test_labelled_rows_keep_their_surroundings():
    vectors, crowd = crowds(2, [20, 20, 20])
    picks = k_means(vectors, 2, labelled=np.array([0, 20]))
    # Both crowds with a label belong to it, unless a seed was drawn there; the third has a pick.
    assert 2 in crowd[picks.indices]
    everywhere = k_means(vectors, 1, labelled=np.array([0, 20]))
    assert crowd[everywhere.indices].tolist() == [2]
    assert everywhere.gains.tolist() == [20]
    assert everywhere.diagnostics["covered"] == 40


def test_a_row_as_near_to_a_label_belongs_to_it():
    vectors = np.eye(4)[[0, 0, 1, 2]]
    clusters = clustered(vectors, 1, fixed=[0])
    assert clusters.numbers[:2].tolist() == [FIXED, FIXED]


@given(vectors=crowded_rows(), data=st.data())
def test_picks_are_distinct_and_never_labelled(vectors, data):
    n = len(vectors)
    labelled = sorted(data.draw(st.sets(st.integers(0, n - 1), max_size=3)))
    budget = data.draw(st.integers(1, n + 1))
    seed = data.draw(st.integers(0, 3))
    picks = k_means(vectors, budget, seed, labelled=np.array(labelled, np.int64))
    assert len(picks) == min(budget, n - len(labelled))
    assert not set(labelled) & set(picks.indices.tolist())
    # Every row stands in one cluster.
    assert picks.gains.sum() + picks.diagnostics["covered"] == n
    assert (picks.gains >= 1).all()


def test_identical_rows_are_divided_among_clusters():
    picks = k_means(np.tile([[0.6, 0.8]], (9, 1)), 4)
    assert len(set(picks.indices.tolist())) == 4
    assert sorted(picks.gains.tolist()) == [1, 1, 1, 6]


def test_an_empty_cluster_starts_anew_at_the_farthest_row():
    numbers, apart = np.array([0, 0, FIXED, 2, FIXED]), np.array([0.1, 0.5, 0.4, 0.9, 2.0])
    fixed = np.array([False, False, False, False, True])
    _fill_empty(numbers, apart, 4, fixed)
    # Row 4 may not move, and row 3 is alone in its cluster; then row 1 is farthest, and row 2 next.
    assert numbers.tolist() == [0, 1, 3, 2, FIXED]


def test_seeds_are_drawn_where_no_center_is_near():
    # Two points, one of them 99 times: the second seed is never the first point again.
    vectors = np.eye(2)[[0] * 99 + [1]]
    for seed in range(20):
        picks = k_means(vectors, 2, seed, max_rounds=1)
        assert picks.indices.tolist() == [0, 99]
        assert picks.gains.tolist() == [99, 1]


@given(vectors=crowded_rows(max_rows=6), centers=crowded_rows(max_rows=3))
def test_the_nearest_center_is_nearest(vectors, centers):
    rows, middles = scaled(vectors), centers / 2
    numbers, squared = nearest_center(rows, middles)
    distances = np.linalg.norm(rows[:, None] - middles, axis=2) ** 2
    np.testing.assert_allclose(squared, distances.min(axis=1), atol=1e-12)
    np.testing.assert_allclose(distances[np.arange(len(rows)), numbers], squared, atol=1e-12)


def test_a_budget_for_all_takes_every_row_as_its_own_cluster():
    picks = k_means(random_rows(4, n=7), 12, labelled=np.array([3]))
    assert picks.indices.tolist() == [0, 1, 2, 4, 5, 6]
    assert picks.gains.tolist() == [1] * 6
    assert len(k_means(np.empty((0, 3)), 2)) == 0


def test_the_seed_decides():
    vectors = random_rows(5, n=80)
    first, again, other = (k_means(vectors, 9, seed).indices.tolist() for seed in (1, 1, 2))
    assert first == again != other


def test_progress_is_reported_and_may_be_stopped():
    reports = Reports()
    rounds = k_means(random_rows(6, n=40), 3, max_rounds=50, report=reports).diagnostics["rounds"]
    assert reports.seen == [(done, 53) for done in range(1, 4 + rounds)]
    with pytest.raises(Stopped):
        k_means(random_rows(6, n=40), 3, report=Reports(stop_after=4))


def test_senseless_input_is_refused():
    with pytest.raises(InvalidParameter, match="budget is 0"):
        k_means(np.eye(2), 0)
    with pytest.raises(InvalidParameter, match="max_rounds is 0"):
        k_means(np.eye(2), 1, max_rounds=0)
    for vectors in ([1.0], [[np.nan, 0.0]], [[0.0, 0.0]]):
        with pytest.raises(InvalidShape, match="vectors"):
            k_means(vectors, 1)
