"""MABWiser's LinUCB or Vowpal Wabbit's SquareCB in the scenarios of `benchmarks/bandits/worlds.py`.

Runs in an environment of its own, from the project's root, and prints JSON:

    python3 -m venv .venv-bandits
    .venv-bandits/bin/pip install mabwiser==2.7.4 vowpalwabbit==9.11.9
    .venv-bandits/bin/python -m benchmarks.peers.policies_play mabwiser lin --seeds 20 --steps 4000

Each sees the contexts with the intercept, chooses, and learns from outcomes as they are told, one by one.
"""

import argparse
import json
from importlib.metadata import version

import numpy as np

from benchmarks.bandits.playing import counted, play, slope
from benchmarks.bandits.worlds import scenario


class MabWiser:
    """LinUCB, one ridge regression per arm; uniform until the first outcome, which it begins with."""

    def __init__(self, arms, alpha):
        from mabwiser.mab import MAB, LearningPolicy

        self.bandit = MAB(list(arms), LearningPolicy.LinUCB(alpha=alpha, l2_lambda=1.0))
        self.known = set(arms)
        self.fitted = False

    def probabilities(self, step, context, arms):  # noqa: ARG002
        """Return 1 for the arm that it predicts."""
        for arm in arms:
            if arm not in self.known:
                self.bandit.add_arm(arm)
                self.known.add(arm)
        if not self.fitted:
            return np.full(len(arms), 1 / len(arms))
        return (np.array(arms) == self.bandit.predict(context[None])).astype(float)

    def decided(self, step, arm, context):
        """Nothing is kept of decisions without outcome."""

    def learn(self, told):
        """Fit what has an outcome."""
        told = [one for one in told if one.value is not None]
        if not told:
            return
        learn = self.bandit.partial_fit if self.fitted else self.bandit.fit
        learn(
            [one.arm for one in told],
            np.array([one.value for one in told]),
            np.stack([one.context for one in told]),
        )
        self.fitted = True


class VowpalWabbit:
    """SquareCB over action features crossed with the context: one linear model per arm."""

    def __init__(self, extra=""):
        from vowpalwabbit import Workspace

        self.workspace = Workspace(f"--cb_explore_adf --squarecb --quiet -q SA --noconstant {extra}")
        self.asked = {}

    def probabilities(self, step, context, arms):
        """Return what it says."""
        self.asked[step] = arms
        scores = self.workspace.predict(_example(context, arms))
        return np.array(scores)

    def decided(self, step, arm, context):
        """Nothing is learnt before the outcome."""

    def learn(self, told):
        """Learn the cost of what was chosen, with the probability that it was chosen with."""
        for one in told:
            arms = self.asked.pop(one.step)
            if one.value is not None:
                label = f"0:{1 - one.value:g}:{one.probability:.9g} "
                self.workspace.learn(_example(one.context, arms, {one.arm: label}))


def _example(context, arms, labels=None):
    shared = " ".join(f"f{place}:{value:.8g}" for place, value in enumerate(context))
    labels = labels or {}
    return [f"shared |S {shared}", *(f"{labels.get(arm, '')}|A a{arm}" for arm in arms)]


def main():
    """Play every seed and print what was lost."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("peer", choices=["mabwiser", "vowpal_wabbit"])
    parser.add_argument("scenario", nargs="+")
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--alpha", type=float, default=0.5)
    options = parser.parse_args()
    results = {}
    for name in options.scenario:
        rows = []
        for seed in range(options.seeds):
            given = scenario(name, seed, options.steps)
            arms = given.available(0)
            player = MabWiser(arms, options.alpha) if options.peer == "mabwiser" else VowpalWabbit()
            played = play(player, given)
            row = {"counted": counted(given, played), "slope": slope(played.regret)}
            rows.append({**row, "after_1000": float(played.regret[min(999, options.steps - 1)])})
        results[name] = rows
    package = {"mabwiser": "mabwiser", "vowpal_wabbit": "vowpalwabbit"}[options.peer]
    print(json.dumps({"version": version(package), "results": results}))


if __name__ == "__main__":
    main()
