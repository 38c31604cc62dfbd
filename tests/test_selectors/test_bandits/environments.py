"""What a policy loses, by its own probabilities alone, in the worlds of `benchmarks/bandits/worlds.py`."""

import numpy as np

from benchmarks.bandits.players import ALONE, Learner
from benchmarks.bandits.playing import play
from benchmarks.bandits.worlds import Scenario

STEPS = 4000


def cumulative_regret(policy, world, *, delay=0):
    """Return what a policy has lost against the best arm after every step, shape (T,).

    An outcome is known to the decision ``delay`` steps after its own; decisions and outcomes each have a time
    of one second. Awaited contexts are not told.
    """
    learner = Learner(policy, world.contexts.shape[1], exploration=ALONE)
    return play(learner, Scenario(world, delay=delay)).regret


def mean_regret(policy, make, seeds=6, *, steps=STEPS, delay=0):
    """Return the regret after every step, averaged over seeds, shape (T,)."""
    return np.mean(
        [cumulative_regret(policy, make(seed, steps), delay=delay) for seed in range(seeds)], axis=0
    )
