"""The kernel policy: LinUCB under the linear kernel, exact inverses, points that stay correctable."""

import dataclasses
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.bandits.worlds import xor
from kshot.selectors.bandits import ArmPrior, Situation, joined, outcomes, snapped
from kshot.selectors.bandits.grid import grid_features
from kshot.selectors.bandits.kernel_ridge import KernelRidge, bordered, reweighted, without
from kshot.selectors.bandits.kernels import Kernel
from kshot.selectors.bandits.lin_ucb import LinUcb
from kshot.selectors.bandits.pak_ucb import PakUcb
from tests.test_selectors.test_bandits.environments import mean_regret

D = 5


def contexts(rng, m, d=D):
    return snapped(np.column_stack([rng.normal(size=(m, d - 1)) / 2, np.ones(m)]))


def log(seed, m, *, arms=("a", "b", "c"), start=0):
    rng = np.random.default_rng(seed)
    return outcomes(
        list(rng.choice(arms, m)),
        contexts(rng, m),
        rng.integers(0, 5, m) / 4,
        weights=rng.choice([0.5, 1.0, 2.0], m),
        times=np.arange(start, start + m) * 1.0,
    )


# The model.


@pytest.mark.parametrize("ridge", [1.0, 0.3])
@pytest.mark.parametrize("prior", [ArmPrior(0.5), ArmPrior(0.8, 5.0), ArmPrior(0.3, 2.0, np.arange(D) / 9)])
def test_the_linear_kernel_is_lin_ucb(ridge, prior):
    """On 200 outcomes, weighted, with priors, and with outcomes that are awaited."""
    addends = log(1, 200)
    kernel, linear = PakUcb(kernel="linear", ridge=ridge), LinUcb(ridge=ridge)
    a, b = kernel.fold(kernel.init(D), addends), linear.fold(linear.init(D), addends)
    rng = np.random.default_rng(2)
    for z in contexts(rng, 20):
        awaited = {"a": grid_features(contexts(rng, 7))}
        where = Situation(
            ("a", "b", "c", "new"), z, priors=dict.fromkeys(("a", "new"), prior), pending=awaited
        )
        found, expected = kernel.choose(a, where), linear.choose(b, where)
        np.testing.assert_allclose(found.means, expected.means, atol=1e-10)
        np.testing.assert_allclose(found.widths, expected.widths, atol=1e-10)
        np.testing.assert_array_equal(found.probabilities, expected.probabilities)


def test_two_arms_and_three_outcomes():
    """Means .3 and .25, widths .591608 and 1.060660, as by hand for LinUCB; the prior's mean is 0."""
    X = np.array([[1.0, 0.0], [1.0, 1.0], [0.0, 1.0]])
    policy = PakUcb(kernel="linear", prior_reward=0.0)
    state = policy.fold(policy.init(2), outcomes(["a", "a", "b"], X, np.array([1.0, 0.0, 1.0])))
    choice = policy.choose(state, Situation(("a", "b"), np.array([1.0, 0.5])))
    np.testing.assert_allclose(choice.means, [0.3, 0.25], atol=1e-12)
    np.testing.assert_allclose(choice.widths, [0.591608, 1.060660], atol=1e-6)


def test_one_outcome_is_divided_by_kernel_and_penalty_together():
    """1 / (k + ridge), and not 1 / k + ridge."""
    policy = PakUcb(ridge=0.25, prior_reward=0.0)
    z = np.array([0.5, 1.0])
    state = policy.fold(policy.init(2), outcomes(["a"], z[None], np.ones(1)))
    choice = policy.choose(state, Situation(("a",), z))
    # k = 1: mean 1 / 1.25, squared width (1 - 1 / 1.25) / .25.
    np.testing.assert_allclose([choice.means[0], choice.widths[0]], [0.8, np.sqrt(0.8)])


