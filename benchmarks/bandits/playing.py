"""Playing a scenario: decisions, outcomes as they are told, and what was lost against the best arm."""

from collections import deque
from typing import Any, NamedTuple, Protocol

import numpy as np

from benchmarks.bandits.worlds import Array, Scenario


class Told(NamedTuple):
    """An outcome as it is told, or that it will not be: ``value`` is None then."""

    step: int
    arm: int
    context: Array
    probability: float
    value: float | None
    source: str | None


class Player(Protocol):
    """Whoever plays."""

    def probabilities(self, step: int, context: Array, arms: list[int]) -> Array:
        """Return the probability of each of some arms."""
        ...

    def decided(self, step: int, arm: int, context: Array) -> None:
        """Take note of the arm that was drawn."""
        ...

    def learn(self, told: list[Told]) -> None:
        """Take note of what is told before the next decision; maybe nothing."""
        ...


class Played(NamedTuple):
    """What became of it: regret after every step, shape (T,), and the arms, shape (T,)."""

    regret: Array
    arms: Array


def play(player: Player, given: Scenario) -> Played:
    """Let a player decide at every step.

    An outcome is told before the decision ``delay`` steps after its own; that none will be told is known
    ``window`` steps after the decision.
    """
    world = given.world
    waiting: dict[int, deque[Told]] = {}
    lost = np.zeros(len(world))
    chosen = np.zeros(len(world), np.int64)
    for step, context in enumerate(world.contexts):
        player.learn(list(waiting.pop(step, ())))
        arms = given.available(step)
        probabilities = player.probabilities(step, context, arms)
        ends = np.cumsum(probabilities)
        place = min(int(np.searchsorted(ends, world.draws[step] * ends[-1], side="right")), len(arms) - 1)
        arm = arms[place]
        player.decided(step, arm, context)
        value, source = given.reported(step, arm)
        due = step + 1 + (given.window if value is None else given.delay)
        told = Told(step, arm, context, float(probabilities[place]), value, source)
        waiting.setdefault(due, deque()).append(told)
        chances = world.chances[step]
        lost[step] = chances[arms].max() - chances[arm]
        chosen[step] = arm
    return Played(np.cumsum(lost), chosen)


def counted(given: Scenario, played: Played) -> float:
    """Return the regret that counts in a scenario."""
    before = played.regret[given.counted_from - 1] if given.counted_from else 0.0
    return float(played.regret[-1] - before)


def slope(regret: Any) -> float:
    """Return how regret grows with the steps, both in logarithms, after a tenth of them."""
    steps = np.arange(len(regret) // 10, len(regret))
    return float(np.polyfit(np.log(steps + 1), np.log(regret[steps]), 1)[0])
