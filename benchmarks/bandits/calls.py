"""How long a policy's call takes: choose, mix in the exploration, draw."""

import json
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.bandits.worlds import Array, sphere, with_intercept
from kshot.selectors.bandits import POLICIES, Addends, Policy, Situation, outcomes
from kshot.selectors.bandits.propensity import Exploration, decision_seed, distribution, draw

ARMS = 50
DIMENSION = 64
EVENTS = 5000
GOAL_MS = 0.5


class Called:
    """One policy with a state of `EVENTS` outcomes, ready to be asked.

    A call is what a decision takes from a policy: its probabilities, nursery, floor and hold-out by the
    outcomes that arms have, and the draw by the decision's id.
    """

    def __init__(self, name: str, events: Addends, contexts: Array, arms: tuple[str, ...]) -> None:
        policy: Policy[Any] = POLICIES.get(name)()
        self.policy, self.events, self.contexts, self.arms = policy, events, contexts, arms
        self.state = policy.fold(policy.init(contexts.shape[1]), events)
        self.calls = 0

    def call(self) -> None:
        """Decide once."""
        self.calls += 1
        situation = Situation(self.arms, self.contexts[self.calls % len(self.contexts)])
        choice = self.policy.choose(self.state, situation)
        known = self.state.summaries()
        counts = [known[arm].n if arm in known else 0 for arm in self.arms]
        draw(distribution(choice, np.array(counts), Exploration()), decision_seed("p", 1, str(self.calls)))

    def learn(self) -> None:
        """Fold one outcome more, so that the next call finds something new."""
        self.state = self.policy.fold(self.state, self.events.take([self.calls % len(self.events)]))


def logged(arms: int, d: int, count: int, seed: int = 0) -> tuple[Addends, Array, tuple[str, ...]]:
    """Return random outcomes, their contexts of d features, and the arms' names."""
    rng = np.random.default_rng(seed)
    names = tuple(f"arm-{arm:02}" for arm in range(arms))
    contexts = with_intercept(sphere(rng, count, d - 1))
    chosen = [names[arm] for arm in rng.integers(0, arms, count)]
    return outcomes(chosen, contexts, rng.integers(0, 2, count).astype(float)), contexts, names


def measure_calls(repeats: int, rounds: int, peer: str | None, root: Path) -> dict[str, Any]:
    """Measure every policy, in rounds so that all see the same machine, and MABWiser beside them.

    A round asks each policy ``repeats`` times of the same state, then as often after an outcome each.
    """
    events, contexts, arms = logged(ARMS, DIMENSION, EVENTS)
    called = {name: Called(name, events, contexts, arms) for name in POLICIES.names()}
    times: dict[str, dict[str, list[float]]] = {name: {"same": [], "news": []} for name in called}
    others: dict[str, list[float]] = {}
    for _ in range(rounds):
        for name, one in called.items():
            one.call()
            count = repeats if times[name]["same"][-1:] < [5.0] else max(repeats // 20, 5)
            times[name]["same"] += [timed(one.call) for _ in range(count)]
            for _ in range(count):
                one.learn()
                times[name]["news"].append(timed(one.call))
        if peer:
            for key, values in _peer(peer, root, repeats).items():
                others.setdefault(key, []).extend(values)
    result: dict[str, Any] = {"policies": {}, "mabwiser": {}}
    print(f"\n{ARMS} variants, {DIMENSION} features, {EVENTS:,} outcomes; goal {GOAL_MS:g} ms\n")
    print("| policy | p50 ms | p99 ms | p50 ms after an outcome | p99 ms after an outcome |")
    print("| --- | --- | --- | --- | --- |")
    for name, found in times.items():
        row = [*percentiles(found["same"]), *percentiles(found["news"])]
        result["policies"][name] = row
        print(f"| {name} | {' | '.join(f'{value:.3f}' for value in row)} |")
    for key, values in others.items():
        row = percentiles(values)
        result["mabwiser"][key] = row
        ratio = row[0] / result["policies"]["lin_ucb"][0]
        print(f"| MABWiser LinUCB, {key} | {row[0]:.3f} ({ratio:.1f} times lin_ucb) | {row[1]:.3f} | | |")
    return result


def timed(call: Callable[[], object]) -> float:
    """Return the milliseconds of a call."""
    started = time.perf_counter()
    call()
    return 1e3 * (time.perf_counter() - started)


def percentiles(values: list[float]) -> list[float]:
    """Return the median and the 99th percentile."""
    return [float(np.percentile(values, 50)), float(np.percentile(values, 99))]


def _peer(python: str, root: Path, repeats: int) -> dict[str, list[float]]:
    command = [python, "-m", "benchmarks.peers.mabwiser_calls", "--repeats", str(repeats)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, cwd=root)
    found: dict[str, list[float]] = json.loads(done.stdout.splitlines()[-1])
    return found