@pytest.mark.parametrize(
    ("kernel", "expected"),
    [
        (Kernel("gaussian", width=2.0), lambda x, y: np.exp(-((x - y) @ (x - y)) / 8)),
        (Kernel("polynomial", gain=0.5, offset=2.0, degree=2), lambda x, y: (0.5 * (x @ y) + 2) ** 2),
        (Kernel("linear"), lambda x, y: x @ y),
    ],
)
def test_kernels_are_those_of_their_formulas(kernel, expected):
    X, Y = contexts(np.random.default_rng(1), 6), contexts(np.random.default_rng(2), 4)
    np.testing.assert_allclose(kernel.between(X, Y), [[expected(x, y) for y in Y] for x in X], atol=1e-12)
    np.testing.assert_allclose([kernel.with_itself(x) for x in X], [expected(x, x) for x in X], atol=1e-12)


def test_five_hundred_insertions_leave_the_inverse_exact():
    rng = np.random.default_rng(3)
    X = contexts(rng, 500)
    kernel = Kernel("gaussian", 1.0)
    matrix = kernel.between(X, X) + 0.5 * np.eye(500)
    inverse = np.zeros((0, 0))
    for n in range(500):
        inverse = bordered(inverse, matrix[:n, n], matrix[n, n])
    assert np.abs(inverse - np.linalg.inv(matrix)).max() < 1e-8


@given(st.integers(0, 99), st.data())
def test_changes_of_an_inverse_are_those_of_its_matrix(seed, data):
    rng = np.random.default_rng(seed)
    X = contexts(rng, 8)
    matrix: Any = Kernel().between(X, X) + np.eye(8)
    place = data.draw(st.integers(0, 7))
    inverse: Any = np.linalg.inv(matrix)
    others = np.delete(np.arange(8), place)
    np.testing.assert_allclose(
        without(inverse, place), np.linalg.inv(matrix[np.ix_(others, others)]), atol=1e-12
    )
    matrix[place, place] += 0.7
    np.testing.assert_allclose(reweighted(inverse, place, 0.7), np.linalg.inv(matrix), atol=1e-12)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 99), st.integers(1, 30))
def test_models_by_changes_are_models_anew(seed, size):
    """Read after every batch, so that the inverse is changed; retractions, repeats and merged points too."""
    policy = PakUcb(points=12)
    addends = log(seed, 40, arms=("a",))
    changes = joined([addends, log(seed, 40, arms=("a",), start=0).take([3, 3, 20]), -addends.take([30, 38])])
    state = policy.init(D)
    for start in range(0, len(changes), size):
        state = policy.fold(state, changes.take(np.arange(start, min(start + size, len(changes)))))
        where = Situation(("a",), contexts(np.random.default_rng(seed), 1)[0])
        read = policy.choose(state, where)
        anew = policy.choose(policy.restore(state.to_bytes()), where)
        np.testing.assert_allclose(read.means, anew.means, atol=1e-10)
        np.testing.assert_allclose(read.widths, anew.widths, atol=1e-10)


def test_an_inverse_is_computed_anew_after_a_thousand_changes():
    ridge = KernelRidge(Kernel(), 1.0, ArmPrior(0.5))
    names = [row.tobytes() for row in grid_features(contexts(np.random.default_rng(0), 40))]
    model = None
    seen = []
    for step in range(1_100):
        sums = {name: (1.0 + (step % 7 == place % 7), 0.5) for place, name in enumerate(names[:9])}
        model = ridge.model(sums, D, model)
        seen.append(model.updates)
    assert max(seen) <= 1_024
    assert seen.count(0) >= 2


