"""Sums that forget: an outcome counts half after every half-life of its decision's age."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kshot.errors import InvalidShape, StateCorrupt
from kshot.selectors.bandits import outcomes
from kshot.selectors.bandits.decaying import STEPS, DecayingState
from kshot.selectors.bandits.sums import SumsState

HALF_LIFE = 10.0


def events(seed, m=40, d=3, arms=2):
    rng = np.random.default_rng(seed)
    return outcomes(
        [f"arm-{arm}" for arm in rng.integers(0, arms, m)],
        rng.uniform(-2, 2, (m, d)),
        rng.random(m),
        weights=rng.uniform(0, 8, m),
        times=rng.uniform(0, 50, m),
    )


def slow_view(addends, arm, clock, half_life):
    """Every outcome discounted by its own age."""
    rows = [row for row, name in enumerate(addends.arms) if name == arm]
    discounts = 2.0 ** ((addends.times[rows] - clock) / half_life)
    Z = np.ldexp(addends.contexts[rows], -16)
    w = np.ldexp(addends.weights[rows], -10)
    r = np.ldexp(addends.rewards[rows], -26)
    square = np.ldexp(addends.squares[rows], -42)
    return {
        "n": len(rows),
        "weight": discounts @ w,
        "reward": discounts @ r,
        "square": discounts @ square,
        "gram": (Z.T * (w * discounts)) @ Z,
        "moment": Z.T @ (r * discounts),
        "squared_gram": (Z.T * (w * discounts**2)) @ Z,
    }


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 40), st.floats(0, 500))
def test_every_outcome_counts_by_its_age(seed, m, now):
    addends = events(seed, m)
    state = DecayingState(HALF_LIFE, 3).fold(addends)
    clock = state.clock(now)
    for arm in set(addends.arms):
        view = state.view(arm, clock)
        for part, wanted in slow_view(addends, arm, clock, HALF_LIFE).items():
            assert np.allclose(getattr(view, part), wanted, rtol=1e-9, atol=1e-12), part


def test_the_clock_moves_in_small_steps_and_never_behind_an_outcome():
    state = DecayingState(HALF_LIFE).fold(
        outcomes(["a"], np.empty((1, 0)), np.ones(1), times=np.array([7.0]))
    )
    step = HALF_LIFE / STEPS
    assert state.clock(20.0) == 20.0
    assert state.clock(20.0 + 0.9 * step) == 20.0
    assert state.clock(20.0 + 1.1 * step) == pytest.approx(20.0 + step)
    # A clock that jumps back.
    assert state.clock(-1000.0) == state.clock(7.0)
    assert 7.0 - step < state.clock(7.0) <= 7.0


def test_without_a_half_life_worth_mentioning_it_is_the_plain_state():
    addends = events(1)
    plain, slow = SumsState(3).fold(addends), DecayingState(1e15, 3).fold(addends)
    for arm in ("arm-0", "arm-1"):
        a, b = plain.view(arm), slow.view(arm, 50.0)
        for part in ("n", "weight", "reward", "square", "gram", "moment"):
            assert np.allclose(getattr(a, part), getattr(b, part), rtol=1e-12, atol=1e-12)


def test_outcomes_of_ages_past_are_nothing():
    state = DecayingState(HALF_LIFE, 1).fold(
        outcomes(["a", "a"], np.ones((2, 1)), np.ones(2), times=np.array([0.0, 1e12]))
    )
    view = state.view("a", 1e12)
    assert view is not None
    assert (view.n, view.weight, view.reward) == (2, 1.0, 1.0)
    later = state.view("a", 1e15)
    assert later is not None
    assert later.weight == pytest.approx(0.0, abs=1e-300)


def test_late_outcomes_give_the_same_state():
    addends = events(2)
    straight = DecayingState(HALF_LIFE, 3).fold(addends.take(np.argsort(addends.times)))
    late = DecayingState(HALF_LIFE, 3).fold(addends.take(np.argsort(-addends.times)))
    for arm in ("arm-0", "arm-1"):
        a, b = straight.arms[arm], late.arms[arm]
        assert (a.n, a.t_ref) == (b.n, b.t_ref)
        for part in ("scalars", "products", "squared"):
            assert np.allclose(getattr(a, part), getattr(b, part), rtol=0, atol=1e-9)


def test_a_summary_follows_what_is_recent():
    times = np.array([0.0, HALF_LIFE])
    state = DecayingState(HALF_LIFE).fold(
        outcomes(["a", "a"], np.empty((2, 0)), np.array([1.0, 0.0]), times=times)
    )
    summary = state.summaries()["a"]
    # 1 at half the weight, 0 at the whole: mean 1/3, variance 1/3 - 1/9.
    assert (summary.n, summary.weight) == (2, 1.5)
    assert summary.mean == pytest.approx(1 / 3)
    assert summary.variance == pytest.approx(2 / 9)


def test_other_features_are_refused():
    with pytest.raises(InvalidShape, match="contexts"):
        DecayingState(HALF_LIFE, 2).fold(events(1))


def test_the_plain_state_is_no_state_that_forgets():
    with pytest.raises(StateCorrupt, match="'sums', wanted 'decaying'"):
        DecayingState.from_bytes(SumsState(3).to_bytes())


def test_a_snapshot_of_the_first_layout_is_read():
    state = DecayingState.from_bytes(bytes.fromhex(FIRST_LAYOUT))
    contexts, times = np.array([[0.5, 1.0], [-0.25, 1.0]]), np.array([0.0, 20.0])
    wanted = DecayingState(HALF_LIFE, 2).fold(
        outcomes(["a", "b"], contexts, np.array([0.5, 1.0]), weights=np.array([1.0, 0.5]), times=times)
    )
    assert state.to_bytes() == wanted.to_bytes()


FIRST_LAYOUT = (
    "6b73686f74707374930000007b22617272617973223a5b5b223c6638222c5b322c31345d5d5d2c22686561646572223a7b22"
    "61726d73223a5b5b2261222c315d2c5b2262222c315d5d2c2264696d656e73696f6e223a322c226665617475726573223a22"
    "636f6e74657874222c2268616c665f6c6966655f73223a31302e307d2c226b696e64223a226465636179696e67222c227665"
    "7273696f6e223a317d0000000000000000000000000000f03f000000000000e03f000000000000d03f000000000000d03f00"
    "0000000000e03f000000000000d03f000000000000f03f000000000000e03f000000000000d03f000000000000e03f000000"
    "000000d03f000000000000f03f000000000000e03f0000000000003440000000000000e03f000000000000e03f0000000000"
    "00e03f000000000000a03f000000000000c0bf000000000000c0bf000000000000e03f000000000000e03f000000000000a0"
    "3f000000000000c0bf000000000000c0bf000000000000e03f000000000000e03f3620fde76a67e73f638330ee1148bbd80f"
    "dd89840248db0f558b9271899101f5"
)
