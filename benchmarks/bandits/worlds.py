"""Worlds in which every arm's chance of reward is known, the same for whoever plays in them; NumPy only.

Everything follows from a name and a seed, so that a peer in an environment of its own sees the very same
contexts, coins and mishaps. A step's reward depends on the arm, never on who chose it.
"""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
FEATURE_UNITS = 2.0**16
"""Features are multiples of its inverse, as kshot keeps them: nobody sees finer ones."""


@dataclass(frozen=True)
class World:
    """T steps.

    Attributes
    ----------
    contexts : array, shape (T, d)
        The last feature is the intercept 1.
    chances : array, shape (T, K)
        Of reward 1 for every arm.
    coins : array, shape (T,)
        An arm is rewarded where the coin is below its chance.
    draws : array, shape (T,)
        In [0, 1): what the arm is drawn with.
    """

    contexts: Array
    chances: Array
    coins: Array
    draws: Array

    def __len__(self) -> int:
        return len(self.coins)


@dataclass(frozen=True)
class Scenario:
    """A world and what comes between a decision and its outcome.

    Attributes
    ----------
    world : World
    counted_from : int
        Regret is counted from this step.
    delay : int
        Steps until an outcome is told.
    window : int
        Steps after which an outcome that was not told will not be.
    told : array, shape (K, 2)
        Chance that an outcome of an arm is told, by arm and by outcome.
    ears : array, shape (T,)
        It is told where this is below that chance.
    absent : mapping of int to int
        Arms that are there from a step only.
    liar : str
        Source of the outcomes that ``lying`` marks; they are lies.
    lying : bool array, shape (T,)
    praised : int
        The arm of which the liar reports 1; of all others 0.
    """

    world: World
    counted_from: int = 0
    delay: int = 0
    window: int = 200
    told: Array = field(default_factory=lambda: np.ones((64, 2)))
    ears: Array = field(default_factory=lambda: np.zeros(0))
    absent: dict[int, int] = field(default_factory=dict)
    liar: str = "liar"
    lying: Array = field(default_factory=lambda: np.zeros(0, np.bool_))
    praised: int = 0

    def available(self, step: int) -> list[int]:
        """Return the arms that may be chosen."""
        arms = range(self.world.chances.shape[1])
        return [arm for arm in arms if self.absent.get(arm, 0) <= step]

    def reported(self, step: int, arm: int) -> tuple[float | None, str | None]:
        """Return what is told of a step, None for nothing, and by whom."""
        won = int(self.world.coins[step] < self.world.chances[step, arm])
        if len(self.lying) and self.lying[step]:
            return float(arm == self.praised), self.liar
        if len(self.ears) and self.ears[step] >= self.told[arm, won]:
            return None, None
        return float(won), None


def sphere(rng: np.random.Generator, count: int, d: int) -> Array:
    """Return points of length 1."""
    points = rng.standard_normal((count, d))
    return np.asarray(points / np.linalg.norm(points, axis=1, keepdims=True))


def with_intercept(points: Array) -> Array:
    """Return contexts: points on the grid, and 1."""
    return np.rint(np.column_stack([points, np.ones(len(points))]) * FEATURE_UNITS) / FEATURE_UNITS


def lin(seed: int, steps: int, arms: int = 5, d: int = 8, *, change_at: int | None = None) -> World:
    """Chances of 0.5 + 0.4 times a linear function of the context; at ``change_at`` arms change places."""
    rng = np.random.default_rng(seed)
    theta, points = sphere(rng, arms, d), sphere(rng, steps, d)
    chances = 0.5 + 0.4 * points @ theta.T
    if change_at is not None:
        chances[change_at:] = np.roll(chances[change_at:], 1, axis=1)
    return World(with_intercept(points), chances, rng.random(steps), _draws(seed, steps))


def xor(seed: int, steps: int) -> World:
    """Two arms, chances 0.8 and 0.2 by whether the signs of two features agree: no line tells which."""
    rng = np.random.default_rng(seed)
    points = sphere(rng, steps, 2)
    side = 0.3 * np.sign(points[:, 0] * points[:, 1])
    chances = np.column_stack([0.5 + side, 0.5 - side])
    return World(with_intercept(points), chances, rng.random(steps), _draws(seed, steps))


def _draws(seed: int, steps: int) -> Array:
    return np.random.default_rng([seed, 1]).random(steps)


SCENARIOS = (
    "stationary",
    "drift",
    "cold start",
    "sparse feedback",
    "delayed feedback",
    "censored feedback",
    "poisoned feedback",
    "restart",
)


def scenario(name: str, seed: int, steps: int) -> Scenario:
    """Return one of `SCENARIOS`, or the world ``lin`` or ``xor`` with nothing in between.

    - lin, late: ``lin``, each outcome told 200 steps later.
    - drift: arms change places half-way; regret is counted from there.
    - cold start: the fifth arm comes half-way; regret is counted from there.
    - sparse feedback: one outcome in ten is told.
    - delayed feedback: each outcome is told 200 steps later, at 2,000 steps.
    - censored feedback: of two arms, failures are told once in ten times; successes always.
    - poisoned feedback: three outcomes in ten are a liar's, who praises the first arm and damns the others.
    """
    half = steps // 2
    world = xor(seed, steps) if name == "xor" else lin(seed, steps)
    rng = np.random.default_rng([seed, 2])
    match name:
        case "lin" | "xor" | "stationary" | "restart":
            made = Scenario(world)
        case "lin, late":
            made = Scenario(world, delay=200)
        case "drift":
            made = Scenario(lin(seed, steps, change_at=half), counted_from=half)
        case "cold start":
            made = Scenario(world, counted_from=half, absent={4: half})
        case "sparse feedback":
            made = Scenario(world, told=np.full((5, 2), 0.1), ears=rng.random(steps))
        case "delayed feedback":
            made = Scenario(world, delay=steps // 10)
        case "censored feedback":
            told = np.ones((5, 2))
            told[:2, 0] = 0.1
            made = Scenario(world, told=told, ears=rng.random(steps), window=steps // 40)
        case "poisoned feedback":
            made = Scenario(world, counted_from=half, lying=rng.random(steps) < 0.3)
        case _:
            raise ValueError(f"there is no scenario {name!r}")
    return made
