import numpy as np
import pytest
from numpy.testing import assert_allclose

from kshot.index import token_base as token_base_module
from kshot.index.token_base import Reduction, TokenBase
from kshot.index.token_clusters import TokenClusters, unit
from kshot.index.token_lists import TokenLists, write_lists
from kshot.selectors.late_interaction import bsr_scores, maxsim
from tests.test_index.builders import random_unit

N, D = 600, 24


def sealed(folder, tokens, offsets, clusters=40):
    reduction = Reduction.of(tokens, offsets)
    reduced = reduction.reduce(tokens)
    found = TokenClusters.train(reduced, clusters)
    rows = np.repeat(np.arange(len(offsets) - 1), np.diff(offsets))
    sizes = write_lists(
        folder / "lists", found.nearest(reduced), reduced.astype(np.float16), rows, len(found)
    )
    lists = TokenLists(folder / "lists", sizes, reduction.dimension)
    return TokenBase(reduction, found, lists, reduction.encode(reduced), offsets, len(offsets) - 1)


def texts(rng, n, words, noise=0.25):
    """Return tokens of n rows, each one of a few words' directions with noise, and their offsets."""
    offsets = np.cumsum([0, *rng.integers(1, 9, n)])
    tokens = words[rng.integers(0, len(words), offsets[-1])]
    return unit(tokens + noise * random_unit(rng, len(tokens), words.shape[1])), offsets


@pytest.fixture(scope="module")
def pool(tmp_path_factory):
    rng = np.random.default_rng(0)
    words = random_unit(rng, 80, D)
    tokens, offsets = texts(rng, N, words)
    return sealed(tmp_path_factory.mktemp("base"), tokens, offsets), tokens, offsets, words


def exact(pool, query):
    _, tokens, offsets, _ = pool
    return maxsim(query, tokens, offsets, np.full(len(query), 1 / len(query), np.float32))


def query_of(pool, seed, length):
    rng = np.random.default_rng(seed)
    words = pool[3]
    return unit(words[rng.integers(0, len(words), length)] + 0.25 * random_unit(rng, length, D))


@pytest.mark.parametrize("length", [1, 2, 5, 12])
def test_estimates_are_close_where_no_direction_is_lost(pool, length):
    query = query_of(pool, length, length)
    rows = np.sort(np.random.default_rng(1).choice(N, 100, replace=False))
    weights = np.full(length, 1 / length, np.float32)
    found = pool[0].estimate(query, weights, rows)
    assert found.shape == (100, length)
    assert_allclose(found, exact(pool, query)[rows], atol=0.01 / length)


def test_weights_scale_the_estimates(pool):
    query, rows = query_of(pool, 1, 3), np.arange(N)
    one = pool[0].estimate(query, np.ones(3, np.float32), rows)
    weighted = pool[0].estimate(query, np.array([0.5, 0.0, 2.0], np.float32), rows)
    assert_allclose(weighted, one * [0.5, 0.0, 2.0], atol=1e-5)


def test_a_reduction_keeps_the_directions_in_which_tokens_vary(monkeypatch):
    monkeypatch.setattr(token_base_module, "MAX_DIMENSION", 3)
    rng = np.random.default_rng(2)
    plane = np.linalg.qr(rng.standard_normal((10, 3)))[0]
    tokens = unit((rng.standard_normal((200, 3)) @ plane.T).astype(np.float32))
    reduction = Reduction.of(tokens, np.arange(0, 201, 4))
    assert reduction.dimension == 3
    reduced = reduction.reduce(tokens)
    assert_allclose(reduced @ reduced.T, tokens @ tokens.T, atol=1e-5)
    decoded = reduction.encode(reduced) * reduction.steps
    assert_allclose(decoded, reduced, atol=float(reduction.steps.max()))
    assert reduction.spread == pytest.approx(1, abs=1e-4)


def test_spread_makes_good_for_what_the_projection_loses(monkeypatch):
    monkeypatch.setattr(token_base_module, "MAX_DIMENSION", 10)
    rng = np.random.default_rng(3)
    tokens, offsets = texts(rng, 400, random_unit(rng, 60, D))
    reduction = Reduction.of(tokens, offsets)
    assert reduction.spread > 1.05
    weights = np.full(6, 1 / 6, np.float32)
    raw, corrected = [], []
    for seed in range(20):
        query, _ = texts(np.random.default_rng(seed), 20, random_unit(np.random.default_rng(3), 60, D))
        true = bsr_scores(maxsim(query[:6], tokens, offsets, weights)).std()
        projected = reduction.project(query[:6]), reduction.project(tokens)
        estimate = bsr_scores(maxsim(*projected, offsets, weights)).std()
        raw.append(abs(estimate / true - 1))
        corrected.append(abs(reduction.spread * estimate / true - 1))
    assert np.mean(corrected) < 0.5 * np.mean(raw)


def test_the_best_rows_for_each_token_are_proposed(pool):
    missed = 0
    for seed in range(30):
        query = query_of(pool, seed, 6)
        best = np.argsort(-exact(pool, query), axis=0)[:3]
        missed += (~np.isin(best, pool[0].propose(query, None))).sum()
    assert missed <= 0.02 * 30 * 6 * 3


@pytest.mark.parametrize("share", [0.02, 0.3, 0.9])
def test_only_eligible_rows_are_proposed_and_the_best_of_those(pool, share):
    rng = np.random.default_rng(4)
    missed = 0
    for seed in range(20):
        eligible = rng.random(N) < share
        query = query_of(pool, seed, 4)
        found = pool[0].propose(query, eligible)
        assert eligible[found].all()
        rows = np.flatnonzero(eligible)
        missed += (~np.isin(rows[exact(pool, query)[rows].argmax(axis=0)], found)).sum()
    assert missed <= 0.03 * 20 * 4


def test_few_eligible_rows_are_all_proposed(pool):
    eligible = np.zeros(N, np.bool_)
    eligible[[3, 77, 500]] = True
    assert pool[0].propose(query_of(pool, 0, 2), eligible).tolist() == [3, 77, 500]


@pytest.mark.parametrize("length", [1, 64, 3_000])
def test_short_and_very_long_queries_get_proposals(pool, length):
    query = query_of(pool, length, length)
    found = pool[0].propose(query, None)
    assert 10 <= len(found) <= N
    assert (np.diff(found) > 0).all()
    weights = np.full(length, 1 / length, np.float32)
    assert pool[0].estimate(query, weights, found).shape == (len(found), length)


def test_a_query_of_no_token_has_no_estimates_and_proposes_nothing(pool):
    query = np.empty((0, D), np.float32)
    assert len(pool[0].propose(query, None)) == 0
    assert pool[0].estimate(query, np.empty(0, np.float32), np.arange(4)).shape == (4, 0)
    assert pool[0].estimate(query_of(pool, 0, 2), np.ones(2, np.float32), np.arange(0)).shape == (0, 2)


def test_identical_rows_are_a_pool_too(tmp_path):
    tokens = np.tile(random_unit(np.random.default_rng(5), 1, 6), (50, 1))
    base = sealed(tmp_path, tokens, np.arange(0, 51, 2))
    found = base.propose(tokens[:1], None)
    assert len(found) >= 8
    assert_allclose(base.estimate(tokens[:1], np.ones(1, np.float32), found), 1, atol=0.01)
