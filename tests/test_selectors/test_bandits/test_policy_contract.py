"""What every registered policy promises, whoever wrote it: its choices."""

import dataclasses
import inspect
import itertools
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kshot.errors import InvalidParameter
from kshot.selectors.bandits import POLICIES, ArmPrior, PropensityKind, outcomes
from tests.test_selectors.test_bandits.contract import (
    ALL,
    ARMS,
    HEEDLESS,
    INTERCEPT,
    MEASURING,
    SHARING,
    D,
    every_policy,
    every_variant,
    learnt,
    log,
    made,
    same,
    situation,
    situations,
    with_penalty,
)


@every_variant
@settings(max_examples=40, deadline=None)
@given(where=situations(), seed=st.integers(0, 99), m=st.sampled_from([0, 1, 7, 60]))
def test_any_arms_get_a_distribution(name, where, seed, m):
    policy = made(name)
    choice = policy.choose(learnt(policy, log(seed, m)), where)
    K = len(where.arms)
    assert choice.probabilities.shape == choice.means.shape == choice.widths.shape == (K,)
    assert (choice.probabilities >= 0).all()
    assert abs(choice.probabilities.sum() - 1.0) < 1e-9
    assert np.isfinite(choice.means).all()
    assert (choice.widths >= 0).all()
    assert choice.kind in {PropensityKind.EXACT, PropensityKind.QUADRATURE}


@every_variant
def test_one_arm_is_certain(name):
    policy = made(name)
    for arms in (("arm-1",), ("new",)):
        choice = policy.choose(learnt(policy, log(1)), situation(arms=arms))
        assert choice.probabilities.tolist() == [1.0]


@every_variant
def test_ties_go_to_the_arm_that_sorts_first_or_are_shared(name):
    policy = made(name)
    one = log(2, 12, arms=("arm-0",))
    twin = dataclasses.replace(one, arms=("twin",) * 12)
    where = dataclasses.replace(situation(arms=("arm-0", "twin")), vectors={})
    choice = policy.choose(policy.fold(learnt(policy, one), twin), where)
    assert choice.means[0] == choice.means[1]
    assert choice.widths[0] == choice.widths[1]
    assert choice.probabilities[0] >= choice.probabilities[1] - 1e-6


@every_variant
def test_nothing_given_is_changed(name):
    policy = made(name)
    addends, where = log(3), situation(penalties=np.array([0.0, 0.5, 0.0, 0.1]))
    parts = (addends.contexts, addends.rewards, addends.times, where.context, where.penalties)
    before = [part.copy() for part in parts if part is not None]
    empty = policy.init(D)
    blank = empty.to_bytes()
    state = policy.fold(empty, addends)
    kept = state.to_bytes()
    policy.choose(state, where)
    policy.fold(state, addends)
    policy.merge(state, state)
    assert all(np.array_equal(a, b) for a, b in zip(before, parts, strict=True))
    assert empty.to_bytes() == blank
    assert state.to_bytes() == kept


@every_variant
def test_a_choice_follows_from_what_is_given_alone(name):
    policy, wheres = made(name), [situation(seed) for seed in range(8)]
    state = learnt(policy, log(4))
    alone = [policy.choose(learnt(policy, log(4)), where) for where in wheres]
    with ThreadPoolExecutor(4) as threads:
        together = list(threads.map(lambda where: policy.choose(state, where), wheres * 4))
    assert all(same(choice, alone[place % 8]) for place, choice in enumerate(together))


@pytest.mark.parametrize("name", [name for name in ALL if name not in SHARING])
def test_arms_that_may_not_be_served_change_no_estimate(name):
    policy = made(name)
    state = learnt(policy, log(5))
    everyone = policy.choose(state, situation(5))
    some = policy.choose(state, situation(5, arms=("arm-1", "arm-3")))
    assert np.array_equal(some.means, everyone.means[[1, 3]])


@pytest.mark.parametrize("name", [name for name in ALL if name not in SHARING])
def test_a_new_arm_leaves_others_as_they_were(name):
    policy = made(name)
    state, news = learnt(policy, log(6)), log(7, 9, arms=("new",))
    later = policy.fold(state, dataclasses.replace(news, times=np.full(9, 59.0)))
    before, after = dict(state.summaries()), dict(later.summaries())
    assert after.pop("new").n == 9
    assert after == before
    means = policy.choose(state, situation(6)).means
    assert np.array_equal(policy.choose(later, situation(6)).means, means)


