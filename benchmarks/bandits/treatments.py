"""What is tried in every scenario: kshot's policies, and what the server offers against each mishap."""

from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from benchmarks.bandits.players import Learner
from benchmarks.bandits.playing import counted, play
from benchmarks.bandits.worlds import scenario
from kshot.selectors.bandits.beta_thompson import BetaThompson
from kshot.selectors.bandits.lin_thompson import LinThompson
from kshot.selectors.bandits.lin_ucb import LinUcb
from kshot.selectors.bandits.square_cb import SquareCb
from kshot.selectors.bandits.uniform import Uniform

LEARNERS = ("square_cb", "lin_ucb", "lin_thompson")
BASELINES = ("uniform", "beta_thompson")
_CLASSES: dict[str, Any] = {
    "square_cb": SquareCb,
    "lin_ucb": LinUcb,
    "lin_thompson": LinThompson,
    "uniform": Uniform,
    "beta_thompson": BetaThompson,
}
STATE_BOUND = 16 * 1024
"""Bytes: more than the state of five arms over nine features ever has."""


@dataclass(frozen=True)
class Treatment:
    """A scenario, and what is done about it.

    Attributes
    ----------
    scenario : str
    remedy : str
        Empty for nothing: what peers can be compared with.
    half_life : float or None
        In parts of the whole run.
    options : mapping
        Of `benchmarks.bandits.players.Learner`.
    """

    scenario: str
    remedy: str = ""
    half_life: float | None = None
    options: dict[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """What the row is called."""
        return f"{self.scenario}, {self.remedy}" if self.remedy else self.scenario


class Lost(NamedTuple):
    """Regret of every seed; arms chosen, shape (seeds, steps); the largest state that was saved, in bytes."""

    regrets: list[float]
    arms: Any
    largest_state: int


def treatments(steps: int) -> list[Treatment]:
    """Return all rows of the table, in its order."""
    half = steps // 2
    return [
        Treatment("stationary"),
        Treatment("drift"),
        Treatment("drift", "half-life an eighth of the run", half_life=1 / 8),
        Treatment("cold start"),
        Treatment("sparse feedback"),
        Treatment("delayed feedback"),
        Treatment("censored feedback"),
        Treatment("censored feedback", "default reward 0", options={"default": 0.0}),
        Treatment("poisoned feedback"),
        Treatment("poisoned feedback", "source weight 0.1", options={"trust": {"liar": 0.1}}),
        Treatment("poisoned feedback", "log folded anew without the source", options=_without(half)),
        Treatment("restart", "every 50 steps", options={"saves_every": 50}),
    ]


def _without(step: int) -> dict[str, Any]:
    return {"forgets_source_at": (step, "liar")}


def lost(treatment: Treatment, name: str, seeds: int, steps: int) -> Lost:
    """Let a policy play a scenario under a treatment."""
    cls = _CLASSES[name]
    half_life = None if name == "uniform" else treatment.half_life
    policy = cls() if half_life is None else cls(half_life_s=half_life * steps)
    regrets, arms, largest = [], [], 0
    for seed in range(seeds):
        given = scenario(treatment.scenario, seed, steps)
        learner = Learner(
            policy, given.world.contexts.shape[1], narrows=name == "lin_ucb", **treatment.options
        )
        played = play(learner, given)
        regrets.append(counted(given, played))
        arms.append(played.arms)
        largest = max(largest, learner.largest_state)
    return Lost(regrets, np.stack(arms), largest)
