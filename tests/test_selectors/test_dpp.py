"""Determinantal selection: the greedy search, the kernel, the method."""

import json
import math
from pathlib import Path

import numpy as np
import pytest

from kshot.arrays import Candidates, unit_rows
from kshot.errors import InvalidInput, InvalidParameter, InvalidShape
from kshot.selectors import dpp_map, pack, prompt_order, relevance_kernel_factors
from kshot.selectors.dpp import Dpp
from tests import oracles
from tests.strategies import random_candidates

RNG = np.random.default_rng(0)
PUBLISHED = json.loads((Path(__file__).parent / "golden" / "fast_map_dpp.json").read_text())["cases"]


def gaussian_kernel(seed, n, p):
    B = np.random.default_rng(seed).standard_normal((n, p))
    return B, B @ B.T


def relevance_kernel(seed, n=40, d=64, lam=0.1):
    rng = np.random.default_rng(seed)
    query, vectors = unit_rows(rng.standard_normal((1, d)))[0], unit_rows(rng.standard_normal((n, d)))
    return query, vectors, relevance_kernel_factors(query, vectors, lam)


def test_three_rows_by_hand():
    # After row 0, row 1 keeps 1 - 0.81 of its variance and row 2 all of it.
    picks = dpp_map([[1.0, 0.9, 0.0], [0.9, 1.0, 0.0], [0.0, 0.0, 0.5]], k=3)
    assert picks.indices.tolist() == [0, 2, 1]
    np.testing.assert_allclose(picks.gains, [0.0, math.log(0.5), math.log(0.19)])
    assert picks.scores.tolist() == [1.0, 0.5, 1.0]
    assert picks.diagnostics["logdet"] == pytest.approx(math.log(0.5 * 0.19))
    assert picks.diagnostics["rank_exhausted"] is False


@pytest.mark.parametrize("seed", range(4))
def test_given_rows_count_as_chosen(seed):
    B = np.random.default_rng(seed).standard_normal((40, 12))
    B[5] = B[4]  # A given row in the span of another one changes nothing.
    given, others = [4, 5, 17, 30], [i for i in range(40) if i not in {4, 5, 17, 30}]
    L = B @ B.T
    before = L[np.ix_([4, 17, 30], [4, 17, 30])]
    beside = L - L[:, [4, 17, 30]] @ np.linalg.solve(before, L[[4, 17, 30]])
    expected = dpp_map(beside[np.ix_(others, others)], k=6)
    for picks in (dpp_map(L, k=6, given=given), dpp_map(factors=B, k=6, given=np.array(given))):
        assert picks.indices.tolist() == [others[i] for i in expected.indices]
        np.testing.assert_allclose(picks.gains, expected.gains, atol=1e-8)
    rest = dpp_map(factors=B, k=99, given=given)
    assert len(rest) == 12 - 3
    assert rest.diagnostics["rank_exhausted"]


def test_rows_given_in_vain():
    assert len(dpp_map(factors=np.eye(3), k=2, given=[0, 1, 2])) == 0
    assert dpp_map(factors=np.eye(3), k=3, given=[1, 1]).indices.tolist() == [0, 2]
    for given in ([3], [-1]):
        with pytest.raises(InvalidShape, match="given names rows"):
            dpp_map(factors=np.eye(3), k=1, given=given)


def test_rows_of_one_length_tie_whatever_their_rounding():
    rng = np.random.default_rng(6)
    B = rng.standard_normal((50, 80))
    B /= np.linalg.norm(B, axis=1)[:, None]
    assert len(set(np.einsum("ip,ip->i", B, B))) > 1
    assert dpp_map(factors=B, k=1).indices.tolist() == [0]


def test_picks_are_reported():
    seen = []
    dpp_map(factors=np.eye(5), k=3, given=[0], report=lambda done, total: seen.append((done, total)))
    assert seen == [(1, 3), (2, 3), (3, 3)]


@pytest.mark.parametrize("seed", range(20))
def test_full_rank_kernels_equal_greedy_log_determinants(seed):
    B, L = gaussian_kernel(seed, 40, 40)
    expected = oracles.greedy_logdet(L, 10)
    assert dpp_map(L, k=10).indices.tolist() == expected
    assert dpp_map(factors=B, k=10).indices.tolist() == expected