@pytest.mark.parametrize("name", [name for name in ALL if name not in MEASURING])
@settings(max_examples=15, deadline=None)
@given(where=situations(), seed=st.integers(0, 99), data=st.data())
def test_a_penalty_never_makes_an_arm_likelier(name, where, seed, data):
    policy = made(name)
    state = learnt(policy, log(seed))
    arm = data.draw(st.sampled_from(where.arms))
    choices = [policy.choose(state, with_penalty(where, arm, penalty)) for penalty in (0.0, 0.05, 0.3, 9.0)]
    shares = [float(choice.probabilities[where.arms.index(arm)]) for choice in choices]
    assert all(later <= earlier + 1e-6 for earlier, later in itertools.pairwise(shares))
    assert all(np.array_equal(choice.means, choices[0].means) for choice in choices)


@every_variant
def test_no_penalty_is_a_penalty_of_nothing(name):
    policy = made(name)
    state = learnt(policy, log(8))
    assert same(
        policy.choose(state, situation(8)), policy.choose(state, situation(8, penalties=np.zeros(len(ARMS))))
    )


@pytest.mark.parametrize("name", [name for name in ALL if name not in HEEDLESS])
def test_the_dearest_arm_is_served_least(name):
    policy = made(name)
    # Arms alike but for what they cost: quality first, then price.
    addends = outcomes(ARMS * 30, np.tile(INTERCEPT, (120, 1)), np.tile([0.8, 0.7, 0.7, 0.7], 30))
    state = learnt(policy, addends)
    where = dataclasses.replace(situation(context=INTERCEPT), vectors={})
    cheap = policy.choose(state, where).probabilities
    dear = policy.choose(state, with_penalty(where, "arm-0", 10.0)).probabilities
    if name not in SHARING:
        assert cheap[0] == cheap.max()
    assert dear[0] == dear.min()
    assert dear[0] < cheap[0]


@pytest.mark.parametrize("name", [name for name in ALL if name not in SHARING])
def test_an_arm_without_outcomes_has_its_prior(name):
    policy = made(name)
    where = situation(
        9,
        ("arm-0", "new", "newer"),
        priors={"new": ArmPrior(0.9, 1e9), "newer": ArmPrior(0.2, 1e9)},
        context=INTERCEPT,
    )
    means = policy.choose(learnt(policy, log(9)), where).means
    assert means[1:] == pytest.approx([0.9, 0.2], abs=1e-6)


@pytest.mark.parametrize("name", [name for name in ALL if name not in SHARING])
def test_a_prior_is_worth_that_many_outcomes(name):
    policy = made(name)
    believed = situation(10, ("new",), priors={"new": ArmPrior(0.75, 6.0)})
    added = outcomes(["new"] * 6, np.tile(INTERCEPT, (6, 1)), np.full(6, 0.75), times=np.full(6, 60.0))
    seen = situation(10, ("new",), priors={"new": ArmPrior(0.75, 0.0)})
    # A moment at which discounts are 1.
    whole = [dataclasses.replace(where, now=60.0) for where in (believed, seen)]
    a = policy.choose(policy.init(D), whole[0])
    b = policy.choose(learnt(policy, added), whole[1])
    assert a.means == pytest.approx(b.means, abs=1e-12)
    assert a.widths == pytest.approx(b.widths, abs=1e-12)


@every_policy
def test_the_first_line_says_what_it_does(name):
    cls: Any = POLICIES.get(name)
    first, _, rest = str(inspect.getdoc(cls)).partition("\n")
    assert 30 < len(first) <= 110
    assert first.endswith(".")
    assert rest.startswith("\n")
    assert not first.startswith(cls.__name__)


@every_policy
def test_a_policy_is_a_frozen_record_of_declared_parameters(name):
    cls: Any = POLICIES.get(name)
    assert cls.__dataclass_params__.frozen
    policy = cls()
    assert isinstance(policy.contextual, bool)
    for field in dataclasses.fields(cls):
        assert field.metadata["description"].endswith(".")
        for bound, beyond in (("ge", -1), ("gt", 0), ("le", 1)):
            limit = field.metadata[bound]
            if limit is not None:
                with pytest.raises(InvalidParameter, match=field.name):
                    dataclasses.replace(policy, **{field.name: limit + beyond})
