"""Worlds in which the best arm is known, and what a policy loses in them."""

from collections import deque
from dataclasses import dataclass
from typing import Any

import numpy as np

from kshot.selectors.bandits import Addends, Situation, outcomes, snapped


@dataclass(frozen=True)
class World:
    """Contexts, shape (T, d), and every arm's chance of reward 1 in each, shape (T, K)."""

    contexts: Any
    chances: Any
    coins: Any

    @property
    def arms(self):
        return tuple(f"arm-{arm}" for arm in range(self.chances.shape[1]))


def _sphere(rng, count, d):
    points = rng.standard_normal((count, d))
    return points / np.linalg.norm(points, axis=1, keepdims=True)


def with_intercept(points):
    return snapped(np.column_stack([points, np.ones(len(points))]))


def lin(seed, steps=4000, k=5, d=8, change_at=None):
    """Rewards that are linear in the context; at ``change_at`` the arms change places."""
    rng = np.random.default_rng(seed)
    theta, points = _sphere(rng, k, d), _sphere(rng, steps, d)
    chances = 0.5 + 0.4 * points @ theta.T
    if change_at is not None:
        chances[change_at:] = np.roll(chances[change_at:], 1, axis=1)
    return World(with_intercept(points), chances, rng.random(steps))


def xor(seed, steps=4000):
    """Two arms, each better where the signs of two features agree or differ: no line tells which."""
    rng = np.random.default_rng(seed)
    points = rng.standard_normal((steps, 2)).clip(-7.9, 7.9)
    side = 0.3 * np.sign(points[:, 0] * points[:, 1])
    return World(with_intercept(points), np.column_stack([0.5 + side, 0.5 - side]), rng.random(steps))


def cumulative_regret(policy, world, seed, *, delay=0):
    """Return what a policy has lost against the best arm after every step, shape (T,).

    An outcome is known to the decision ``delay`` steps after its own; decisions and outcomes each have a time
    of one second. Awaited contexts are not told.
    """
    rng = np.random.default_rng([seed, 1])
    state = policy.init(world.contexts.shape[1])
    arms, lost = world.arms, np.empty(len(world.contexts))
    waiting: deque[tuple[int, Addends]] = deque()
    for step, context in enumerate(world.contexts):
        while waiting and waiting[0][0] <= step:
            state = policy.fold(state, waiting.popleft()[1])
        probabilities = policy.choose(state, Situation(arms, context, now=float(step))).probabilities
        arm = min(int(np.searchsorted(np.cumsum(probabilities), rng.random())), len(arms) - 1)
        reward = float(world.coins[step] < world.chances[step, arm])
        addends = outcomes(
            [arms[arm]],
            context[None],
            np.array([reward]),
            times=np.array([float(step)]),
            decisions=[str(step)],
        )
        waiting.append((step + 1 + delay, addends))
        lost[step] = world.chances[step].max() - world.chances[step, arm]
    return np.cumsum(lost)


def mean_regret(policy, make, seeds=6, *, delay=0):
    """Return the regret after every step, averaged over seeds, shape (T,)."""
    return np.mean(
        [cumulative_regret(policy, make(seed), seed, delay=delay) for seed in range(seeds)], axis=0
    )


def slope(regret):
    """Return how regret grows with the steps, both in logarithms, after a tenth of them."""
    steps = np.arange(len(regret) // 10, len(regret))
    return float(np.polyfit(np.log(steps + 1), np.log(regret[steps]), 1)[0])
