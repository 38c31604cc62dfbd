"""Least posterior variance: the greedy search and the method."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kshot.arrays import unit_rows
from kshot.errors import InvalidParameter, InvalidShape
from kshot.selectors import sift
from kshot.selectors.sift import Sift
from tests import oracles
from tests.strategies import grid, random_candidates

# By the closed form, on the instance of seed 0 with noise 0.01.
FROZEN_PICKS = [137, 64, 19, 107, 74, 174, 197, 59]
FROZEN_VARIANCES = [
    1.0000000265,
    0.5073176961,
    0.2708020518,
    0.1473749555,
    0.0902092674,
    0.0463157786,
    0.0237513597,
    0.0156188186,
    0.0120486448,
]


def instance(seed, n=200, d=16, queries=1):
    rng = np.random.default_rng(seed)
    vectors = unit_rows(rng.standard_normal((n, d))).astype(np.float64)
    return vectors, unit_rows(rng.standard_normal((queries, d))).astype(np.float64)


def test_three_rows_by_hand():
    # Row 2 first: 0.96^2 / 1.01. Then rows 0 and 1 tie: their covariance with the query falls to
    # 0.8 - 0.6 * 0.96 / 1.01, their variance to 1 - 0.36 / 1.01.
    picks = sift([[1.0, 0.0], [1.0, 0.0], [0.6, 0.8]], [0.8, 0.6], k=2, noise=0.01)
    assert picks.indices.tolist() == [2, 0]
    second = (0.8 - 0.6 * 0.96 / 1.01) ** 2 / (1 - 0.36 / 1.01 + 0.01)
    np.testing.assert_allclose(picks.gains, [0.96**2 / 1.01, second])
    np.testing.assert_allclose(picks.scores, [0.96, 0.8])
    left = picks.diagnostics["posterior_variance"]
    np.testing.assert_allclose(left, [1.0, 1 - 0.96**2 / 1.01, 1 - 0.96**2 / 1.01 - second])


@pytest.mark.parametrize("noise", [1e-4, 0.01, 0.3, 10.0])
@pytest.mark.parametrize("seed", range(3))
def test_two_hundred_rows_equal_the_closed_form(seed, noise):
    vectors, query = instance(seed)
    picks = sift(vectors, query[0], 10, noise)
    assert picks.indices.tolist() == oracles.greedy_posterior_variance(vectors, query, 10, noise)
    curve = [oracles.posterior_variance(vectors, query, picks.indices[:t].tolist(), noise) for t in range(11)]
    np.testing.assert_allclose(picks.diagnostics["posterior_variance"], curve, atol=1e-10)
    np.testing.assert_allclose(picks.gains, -np.diff(curve), atol=1e-10)
    np.testing.assert_allclose(picks.scores, vectors[picks.indices] @ query[0])


def test_picks_and_variances_stay_what_they_were():
    vectors, query = instance(0)
    picks = sift(vectors, query[0], 8, 0.01)
    assert picks.indices.tolist() == FROZEN_PICKS
    np.testing.assert_allclose(picks.diagnostics["posterior_variance"], FROZEN_VARIANCES, atol=1e-9)


def test_variances_of_several_queries_add_up():
    vectors, queries = instance(5, n=60, d=8, queries=3)
    picks = sift(vectors, queries, 7, 0.05)
    assert picks.indices.tolist() == oracles.greedy_posterior_variance(vectors, queries, 7, 0.05)
    left = oracles.posterior_variance(vectors, queries, picks.indices.tolist(), 0.05)
    assert picks.diagnostics["posterior_variance"][0] == pytest.approx(3.0)
    assert picks.diagnostics["posterior_variance"][-1] == pytest.approx(left, abs=1e-10)
    np.testing.assert_allclose(picks.scores, (vectors[picks.indices] @ queries.T).mean(axis=1))


@settings(max_examples=40)
@given(
    data=st.data(), n=st.integers(1, 8), k=st.integers(1, 10), noise=st.sampled_from([1e-9, 0.01, 1.0, 1e6])
)
def test_the_variance_never_rises_or_falls_below_zero(data, n, k, noise):
    vectors = unit_rows(data.draw(grid((n, 3), -2, 2)) + np.array([5.0, 0, 0]))
    picks = sift(vectors, unit_rows([[1, 1, 0]])[0], k, noise)
    left = np.array(picks.diagnostics["posterior_variance"])
    assert len(left) == len(picks) + 1 == min(k, n) + 1
    assert (np.diff(left) <= 0).all()
    assert (left >= 0).all()


@pytest.mark.parametrize("noise", [0.01, 0.2, 3.0])
def test_a_duplicate_keeps_only_what_the_noise_leaves(noise):
    vectors, query = instance(6, n=1)
    picks = sift(np.vstack([vectors, vectors]), query[0], 2, noise)
    # Of a row with variance v, its copy keeps noise / (2 v + noise); v is 1 here.
    assert picks.gains[1] == pytest.approx(picks.gains[0] * noise / (2 + noise))


def test_nothing_but_relevance_is_left_under_huge_noise():
    vectors, query = instance(7)
    assert sift(vectors, query[0], 12, 1e9).indices.tolist() == oracles.top_k(np.abs(vectors @ query[0]), 12)


def test_a_gain_may_grow_so_that_a_lazy_search_would_go_wrong():
    # Row 1 tells nothing of the query by itself, but it does tell what of row 0 is not the query.
    vectors = unit_rows([[1.0, 1.0, 0.0], [0.0, 1.0, 0.0], [0.5, 0.0, 1.0]])
    query = [1.0, 0.0, 0.0]
    alone = [sift(vectors[[i]], query, 1).gains[0] for i in range(3)]
    assert alone[0] > alone[2] > 0.19 > alone[1] == 0
    picks = sift(vectors, query, 2)
    assert picks.indices.tolist() == [0, 1]
    assert picks.gains[1] > 0.4


def test_parity_repeats_rows_as_training_steps_do():
    vectors, query = instance(8, n=60)
    picks = sift(vectors, query[0], 30, 0.01, parity="reference")
    sequence = picks.diagnostics["sequence"]
    assert sequence == oracles.greedy_posterior_variance(vectors, query, 30, 0.01, repeats=True)
    assert len(picks) < len(sequence) == 30
    assert picks.indices.tolist() == list(dict.fromkeys(sequence))
    left = picks.diagnostics["posterior_variance"]
    assert picks.gains.sum() == pytest.approx(left[0] - left[-1])
    assert left[-1] == pytest.approx(oracles.posterior_variance(vectors, query, sequence, 0.01), abs=1e-10)
    first = picks.indices[0]
    observations = [t for t, row in enumerate(sequence) if row == first]
    assert picks.gains[0] == pytest.approx(sum(left[t] - left[t + 1] for t in observations))


def test_parity_observes_even_one_row_again_and_again():
    picks = sift([[1.0, 0.0]], [1.0, 0.0], 3, 1.0, parity="reference")
    assert picks.diagnostics["sequence"] == [0, 0, 0]
    np.testing.assert_allclose(picks.diagnostics["posterior_variance"], [1, 1 / 2, 1 / 3, 1 / 4])


def test_rows_that_the_chosen_ones_determine_tell_nothing_even_without_noise_to_speak_of():
    vectors = unit_rows([[1, 0], [0, 1], [1, 1], [1, -1]])
    picks = sift(vectors, [0.8, 0.6], 4, noise=1e-300)
    assert picks.indices.tolist() == [2, 0, 1, 3]
    np.testing.assert_allclose(picks.gains, [0.98, 0.02, 0, 0], atol=1e-6)


def test_equal_rows_at_any_place_tie_to_the_first():
    rng = np.random.default_rng(3)
    rows = unit_rows(np.vstack([rng.standard_normal(384), np.tile(rng.standard_normal(384), (130, 1))]))
    assert sift(rows, rows[0], 6).indices.tolist() == [0, 1, 2, 3, 4, 5]


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"noise": 0.0}, InvalidParameter, "noise is 0.0"),
        ({"noise": float("inf")}, InvalidParameter, "noise is inf"),
        ({"noise": float("nan")}, InvalidParameter, "noise is nan"),
        ({"k": 0}, InvalidParameter, "k is 0"),
        ({"parity": "exact"}, InvalidParameter, "parity is 'exact', allowed none, reference"),
        ({"query": [1.0]}, InvalidShape, r"query has shape \(1, 1\), wanted \(any, 2\)"),
        ({"query": np.empty((0, 2))}, InvalidShape, "holds no vector"),
        ({"vectors": [[np.nan, 0.0]]}, InvalidShape, "vectors holds nan"),
    ],
)
def test_senseless_input_is_refused(arguments, error, message):
    with pytest.raises(error, match=message):
        sift(**{"vectors": np.eye(2), "query": [1.0, 0.0], "k": 1, **arguments})


def test_the_method_passes_its_parameter_on_and_scores_by_similarity():
    candidates = random_candidates(seed=4, n=50)
    for noise in (0.01, 2.0):
        picks = Sift(noise=noise).select(candidates, 9, np.random.default_rng(0))
        direct = sift(candidates.vectors, candidates.query_vector, 9, noise)
        assert picks.indices.tolist() == direct.indices.tolist()
        assert picks.diagnostics == direct.diagnostics
        assert np.array_equal(picks.scores, candidates.relevance[picks.indices])
    assert Sift().noise == 0.01