@pytest.mark.parametrize("seed", range(5))
def test_relevance_kernels_equal_greedy_log_determinants(seed):
    _, _, B = relevance_kernel(seed)
    assert dpp_map(factors=B, k=10).indices.tolist() == oracles.greedy_logdet(B @ B.T, 10)


def published_kernel(case):
    rng = np.random.default_rng(case["seed"])
    vectors, query = rng.standard_normal((case["n"], case["d"])), rng.standard_normal(case["d"])
    vectors /= np.linalg.norm(vectors, axis=1)[:, None]
    query /= np.linalg.norm(query)
    return vectors, query, relevance_kernel_factors(query, vectors, case["lam"])


@pytest.mark.parametrize("case", PUBLISHED, ids=lambda case: f"{case['seed']}")
def test_picks_are_those_of_the_published_implementation(case):
    _, _, B = published_kernel(case)
    for given in ({"factors": B}, {"kernel": B @ B.T}):
        picks = dpp_map(k=case["k"], parity="reference", **given)
        assert picks.indices.tolist() == case["picks"]
        assert picks.diagnostics["rank_exhausted"] == (len(case["picks"]) < case["k"])


def test_the_default_goes_on_where_the_published_implementation_stops_at_small_residuals():
    case = PUBLISHED[4]
    _, _, B = published_kernel(case)
    picks = dpp_map(factors=B, k=case["k"])
    assert len(picks) == case["k"] > len(case["picks"])
    assert picks.indices[: len(case["picks"])].tolist() == case["picks"]
    assert picks.indices.tolist() == oracles.greedy_logdet(B @ B.T, case["k"])


def test_seven_directions_give_seven_picks_and_the_rest_goes_by_relevance():
    # The kernel of vectors of six dimensions has rank seven.
    case = PUBLISHED[5]
    vectors, query, _ = published_kernel(case)
    relevance = vectors @ query
    candidates = Candidates(rows=np.arange(60), relevance=relevance, vectors=vectors.astype(np.float32))
    picks = Dpp(lam=case["lam"]).select(candidates, 20, RNG)
    assert picks.indices[:7].tolist() == case["picks"]
    left = [i for i in oracles.top_k(relevance, 60) if i not in case["picks"]]
    assert picks.indices[7:].tolist() == left[:13]
    assert picks.diagnostics["filled"] == 13


@pytest.mark.parametrize("seed", range(5))
def test_a_map_of_many_cut_by_rank_is_the_published_pipeline(seed):
    # Fifty of the hundred nearest by MAP, sorted by rank, cut below the budget, the nearest last.
    rng = np.random.default_rng(seed)
    query, vectors, _ = relevance_kernel(seed, n=400)
    cosine = vectors.astype(np.float64) @ query.astype(np.float64)
    nearest = np.array(oracles.top_k(cosine, 100))
    lengths = rng.integers(10, 200, size=100)
    B = relevance_kernel_factors(query, vectors[nearest], 0.1)
    picks = dpp_map(factors=B, k=50, parity="reference").indices
    relevance = cosine[nearest][picks]
    kept = pack("rank_prefix", lengths[picks], 1600, relevance=relevance)
    prompt = picks[kept[prompt_order("nearest_last", relevance[kept])]]
    by_slogdet = oracles.greedy_logdet(B @ B.T, 50)
    assert 5 < len(prompt) < 50
    assert prompt.tolist() == oracles.longest_prefix_below(by_slogdet, range(100), lengths, 1600)


def test_gains_add_up_to_the_log_determinant_and_never_rise():
    B, L = gaussian_kernel(3, 200, 120)
    picks = dpp_map(factors=B, k=100)
    chosen = L[np.ix_(picks.indices, picks.indices)]
    assert picks.diagnostics["logdet"] == pytest.approx(np.linalg.slogdet(chosen)[1], rel=1e-8)
    assert (np.diff(picks.gains) <= 1e-9).all()


