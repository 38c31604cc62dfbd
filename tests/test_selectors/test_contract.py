"""What every registered selector promises, whoever wrote it."""

import dataclasses
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kshot.arrays import Candidates, Feature, Moments, Signal, unit_rows
from kshot.errors import InvalidInput, InvalidParameter
from kshot.selectors import SELECTORS
from tests.strategies import LABEL_NAMES, candidate_sets, random_candidates, rearranged

NAMES = SELECTORS.names()
DETERMINISTIC = tuple(name for name in NAMES if name != "random")
# Methods under parameters that take another way through them.
VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    "mmr fused": ("mmr", {"relevance": "fused", "bm25": 0.5}),
    "dpp fused": ("dpp", {"relevance": "fused"}),
    "set_bsr fused": ("set_bsr", {"relevance": "fused", "add_cand_score": 2.0}),
    "label_balanced fused": ("label_balanced", {"relevance": "fused", "similarity": 0}),
    "label_balanced in proportion": ("label_balanced", {"quotas": "proportional"}),
    "label_balanced by number": ("label_balanced", {"quotas": {LABEL_NAMES[1]: 2, LABEL_NAMES[4]: 1}}),
}
# The bins of a curriculum depend on how many are wanted.
NOT_NESTED = {"cds"}
# Ranks, bins and proportions count the rows that were not chosen as well.
COUNTING = {"hybrid", "cds", "label_balanced in proportion"}
ARRAY_PARTS = (
    "rows",
    "relevance",
    "query_vector",
    "vectors",
    "partial_scores",
    "bm25",
    "structure_scores",
    "labels",
    "difficulty",
    "lengths",
)

every_selector = pytest.mark.parametrize("name", NAMES)
every_deterministic_selector = pytest.mark.parametrize("name", DETERMINISTIC)
every_variant = pytest.mark.parametrize("name", [*NAMES, *VARIANTS])
every_deterministic_variant = pytest.mark.parametrize("name", [*DETERMINISTIC, *VARIANTS])


def made(name):
    method, parameters = VARIANTS.get(name, (name, {}))
    cls: Any = SELECTORS.get(method)
    return cls(**parameters)


def select(name, candidates, k, seed=0):
    return made(name).select(candidates, k, np.random.default_rng(seed))


def same(a, b):
    return all(np.array_equal(getattr(a, part), getattr(b, part)) for part in ("indices", "gains", "scores"))


def constant_candidates(n, value):
    """n times the same row, all its numbers equal to ``value``."""
    return Candidates(
        rows=np.arange(n),
        relevance=np.full(n, value),
        query_vector=unit_rows([[1.0, 0.0]])[0],
        vectors=unit_rows(np.tile([[0.6, 0.8]], (n, 1))),
        partial_scores=np.full((n, 4), value),
        bm25=np.full(n, value),
        structure_scores=np.full((n, 3), value),
        labels=np.zeros(n, dtype=np.int64),
        label_names=LABEL_NAMES,
        difficulty=np.full(n, value),
        lengths=np.full(n, 7),
        moments={signal: Moments(0.0, 0.0) for signal in Signal},
    )


@every_variant
@settings(max_examples=40)
@given(candidates=candidate_sets(), k=st.integers(1, 16))
def test_picks_are_distinct_in_range_and_as_many_as_exist(name, candidates, k):
    picks = select(name, candidates, k)
    assert len(picks) == min(k, len(candidates))
    assert picks.indices.dtype == np.int64
    assert len(set(picks.indices.tolist())) == len(picks)
    assert ((picks.indices >= 0) & (picks.indices < len(candidates))).all()
    assert np.isfinite(picks.gains).all()
    assert np.isfinite(picks.scores).all()


@every_selector
@settings(max_examples=20)
@given(candidates=candidate_sets(), k=st.integers(1, 6), seed=st.integers(0, 3))
def test_same_input_and_seed_give_the_same_picks(name, candidates, k, seed):
    assert same(select(name, candidates, k, seed), select(name, candidates, k, seed))


@every_deterministic_selector
@settings(max_examples=20)
@given(candidates=candidate_sets(), k=st.integers(1, 6))
def test_deterministic_selectors_ignore_the_generator(name, candidates, k):
    assert same(select(name, candidates, k, seed=1), select(name, candidates, k, seed=2))


@every_variant
def test_inputs_are_never_changed(name):
    candidates = random_candidates(seed=1, n=30)
    for part in ARRAY_PARTS:
        getattr(candidates, part).setflags(write=False)
    before = {part: getattr(candidates, part).copy() for part in ARRAY_PARTS}
    select(name, candidates, 8)
    assert all(np.array_equal(getattr(candidates, part), before[part]) for part in ARRAY_PARTS)


@every_selector
def test_more_wanted_than_there_are_returns_all(name):
    picks = select(name, random_candidates(seed=2, n=5), k=50)
    assert sorted(picks.indices.tolist()) == [0, 1, 2, 3, 4]


@every_variant
def test_one_candidate_is_chosen(name):
    assert select(name, random_candidates(seed=3, n=1), k=8).indices.tolist() == [0]


@every_variant
def test_no_candidate_gives_no_picks(name):
    nothing = rearranged(random_candidates(seed=3, n=2), np.arange(0))
    assert len(select(name, nothing, k=3)) == 0


@every_variant
@pytest.mark.parametrize("n", [1, 12])
def test_a_query_of_special_tokens_only_is_answered(name, n):
    mute = dataclasses.replace(random_candidates(seed=8, n=n), partial_scores=np.zeros((n, 0)))
    picks = select(name, mute, k=5)
    assert len(set(picks.indices.tolist())) == len(picks) == min(5, n)
    assert np.isfinite(picks.gains).all()
    assert np.isfinite(picks.scores).all()


