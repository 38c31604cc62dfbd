"""What policies lose in worlds that are linear and not, beside peers on the same contexts and coins."""

from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from typing import Any, NamedTuple

import numpy as np

from benchmarks.bandits.intervals import mean_of
from benchmarks.bandits.peers import PEERS, results_of, started
from benchmarks.bandits.players import ALONE, Learner
from benchmarks.bandits.playing import counted, play, slope
from benchmarks.bandits.worlds import scenario
from kshot.selectors.bandits.beta_thompson import BetaThompson
from kshot.selectors.bandits.epsilon_greedy import EpsilonGreedy
from kshot.selectors.bandits.lin_thompson import LinThompson
from kshot.selectors.bandits.lin_ucb import LinUcb
from kshot.selectors.bandits.rff_thompson import RffThompson
from kshot.selectors.bandits.rff_ucb import RffUcb
from kshot.selectors.bandits.square_cb import SquareCb
from kshot.selectors.bandits.uniform import Uniform

STEPS = 4000
WITHIN = 0.35


class Row(NamedTuple):
    """A policy, and the regret after 1,000 and 4,000 steps that published rules of its kind had."""

    name: str
    policy: Any
    after_1000: float | None = None
    after_4000: float | None = None


ROWS: Mapping[str, tuple[Row, ...]] = {
    "lin": (
        Row("uniform", Uniform(), 164, 649),
        Row("beta_thompson", BetaThompson(), 162, 649),
        Row("epsilon_greedy, always 0.1", EpsilonGreedy(epsilon=0.1, epsilon_min=0.1), 76, 178),
        Row("epsilon_greedy", EpsilonGreedy()),
        Row("lin_ucb, alpha 0.5", LinUcb(alpha=0.5), 69, 138),
        Row("lin_ucb, alpha 1", LinUcb(alpha=1.0), 59, 111),
        Row("lin_thompson, noise 0.3", LinThompson(noise=0.3), 74, 157),
        Row("square_cb, gamma 10", SquareCb(gamma=10.0), 72, 163),
        Row("rff_ucb, 128 features, width 1", RffUcb(), 91, 222),
    ),
    "lin, late": (
        Row("lin_ucb, alpha 0.5", LinUcb(alpha=0.5), 124, 202),
        Row("lin_thompson, noise 0.3", LinThompson(noise=0.3), 98, 167),
        Row("square_cb, gamma 10", SquareCb(gamma=10.0)),
    ),
    "drift": (
        Row("lin_thompson", LinThompson()),
        Row("lin_thompson, half-life 500", LinThompson(half_life_s=500.0)),
    ),
    "xor": (
        Row("uniform", Uniform(), None, 1209),
        Row("lin_ucb, alpha 0.5", LinUcb(alpha=0.5), None, 907),
        Row("square_cb, gamma 10", SquareCb(gamma=10.0)),
        Row("rff_ucb, 64 features, width 0.5", RffUcb(components=64, width=0.5), None, 63),
        Row("rff_ucb, 64 features, width 8", RffUcb(components=64, width=8.0), None, 1133),
        Row("rff_thompson, 64 features, width 0.5", RffThompson(components=64, width=0.5)),
    ),
}


class Lost(NamedTuple):
    """Regret of one seed; in the end, what counts: where arms change places, since then."""

    after_1000: float
    after_4000: float
    slope: float


def measure_regrets(seeds: int, jobs: int, peer: str | None) -> dict[str, Any]:
    """Play every world and print what was lost, with intervals over seeds."""
    playing = started(peer, ROWS, seeds, STEPS)
    result: dict[str, Any] = {}
    with ProcessPoolExecutor(jobs) as pool:
        waiting = {
            (world, row.name): [pool.submit(_lost, world, row.policy, seed) for seed in range(seeds)]
            for world, rows in ROWS.items()
            for row in rows
        }
        for world, rows in ROWS.items():
            print(f"\n{world}, {seeds} seeds; regret with 95 % intervals of the mean:\n")
            print("| policy | after 1,000 | by 4,000, since any change | slope | band (within 35 %) |")
            print("| --- | --- | --- | --- | --- |")
            for row in rows:
                found = [one.result() for one in waiting[world, row.name]]
                result[f"{world}, {row.name}"] = found
                print(f"| {row.name} | {_cells(found)} | {_band(row, found)} |", flush=True)
    for name, process in playing.items():
        for world, seen in results_of(name, process).items():
            found = [Lost(one["after_1000"], one["counted"], one["slope"]) for one in seen]
            result[f"{world}, {name}"] = found
            print(f"{world}: | {PEERS[name]} | {_cells(found)} | |")
    return result


def _lost(world: str, policy: Any, seed: int) -> Lost:
    given = scenario(world, seed, STEPS)
    played = play(Learner(policy, given.world.contexts.shape[1], exploration=ALONE), given)
    return Lost(float(played.regret[999]), counted(given, played), slope(played.regret))


def _cells(found: list[Lost]) -> str:
    early, late, slopes = (mean_of(values) for values in zip(*found, strict=True))
    return f"{early.value:.0f} ± {early.reach:.0f} | {late.value:.0f} ± {late.reach:.0f} | {slopes.value:.2f}"


def _band(row: Row, found: list[Lost]) -> str:
    means = np.array(found).mean(axis=0)
    parts = []
    for mean, expected in zip(means, (row.after_1000, row.after_4000), strict=False):
        if expected is not None:
            held = "inside" if abs(mean - expected) <= WITHIN * expected else "OUTSIDE"
            parts.append(f"{expected:g}: {held}")
    return "; ".join(parts)
