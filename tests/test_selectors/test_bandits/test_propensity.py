"""What is drawn from and the draw: the order of mixing, exact propensities, seeds."""

from hashlib import blake2b

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from kshot.errors import InvalidParameter, InvalidShape
from kshot.selectors.bandits import POLICIES, Choice, PropensityKind, Situation, outcomes, snapped
from kshot.selectors.bandits.propensity import (
    Exploration,
    decision_seed,
    distribution,
    draw,
    mixed_uniformly,
    mixed_with_nursery,
    uniforms,
)

NONE = Exploration(floor=0, holdout=0, nursery_outcomes=0)
DRAWS = 100_000


def chosen(*probabilities, kind=PropensityKind.EXACT):
    p = np.array(probabilities, np.float64)
    return Choice(p, np.zeros(len(p)), np.zeros(len(p)), kind)


def drawn(mixed, count=DRAWS, name="p"):
    return [draw(mixed, decision_seed(name, 1, str(number))) for number in range(count)]


def chi_square_p(places, probabilities):
    """Return how likely counts are that far from expected; arms of probability 0 must not occur."""
    counts = np.bincount(places, minlength=len(probabilities))
    possible = probabilities > 0
    assert not counts[~possible].any()
    if np.count_nonzero(possible) == 1:
        return 1.0
    return stats.chisquare(counts[possible], probabilities[possible] * len(places)).pvalue


def test_parts_are_mixed_in_the_documented_order():
    # K = 4, one new arm: nursery share min(1/4, .2) = .2: p = .8 * [.5, .5, 0, 0] + [0, 0, 0, .2].
    # Floor .1: .9 * [.4, .4, 0, .2] + .025 = [.385, .385, .025, .205].
    # Hold-out .2: .8 * that + .05 = [.358, .358, .07, .214].
    exploration = Exploration(floor=0.1, holdout=0.2, nursery_outcomes=10, nursery_cap=0.2)
    mixed = distribution(chosen(0.5, 0.5, 0, 0), [10, 11, 12, 9], exploration)
    assert mixed.adaptive == pytest.approx([0.385, 0.385, 0.025, 0.205], abs=1e-15)
    assert mixed.probabilities == pytest.approx([0.358, 0.358, 0.07, 0.214], abs=1e-15)
    assert mixed.nursery.tolist() == [False, False, False, True]


def test_the_floor_is_a_mixture():
    assert mixed_uniformly(np.array([1.0, 0.0]), 0.02) == pytest.approx([0.99, 0.01])


@pytest.mark.parametrize(("new", "share"), [(0, 0.0), (1, 0.1), (2, 0.2), (3, 0.2), (10, 0.2)], ids=str)
def test_the_nursery_gets_its_share_of_the_arms_and_a_fifth_at_most(new, share):
    nursery = np.arange(10) >= 10 - new
    mixed = mixed_with_nursery(np.eye(10)[0], nursery, 0.2)
    assert mixed.sum() == pytest.approx(1)
    expected = (1 - share) * np.eye(10)[0] + (share / new * nursery if new else 0)
    assert mixed == pytest.approx(expected, abs=1e-15)


@given(
    st.lists(st.integers(0, 5), min_size=2, max_size=8).filter(any),
    st.floats(0, 1),
    st.floats(0, 1),
    st.floats(0, 1),
    st.integers(0, 2**32 - 1),
)
def test_the_result_is_a_distribution_that_keeps_to_the_floor(parts, floor, holdout, cap, seed):
    p = np.array(parts) / sum(parts)
    counts = np.random.default_rng(seed).integers(0, 20, len(p))
    mixed = distribution(chosen(*p), counts, Exploration(floor, holdout, 10, cap))
    for vector in (mixed.probabilities, mixed.adaptive):
        assert vector.sum() == pytest.approx(1, abs=1e-12)
        assert vector.min() >= floor / len(p) - 1e-15
    assert mixed.probabilities.min() >= holdout / len(p) - 1e-15


def test_without_exploration_the_choice_stands():
    p = np.array([0.1, 0.2, 0.7])
    mixed = distribution(chosen(*p, kind=PropensityKind.QUADRATURE), [0, 0, 0], NONE)
    assert mixed.probabilities.tolist() == (p / p.sum()).tolist()
    assert mixed.kind is PropensityKind.QUADRATURE


def test_a_single_arm_is_forced():
    mixed = distribution(chosen(1.0), [0], Exploration())
    assert mixed.kind is PropensityKind.FORCED
    found = [draw(mixed, seed) for seed in range(1000)]
    assert {(one.place, one.propensity) for one in found} == {(0, 1.0)}
    assert 0 < sum(one.is_holdout for one in found) < 60


