"""What every registered policy promises, whoever wrote it: how it learns."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kshot.errors import InvalidInput, StateCorrupt
from kshot.selectors.bandits.snapshots import Snapshot, to_bytes
from tests.test_selectors.test_bandits.contract import (
    FORGETTING,
    D,
    close,
    every_exact_variant,
    every_forgetting_variant,
    every_variant,
    learnt,
    log,
    made,
    same,
    situation,
)


@every_exact_variant
def test_a_log_shuffled_a_hundred_ways_gives_equal_bytes(name):
    policy, addends = made(name), log(1)
    wanted = learnt(policy, addends).to_bytes()
    rng = np.random.default_rng(1)
    for _ in range(100):
        assert learnt(policy, addends.take(rng.permutation(len(addends)))).to_bytes() == wanted


@every_forgetting_variant
def test_a_shuffled_log_is_forgotten_alike(name):
    policy, addends = made(name), log(1)
    wanted = policy.choose(learnt(policy, addends), situation(1))
    rng = np.random.default_rng(1)
    for _ in range(100):
        state = learnt(policy, addends.take(rng.permutation(len(addends))))
        assert close(policy.choose(state, situation(1)), wanted)


@every_variant
@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 99), cuts=st.sets(st.integers(0, 60)))
def test_batches_of_any_size_give_equal_bytes(name, seed, cuts):
    policy, addends = made(name), log(seed)
    state = policy.init(D)
    for start, end in zip([0, *sorted(cuts)], [*sorted(cuts), len(addends)], strict=True):
        state = policy.fold(state, addends.take(range(start, end)))
    assert state.to_bytes() == learnt(policy, addends).to_bytes()


@every_exact_variant
@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 99), parts=st.lists(st.integers(0, 2), min_size=60, max_size=60))
def test_parts_merge_into_the_whole(name, seed, parts):
    policy, addends = made(name), log(seed)
    whole = learnt(policy, addends).to_bytes()
    a, b, c = (learnt(policy, addends.take(np.flatnonzero(np.array(parts) == part))) for part in range(3))
    assert policy.merge(policy.merge(a, b), c).to_bytes() == whole
    assert policy.merge(c, policy.merge(b, a)).to_bytes() == whole


@every_forgetting_variant
def test_forgetting_parts_merge_nearly_into_the_whole(name):
    policy, addends = made(name), log(2)
    a, b = learnt(policy, addends.take(range(0, 60, 2))), learnt(policy, addends.take(range(1, 60, 2)))
    wanted = policy.choose(learnt(policy, addends), situation(2))
    assert close(policy.choose(policy.merge(a, b), situation(2)), wanted)
    assert close(policy.choose(policy.merge(b, a), situation(2)), wanted)


@every_exact_variant
def test_what_is_taken_back_leaves_nothing_behind(name):
    policy = made(name)
    state, more = learnt(policy, log(3)), log(4)
    order = np.random.default_rng(3).permutation(len(more))
    assert policy.fold(policy.fold(state, more), (-more).take(order)).to_bytes() == state.to_bytes()
    assert policy.fold(policy.fold(state, -more), more).to_bytes() == state.to_bytes()
    assert policy.fold(state, -log(3)).to_bytes() == policy.init(D).to_bytes()


@every_forgetting_variant
def test_what_is_taken_back_is_forgotten_but_for_rounding(name):
    policy = made(name)
    state, more = learnt(policy, log(3)), log(4)
    again = policy.fold(policy.fold(state, more), -more)
    assert again.events == state.events
    assert close(policy.choose(again, situation(3)), policy.choose(state, situation(3)))


def _differing(right, wrong):
    """What corrects outcomes folded as ``wrong`` into ``right``."""
    return dataclasses.replace(
        right,
        counts=np.zeros(len(right), np.int64),
        weights=right.weights - wrong.weights,
        rewards=right.rewards - wrong.rewards,
        squares=right.squares - wrong.squares,
    )


@every_variant
def test_a_corrected_outcome_was_never_wrong(name):
    policy, right, others = made(name), log(5), log(6)
    wrong = dataclasses.replace(right, rewards=right.weights << 16, squares=right.weights << 32)
    corrected = policy.fold(policy.fold(learnt(policy, wrong), others), _differing(right, wrong))
    never = policy.fold(learnt(policy, right), others)
    assert corrected.events == never.events == 120
    assert close(policy.choose(corrected, situation(5)), policy.choose(never, situation(5)))
    if name not in FORGETTING:
        assert corrected.to_bytes() == never.to_bytes()


@every_variant
def test_a_weight_of_two_is_an_outcome_that_came_twice(name):
    policy, once = made(name), log(7, 20)
    heavy = dataclasses.replace(
        once, weights=2 * once.weights, rewards=2 * once.rewards, squares=2 * once.squares
    )
    a, b = learnt(policy, heavy), learnt(policy, once.take(np.repeat(np.arange(20), 2)))
    assert policy.choose(a, situation(7)).means == pytest.approx(
        policy.choose(b, situation(7)).means, abs=1e-9
    )
    for arm, summary in a.summaries().items():
        twice = b.summaries()[arm]
        assert (2 * summary.n, summary.weight) == (twice.n, pytest.approx(twice.weight))
        assert (summary.mean, summary.variance) == pytest.approx((twice.mean, twice.variance), abs=1e-9)


@every_variant
def test_summaries_tell_what_was_seen(name):
    policy, addends = made(name), log(8)
    if name.endswith("forgets"):
        addends = dataclasses.replace(addends, times=np.zeros(60))
    state = learnt(policy, addends)
    assert state.events == 60
    assert list(state.summaries()) == sorted(set(addends.arms))
    for arm, summary in state.summaries().items():
        rows = np.array([one == arm for one in addends.arms])
        w = addends.weights[rows] / 2**10
        r = addends.rewards[rows] / addends.weights[rows] / 2**16
        assert (summary.n, summary.weight) == (rows.sum(), pytest.approx(w.sum()))
        assert summary.mean == pytest.approx(np.average(r, weights=w), abs=1e-12)
        assert summary.variance == pytest.approx(np.average((r - summary.mean) ** 2, weights=w), abs=1e-12)


@every_variant
def test_a_state_comes_back_from_its_bytes(name):
    policy, addends = made(name), log(9)
    state = learnt(policy, addends)
    again = policy.restore(state.to_bytes())
    assert again.to_bytes() == state.to_bytes()
    assert again.events == state.events
    assert again.summaries() == state.summaries()
    assert same(policy.choose(again, situation(9)), policy.choose(state, situation(9)))
    assert policy.fold(again, log(10)).to_bytes() == policy.fold(state, log(10)).to_bytes()
    empty = policy.init(D)
    assert policy.restore(empty.to_bytes()).to_bytes() == empty.to_bytes()


@every_variant
@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_a_damaged_state_is_refused(name, data):
    policy = made(name)
    blob = learnt(policy, log(11, 5)).to_bytes()
    at = data.draw(st.integers(0, len(blob) - 1))
    bit = 1 << data.draw(st.integers(0, 7))
    with pytest.raises(StateCorrupt):
        policy.restore(blob[:at] + bytes([blob[at] ^ bit]) + blob[at + 1 :])
    with pytest.raises(StateCorrupt):
        policy.restore(blob[:at])
    with pytest.raises(StateCorrupt):
        policy.restore(blob + b"\0")


@every_variant
def test_the_state_of_another_policy_is_refused(name):
    with pytest.raises(StateCorrupt, match="other"):
        made(name).restore(to_bytes(Snapshot("other", 1, {}, [])))


@every_variant
def test_states_of_other_features_do_not_mix(name):
    policy = made(name)
    if policy.contextual:
        with pytest.raises(InvalidInput):
            policy.merge(policy.init(D), policy.init(D + 1))
        with pytest.raises(InvalidInput):
            policy.fold(policy.init(D + 1), log(12))
    else:
        state = policy.merge(policy.init(D), policy.init(D + 1))
        assert policy.fold(state, log(12)).events == 60


def test_a_state_with_contexts_is_none_without():
    plain, linear = made("epsilon_greedy without context"), made("epsilon_greedy")
    with pytest.raises(StateCorrupt, match="4 features of contexts, wanted none"):
        plain.restore(linear.init(D).to_bytes())
    with pytest.raises(StateCorrupt, match="0 features of contexts, wanted at least 1"):
        linear.restore(plain.init(D).to_bytes())


@every_forgetting_variant
def test_states_that_forget_otherwise_do_not_mix(name):
    policy = made(name)
    slower = dataclasses.replace(policy, half_life_s=80.0)
    never = dataclasses.replace(policy, half_life_s=None)
    for other in (slower, never):
        with pytest.raises(InvalidInput):
            policy.merge(policy.init(D), other.init(D))
        with pytest.raises(StateCorrupt):
            policy.restore(other.init(D).to_bytes())