def test_a_kernel_of_rank_seven_gives_seven_picks():
    B, L = gaussian_kernel(4, 30, 7)
    for picks in (dpp_map(L, k=20), dpp_map(factors=B, k=20)):
        assert len(set(picks.indices.tolist())) == len(picks) == 7
        assert picks.diagnostics["rank_exhausted"] is True
        assert np.isfinite(picks.gains).all()


def test_duplicates_are_not_chosen_while_other_directions_are_left():
    B, _ = gaussian_kernel(5, 10, 10)
    twice = np.vstack([B, B])
    picks = dpp_map(factors=twice, k=20)
    assert sorted(picks.indices.tolist()) == list(range(10))


def test_a_chosen_row_never_returns_even_where_only_rounding_is_left():
    B, L = gaussian_kernel(4, 30, 7)
    for picks in (dpp_map(L, k=20, eps=1e-300), dpp_map(factors=B, k=20, eps=1e-300)):
        assert len(set(picks.indices.tolist())) == len(picks) > 7


def test_equal_rows_at_any_place_tie_to_the_first():
    # Pairs of equal rows, whose products BLAS rounds differently near the end of a matrix.
    for seed in range(20):
        B, _ = gaussian_kernel(seed, 67, 100)
        twice = np.vstack([B, B])
        picks = dpp_map(factors=twice, k=20)
        assert (picks.indices < 67).all()


def test_directions_that_are_scaled_down_still_count():
    # Residuals of 1e-40 are far below eps, but each row is a direction of its own.
    scale = np.array([1.0, 1e-10, 1e-20])
    picks = dpp_map(np.diag(scale**2), k=3)
    assert picks.indices.tolist() == [0, 1, 2]
    assert picks.diagnostics["rank_exhausted"] is False


def test_residuals_stay_exact_over_hundreds_of_picks():
    B, L = gaussian_kernel(6, 400, 300)
    picks = dpp_map(factors=B, k=280)
    chosen = L[np.ix_(picks.indices, picks.indices)]
    assert picks.diagnostics["logdet"] == pytest.approx(np.linalg.slogdet(chosen)[1], rel=1e-8)


def test_a_zero_kernel_has_no_direction():
    picks = dpp_map(np.zeros((3, 3)), k=2)
    assert len(picks) == 0
    assert picks.diagnostics == {"logdet": 0, "rank_exhausted": True}


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({}, InvalidParameter, "either kernel or factors"),
        ({"kernel": np.eye(2), "factors": np.eye(2)}, InvalidParameter, "either kernel or factors"),
        ({"kernel": np.eye(2), "eps": 0.0}, InvalidParameter, "eps is 0.0"),
        ({"kernel": np.eye(2), "k": 0}, InvalidParameter, "k is 0"),
        ({"kernel": np.eye(2), "parity": "x"}, InvalidParameter, "parity is 'x', allowed none, reference"),
        ({"kernel": np.ones((2, 3))}, InvalidShape, r"kernel has shape \(2, 3\)"),
        ({"kernel": [[1.0, 0.5], [0.1, 1.0]]}, InvalidInput, "not symmetric"),
        ({"kernel": [[np.nan]]}, InvalidShape, "kernel holds nan"),
    ],
)
def test_senseless_input_is_refused(arguments, error, message):
    with pytest.raises(error, match=message):
        dpp_map(**{"k": 1, **arguments})


@pytest.mark.parametrize("lam", [0.02, 0.1, 1.0])
def test_factors_multiply_to_the_kernel(lam):
    query, vectors, B = relevance_kernel(7, n=12, d=5, lam=lam)
    r = (1 + vectors.astype(np.float64) @ query) / 2
    a = np.exp((r - r.max()) / (2 * lam))
    K = (1 + vectors.astype(np.float64) @ vectors.T) / 2
    np.testing.assert_allclose(B @ B.T, a[:, None] * K * a, atol=1e-6)