def test_draws_are_as_frequent_as_their_propensities_in_and_out_of_the_hold_out():
    exploration = Exploration(floor=0.1, holdout=0.3, nursery_outcomes=10)
    mixed = distribution(chosen(0.6, 0.3, 0.1, 0, 0), [50, 50, 50, 50, 3], exploration)
    found = drawn(mixed)
    assert chi_square_p([one.place for one in found], mixed.probabilities) > 0.001
    held = [one for one in found if one.is_holdout]
    # Binomial: standard deviation sqrt(.3 * .7 / 1e5) = .00145; four of them.
    assert len(held) / DRAWS == pytest.approx(0.3, abs=0.006)
    assert chi_square_p([one.place for one in held], np.full(5, 0.2)) > 0.001
    assert chi_square_p([one.place for one in found if not one.is_holdout], mixed.adaptive) > 0.001
    assert all(one.propensity == mixed.probabilities[one.place] for one in found[:100])


def test_an_arm_of_probability_0_is_never_drawn():
    mixed = distribution(chosen(0, 0.5, 0, 0.5, 0), [0] * 5, NONE)
    assert {one.place for one in drawn(mixed, 5000)} == {1, 3}


@pytest.mark.parametrize("name", POLICIES.names())
def test_every_policy_is_served_as_often_as_it_is_logged(name):
    """On a frozen state, with the floor on; the contexts' last feature is the intercept."""
    rng = np.random.default_rng(3)
    arms = ("a", "b", "c", "d")
    policy = POLICIES.get(name)()
    contexts = np.column_stack([rng.uniform(-1, 1, (60, 2)), np.ones(60)])
    told = [arms[row] for row in rng.integers(0, 3, 60)]
    state = policy.fold(policy.init(3), outcomes(told, contexts, rng.random(60)))
    choice = policy.choose(state, Situation(arms, snapped(np.array([0.25, -0.5, 1.0]))))
    summaries = state.summaries()
    counts = [summaries[arm].n if arm in summaries else 0 for arm in arms]
    mixed = distribution(choice, counts, Exploration())
    assert mixed.probabilities.min() >= 0.02 / 4
    assert chi_square_p([one.place for one in drawn(mixed, name=name)], mixed.probabilities) > 0.001


def test_a_decision_can_be_drawn_again():
    mixed = distribution(chosen(0.2, 0.3, 0.5), [20] * 3, Exploration())
    assert drawn(mixed, 200) == drawn(mixed, 200)
    assert drawn(mixed, 200) != drawn(mixed, 200, name="q")


def test_seeds_are_64_bits_and_differ_in_every_part():
    parts = [("p", 1, "d"), ("p", 2, "d"), ("q", 1, "d"), ("p", 1, "e"), ("p1", 1, "d"), ("p", 11, "d")]
    seeds = [decision_seed(*part) for part in parts] + [decision_seed("p", 1, "d", b"key")]
    assert len(set(seeds)) == len(seeds)
    assert all(0 <= seed < 2**64 for seed in seeds)
    # Written side by side, both would read the same.
    assert decision_seed("ab", 1, "c") != decision_seed("a", 1, "bc")
    # What is hashed, written out: three lengths in eight bytes, each before its text.
    data = b"".join(bytes([1, 0, 0, 0, 0, 0, 0, 0]) + text for text in (b"p", b"1", b"d"))
    digest = blake2b(data, digest_size=8, key=b"key").digest()
    assert decision_seed("p", 1, "d", b"key") == int.from_bytes(digest, "little")
    assert decision_seed("p", 1, "d") == 13614380095071794984


def test_uniforms_are_those_of_the_published_generator():
    # The first three outputs of SplitMix64 from seed 1234567.
    first = [6457827717110365317, 3203168211198807973, 9817491932198370423]
    assert uniforms(1234567, 3) == [(value >> 11) * 2.0**-53 for value in first]


def test_bad_numbers_are_refused():
    with pytest.raises(InvalidParameter, match=r"floor is 1.5, allowed 0 to 1"):
        Exploration(floor=1.5)
    with pytest.raises(InvalidParameter, match="nursery_outcomes is -1"):
        Exploration(nursery_outcomes=-1)
    with pytest.raises(InvalidParameter, match=r"sum to 0.9"):
        distribution(chosen(0.5, 0.4), [0, 0], NONE)
    with pytest.raises(InvalidParameter, match=r"least is -0.5"):
        distribution(chosen(1.5, -0.5), [0, 0], NONE)
    with pytest.raises(InvalidShape):
        distribution(chosen(0.5, 0.5), [0], NONE)
    with pytest.raises(InvalidShape):
        distribution(chosen(np.nan, 1), [0, 0], NONE)
    with pytest.raises(InvalidParameter, match="the key has 65 bytes"):
        decision_seed("p", 1, "d", bytes(65))
