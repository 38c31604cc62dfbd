import numpy as np
import pytest
from numpy.testing import assert_allclose

from kshot.index.token_clusters import TokenClusters, unit
from tests.test_index.builders import random_unit


def planted(seed, groups, each, d=16, noise=0.1):
    """Return unit vectors around well separated directions, shuffled, and the group of each."""
    rng = np.random.default_rng(seed)
    group = rng.permutation(np.repeat(np.arange(groups), each))
    directions = np.linalg.qr(rng.standard_normal((d, groups)))[0].T
    noisy = directions[group] + noise * rng.standard_normal((len(group), d))
    return unit(noisy.astype(np.float32)), group


def test_vectors_of_one_group_share_clusters_with_no_other_group():
    vectors, group = planted(0, groups=12, each=50)
    clusters = TokenClusters.train(vectors, 48)
    assert 24 <= len(clusters) <= 72
    home = clusters.nearest(vectors)
    for one in np.unique(home):
        assert len(np.unique(group[home == one])) == 1


def test_most_vectors_find_the_nearest_of_all_centroids():
    rng = np.random.default_rng(1)
    vectors = random_unit(rng, 4_000, 8)
    clusters = TokenClusters.train(vectors, 100)
    best = (vectors @ clusters.centroids.T).argmax(axis=1)
    assert np.mean(clusters.nearest(vectors) == best) > 0.9


def test_centroids_are_unit_rows_branch_by_branch():
    vectors, _ = planted(2, groups=9, each=40)
    clusters = TokenClusters.train(vectors, 30)
    assert_allclose(np.linalg.norm(clusters.centroids, axis=1), 1, atol=1e-5)
    assert (clusters.starts[0], clusters.starts[-1]) == (0, len(clusters))
    assert (np.diff(clusters.starts) >= 1).all()
    assert len(clusters.starts) == len(clusters.branches) + 1


def test_centroids_lie_nearer_to_the_vectors_than_as_many_of_these():
    rng = np.random.default_rng(3)
    vectors = random_unit(rng, 3_000, 6)
    clusters = TokenClusters.train(vectors, 60)
    some = vectors[rng.choice(3_000, len(clusters), replace=False)]
    found = (vectors * clusters.centroids[clusters.nearest(vectors)]).sum(axis=1).mean()
    assert found > (vectors @ some.T).max(axis=1).mean()


def test_the_same_vectors_give_the_same_centroids():
    vectors, _ = planted(4, groups=6, each=30)
    first, second = (TokenClusters.train(vectors, 20) for _ in range(2))
    assert first.centroids.tobytes() == second.centroids.tobytes()


@pytest.mark.parametrize("count", [1, 2, 7, 500])
@pytest.mark.parametrize("n", [1, 2, 30])
def test_few_vectors_and_equal_ones_have_clusters_too(n, count):
    apart = random_unit(np.random.default_rng(5), n, 4)
    for vectors in (apart, np.tile(apart[:1], (n, 1))):
        clusters = TokenClusters.train(vectors, count)
        assert 1 <= len(clusters) <= max(n, 1) + 1
        home = clusters.nearest(vectors)
        assert ((home >= 0) & (home < len(clusters))).all()
        assert np.isfinite(clusters.centroids).all()


def test_unit_leaves_a_row_of_zeros():
    found = unit(np.array([[3.0, 4.0], [0.0, 0.0]], np.float32))
    assert found.dtype == np.float32
    assert_allclose(found, np.array([[0.6, 0.8], [0.0, 0.0]], np.float32))