@pytest.mark.parametrize("lam", [0.02, 0.1, 1.0])
def test_the_log_determinant_splits_into_relevance_and_diversity(lam):
    rng = np.random.default_rng(8)
    vectors = unit_rows(rng.standard_normal((30, 16))).astype(np.float64)
    relevance = rng.uniform(-1, 1, 30)
    B = relevance_kernel_factors(None, vectors, lam, relevance=relevance)
    r = (1 + relevance) / 2
    K = (1 + vectors @ vectors.T) / 2
    for size in (1, 4, 9):
        S = rng.choice(30, size, replace=False)
        together = np.linalg.slogdet(B[S] @ B[S].T)[1]
        apart = (r[S] - r.max()).sum() / lam + np.linalg.slogdet(K[np.ix_(S, S)])[1]
        assert together == pytest.approx(apart, abs=1e-9)


def test_the_kernel_is_positive_semi_definite():
    for seed in range(10):
        _, _, B = relevance_kernel(seed, n=50, d=8)
        assert np.linalg.eigvalsh(B @ B.T).min() >= -1e-9


def test_a_tiny_lam_gives_the_most_similar_rows():
    query, vectors, B = relevance_kernel(9, n=60, lam=1e-3)
    assert set(dpp_map(factors=B, k=8).indices.tolist()) == set(oracles.top_k(vectors @ query, 8))


def test_a_huge_lam_gives_pure_diversity():
    _, vectors, B = relevance_kernel(10, lam=1e3)
    K = (1 + vectors.astype(np.float64) @ vectors.T) / 2
    picks = dpp_map(factors=B, k=8).indices.tolist()
    # By diversity alone every first pick is as good, so the search by K starts where the other one did.
    assert picks == oracles.greedy_logdet(K, 8, first=picks[0])


def test_relevance_may_be_given_in_place_of_the_query():
    query, vectors, B = relevance_kernel(11)
    cosine = np.array([float(np.dot(v.astype(np.float64), query.astype(np.float64))) for v in vectors])
    np.testing.assert_allclose(relevance_kernel_factors(None, vectors, 0.1, relevance=cosine), B, rtol=1e-9)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [((None, [[1.0]], 0.1), "query or the relevance"), (([1.0], [[1.0]], 0.0), "lam is 0.0")],
)
def test_senseless_kernels_are_refused(arguments, message):
    with pytest.raises(InvalidParameter, match=message):
        relevance_kernel_factors(*arguments)


def test_the_method_is_greedy_map_of_its_kernel():
    candidates = random_candidates(seed=12, n=64, d=32)
    picks = Dpp(lam=0.05).select(candidates, 8, RNG)
    B = relevance_kernel_factors(None, candidates.vectors, 0.05, relevance=candidates.relevance)
    assert picks.indices.tolist() == oracles.greedy_logdet(B @ B.T, 8)
    assert np.array_equal(picks.scores, candidates.relevance[picks.indices])
    assert picks.diagnostics["filled"] == 0


def test_the_method_avoids_the_near_duplicate_that_similarity_takes():
    vectors = unit_rows([[1.0, 0.0, 0.0], [1.0, 0.01, 0.0], [0.8, 0.0, 0.6]])
    relevance = (vectors @ vectors[0]).astype(np.float64)
    candidates = Candidates(rows=np.arange(3), relevance=relevance, vectors=vectors)
    assert Dpp(lam=0.5).select(candidates, 2, RNG).indices.tolist() == [0, 2]


def test_places_beyond_the_rank_are_filled_by_similarity():
    # Nine rows are copies of three; rows 0, 1 and 5 are the most relevant ones of each.
    basis = unit_rows([[1.0, 0.0], [0.6, 0.8], [0.0, 1.0]])
    relevance = np.array([0.9, 0.5, 0.1, 0.8, 0.4, 0.2, 0.7, 0.3, 0.05])
    candidates = Candidates(rows=np.arange(9), relevance=relevance, vectors=np.tile(basis, (3, 1)))
    picks = Dpp(lam=1.0).select(candidates, 7, RNG)
    assert set(picks.indices[:3].tolist()) == {0, 1, 5}
    assert picks.indices[3:].tolist() == [3, 6, 4, 7]
    assert picks.gains[3:].tolist() == [0.0] * 4
    assert picks.diagnostics["rank_exhausted"] is True
    assert picks.diagnostics["filled"] == 4