def test_a_context_that_comes_again_and_again_is_no_trouble():
    """Nor are contexts that are nearly equal, under next to no penalty."""
    z = np.array([0.25, 1.0])
    near = snapped(np.array([[0.25 + 2.0**-16, 1.0]]))
    X = np.vstack([np.tile(z, (50, 1)), np.tile(near, (50, 1))])
    policy = PakUcb(ridge=1e-14)
    rewards = np.tile([1.0, 0.0], 50)
    state = policy.fold(policy.init(2), outcomes(["a"] * 100, X, rewards, times=np.arange(100.0)))
    choice = policy.choose(state, Situation(("a",), z))
    assert choice.means[0] == pytest.approx(0.5, abs=0.01)
    assert np.isfinite(choice.widths).all()


# The state.


def test_there_are_never_more_points_than_allowed_and_nothing_is_lost():
    policy, addends = PakUcb(points=10), log(4, 120)
    state = policy.init(D)
    for row in range(120):
        state = policy.fold(state, addends.take([row]))
        assert all(len(arm.points) <= 10 for arm in state.arms.values())
    assert state.to_bytes() == policy.fold(policy.init(D), addends).to_bytes()
    roomy = PakUcb()
    assert state.summaries() == roomy.fold(roomy.init(D), addends).summaries()
    assert state.events == 120
    kept = sorted(point.time for point in state.arms["a"].points.values())
    assert kept == sorted(addends.times[[arm == "a" for arm in addends.arms]])[-10:]


def test_the_oldest_is_merged_into_the_nearest():
    policy = PakUcb(points=2)
    X = np.array([[0.0, 1.0], [4.0, 1.0], [1.0, 1.0]])
    made = outcomes(["a"] * 3, X, np.array([1.0, 0.0, 0.5]), times=np.array([1.0, 2.0, 3.0]))
    state = policy.fold(policy.init(2), made)
    found = {point.time: (point.n, point.reward / 2**26) for point in state.arms["a"].points.values()}
    assert found == {2.0: (1, 0.0), 3.0: (2, 1.5)}


def test_merged_outcomes_can_be_corrected_and_retracted():
    policy, addends = PakUcb(points=5), log(5, 60, arms=("a",))
    state = policy.fold(policy.init(D), addends)
    taken = addends.take([0, 1, 2, 30, 59])
    left = policy.fold(state, -taken)
    roomy = PakUcb()
    others = addends.take([row for row in range(60) if row not in (0, 1, 2, 30, 59)])
    assert left.summaries() == roomy.fold(roomy.init(D), others).summaries()
    assert all(len(arm.points) <= 5 for arm in left.arms.values())
    right = dataclasses.replace(
        addends, counts=addends.counts * 0, weights=addends.weights * 0, rewards=addends.weights << 12,
        squares=addends.squares * 0,
    )  # fmt: skip
    corrected = policy.fold(state, right).summaries()["a"].mean
    before = state.summaries()["a"].mean
    assert corrected is not None
    assert before is not None
    assert corrected - before == pytest.approx(1 / 16)
    assert policy.fold(state, -addends).to_bytes() == policy.init(D).to_bytes()


def test_merged_states_stay_correctable_and_within_bounds():
    policy, first, second = PakUcb(points=6), log(6, 40, arms=("a",)), log(7, 40, arms=("a",), start=20)
    a, b = policy.fold(policy.init(D), first), policy.fold(policy.init(D), second)
    both = policy.restore(policy.merge(a, b).to_bytes())
    assert len(both.arms["a"].points) == 6
    assert both.events == 80
    roomy = PakUcb()
    assert policy.fold(both, -second).summaries() == roomy.fold(roomy.init(D), first).summaries()
    # What one holds the other has absorbed.
    again = policy.merge(policy.merge(a, b), policy.merge(b, a))
    assert again.events == 160
    assert policy.fold(policy.fold(again, -first), -second).events == 80


@pytest.mark.slow
def test_what_no_line_can_tell_is_learnt():
    """Below half of what LinUCB loses."""

    def lost(policy):
        return mean_regret(policy, xor, 2, steps=1_200)[-1]

    assert lost(PakUcb(width=0.5)) < 0.5 * lost(LinUcb())
