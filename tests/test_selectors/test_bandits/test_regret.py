"""What linear policies lose in worlds with a known best arm, beside what was measured for the same rules."""

from functools import cache, partial

import pytest

from benchmarks.bandits.playing import slope
from benchmarks.bandits.worlds import lin, xor
from kshot.selectors.bandits.epsilon_greedy import EpsilonGreedy
from kshot.selectors.bandits.lin_thompson import LinThompson
from kshot.selectors.bandits.lin_ucb import LinUcb
from kshot.selectors.bandits.square_cb import SquareCb
from tests.test_selectors.test_bandits.environments import STEPS, mean_regret

pytestmark = pytest.mark.slow

WITHIN = 0.35
"""Six seeds spread by about a tenth; a rule that is wrong loses several times as much."""
CONSTANT = EpsilonGreedy(epsilon=0.1, epsilon_min=0.1)


@cache
def _regret(policy, delay=0):
    return mean_regret(policy, lin, delay=delay)


@pytest.mark.parametrize(
    ("policy", "delay", "after_1000", "after_4000"),
    [
        (CONSTANT, 0, 76, 178),
        (LinUcb(alpha=0.5), 0, 69, 138),
        (LinUcb(alpha=1.0), 0, 59, 111),
        (LinThompson(noise=0.3), 0, 74, 157),
        (SquareCb(gamma=10.0), 0, 72, 163),
        (LinUcb(alpha=0.5), 200, 124, 202),
        (LinThompson(noise=0.3), 200, 98, 167),
    ],
)
def test_regret_in_a_linear_world(policy, delay, after_1000, after_4000):
    regret = _regret(policy, delay)
    assert regret[999] == pytest.approx(after_1000, rel=WITHIN)
    assert regret[-1] == pytest.approx(after_4000, rel=WITHIN)
    if policy is not CONSTANT and not delay:
        assert 0.35 <= slope(regret) <= 0.65


def test_regret_from_nothing_is_that_of_the_published_rule():
    # The same start, from a reward of 0; only the seeds differ.
    regret = _regret(LinUcb(alpha=0.5, prior_reward=0.0))
    assert (regret[999], regret[-1]) == (pytest.approx(69, rel=0.1), pytest.approx(138, rel=0.1))


def test_a_falling_share_of_exploration_loses_less_than_a_constant_one():
    assert _regret(EpsilonGreedy())[-1] < 0.9 * _regret(CONSTANT)[-1]


def test_no_line_tells_where_signs_decide():
    # 1209 for arms at random.
    assert mean_regret(LinUcb(alpha=0.5), xor)[-1] == pytest.approx(907, rel=WITHIN)


def _phases(policy):
    """Regret before and after arms change places, over four seeds."""
    half = STEPS // 2
    regret = mean_regret(policy, partial(lin, change_at=half), seeds=4)
    return regret[half - 1], regret[-1] - regret[half - 1]


@pytest.mark.parametrize(
    ("cls", "never", "fast"), [(LinThompson, 320, 185), (LinUcb, 298, 162), (SquareCb, None, None)]
)
def test_what_forgets_recovers_sooner_from_a_change(cls, never, fast):
    before, after = _phases(cls())
    fast_before, fast_after = _phases(cls(half_life_s=500.0))
    if never is not None:
        assert after == pytest.approx(never, rel=WITHIN)
        assert fast_after == pytest.approx(fast, rel=WITHIN)
    assert fast_after <= 0.7 * after
    assert fast_before <= 1.15 * before