@every_deterministic_variant
@pytest.mark.parametrize("value", [1.0, 0.0, -0.5], ids=["equal", "zero", "negative"])
def test_identical_candidates_are_picked_by_row_number(name, value):
    assert select(name, constant_candidates(9, value), k=5).indices.tolist() == [0, 1, 2, 3, 4]


@every_deterministic_variant
@settings(max_examples=30)
@given(candidates=candidate_sets(max_size=6), k=st.integers(1, 12))
def test_a_duplicate_never_comes_before_its_original(name, candidates, k):
    n = len(candidates)
    twice = rearranged(candidates, np.tile(np.arange(n), 2))
    picked = select(name, twice, k).indices.tolist()
    for copy in (i for i in picked if i >= n):
        assert copy - n in picked[: picked.index(copy)]


@every_variant
@pytest.mark.parametrize("magnitude", [1e-100, 1e-30, 1e30, 1e100])
def test_extreme_numbers_give_finite_results(name, magnitude):
    usual = random_candidates(seed=4, n=12)
    extreme = dataclasses.replace(
        usual,
        relevance=usual.relevance * magnitude,
        partial_scores=(usual.partial_scores - 0.05) * magnitude,
        bm25=usual.bm25 * magnitude,
        structure_scores=usual.structure_scores * magnitude,
        moments={signal: Moments(magnitude / 2, magnitude) for signal in Signal},
    )
    picks = select(name, extreme, k=6)
    assert len(picks) == 6
    assert np.isfinite(picks.gains).all()
    assert np.isfinite(picks.scores).all()


@every_deterministic_variant
@pytest.mark.parametrize("seed", range(5))
def test_rearranged_candidates_give_the_same_examples(name, seed):
    candidates = random_candidates(seed=seed, n=40)
    order = np.random.default_rng(seed).permutation(40)
    original = select(name, candidates, k=10)
    moved = select(name, rearranged(candidates, order), k=10)
    assert order[moved.indices].tolist() == original.indices.tolist()
    np.testing.assert_allclose(moved.gains, original.gains, atol=1e-9)


@pytest.mark.parametrize("name", [name for name in (*DETERMINISTIC, *VARIANTS) if name not in NOT_NESTED])
@settings(max_examples=20)
@given(candidates=candidate_sets())
def test_picks_for_fewer_are_a_prefix_of_those_for_more(name, candidates):
    longest = select(name, candidates, k=len(candidates)).indices.tolist()
    for k in range(1, len(candidates)):
        assert select(name, candidates, k).indices.tolist() == longest[:k]


@pytest.mark.parametrize("name", [name for name in (*DETERMINISTIC, *VARIANTS) if name not in COUNTING])
@pytest.mark.parametrize("seed", range(3))
def test_a_copy_of_a_row_that_was_not_chosen_changes_nothing(name, seed):
    candidates = random_candidates(seed=seed, n=30)
    picks = select(name, candidates, k=6)
    spurned = np.setdiff1d(np.arange(30), picks.indices)[:5]
    with_copies = rearranged(candidates, np.concatenate([np.arange(30), spurned]))
    assert select(name, with_copies, k=6).indices.tolist() == picks.indices.tolist()


@every_selector
def test_one_instance_serves_many_threads(name):
    selector = SELECTORS.get(name)()
    sets = [random_candidates(seed=seed, n=60) for seed in range(24)]

    def chosen(candidates):
        return selector.select(candidates, 8, np.random.default_rng(5)).indices.tolist()

    alone = [chosen(candidates) for candidates in sets]
    with ThreadPoolExecutor(8) as threads:
        assert list(threads.map(chosen, sets)) == alone


@every_selector
def test_fewer_than_one_pick_is_refused(name):
    with pytest.raises(InvalidParameter, match="k is 0"):
        select(name, random_candidates(seed=5, n=4), k=0)


@every_variant
def test_what_is_not_needed_may_be_absent(name):
    selector = made(name)
    full = random_candidates(seed=6, n=20)
    feature_to_parts = {
        Feature.VECTORS: ("vectors", "query_vector"),
        Feature.TOKENS: ("partial_scores",),
        Feature.LEXICAL: ("bm25",),
        Feature.STRUCTURES: ("structure_scores",),
        Feature.LABELS: ("labels", "label_names"),
        Feature.DIFFICULTY: ("difficulty",),
    }
    unneeded: dict[str, Any] = {
        p: None for f, parts in feature_to_parts.items() if f not in selector.needs for p in parts
    }
    if Feature.MOMENTS not in selector.needs:
        unneeded["moments"] = {}
    lean = dataclasses.replace(full, **unneeded)
    rng = np.random.default_rng
    assert same(selector.select(lean, 5, rng(0)), selector.select(full, 5, rng(0)))


@pytest.mark.parametrize(
    ("name", "feature"),
    [(name, feature) for name in (*NAMES, *VARIANTS) for feature in sorted(made(name).needs)],
)
def test_a_missing_need_is_named(name, feature):
    parts: dict[Feature, dict[str, Any]] = {
        Feature.VECTORS: {"vectors": None},
        Feature.TOKENS: {"partial_scores": None},
        Feature.LEXICAL: {"bm25": None},
        Feature.STRUCTURES: {"structure_scores": None},
        Feature.LABELS: {"labels": None},
        Feature.DIFFICULTY: {"difficulty": None},
        Feature.MOMENTS: {"moments": {}},
    }
    lacking = dataclasses.replace(random_candidates(seed=7, n=6), **parts[feature])
    with pytest.raises(InvalidInput, match=str(feature)):
        select(name, lacking, k=2)
