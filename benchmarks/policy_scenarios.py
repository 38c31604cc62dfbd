"""Play eight scenarios that feedback goes through in production, and tell what policies lose in them.

    python benchmarks/policy_scenarios.py [--seeds 10] [--steps 2000] [--peer PYTHON] [--json FILE]

Five arms, contexts of eight features and an intercept, chances of reward linear in the context; see
`benchmarks/bandits/worlds.py` for what happens to outcomes on the way. kshot's policies go through the
ledger, the floor, the hold-out and the nursery that the server has by default; MABWiser's LinUCB and Vowpal
Wabbit's SquareCB play as they come, in the environment of ``--peer``. Numbers are regret: what was lost
against the best arm of every step, with 95 % intervals over seeds; after a change, from there on.
"""

import sys
from pathlib import Path

# `select.py` beside this file would hide Python's own `select` from whatever is imported next.
sys.path[0] = str(Path(__file__).parent.parent)

import argparse
import json
import os
import platform
from concurrent.futures import ProcessPoolExecutor
from importlib.metadata import version
from typing import Any

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np

from benchmarks.bandits.intervals import mean_of
from benchmarks.bandits.peers import PEERS, results_of, started
from benchmarks.bandits.treatments import BASELINES, LEARNERS, lost, treatments
from benchmarks.bandits.worlds import SCENARIOS


def main() -> None:
    """Play everything and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--peer", help="Python of an environment with mabwiser and vowpalwabbit")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes that play at once")
    parser.add_argument("--json", type=Path, help="write every figure here as well")
    options = parser.parse_args()
    print(
        f"Python {platform.python_version()}, numpy {version('numpy')}; {options.seeds} seeds, "
        f"{options.steps:,} steps"
    )
    peers = started(options.peer, SCENARIOS, options.seeds, options.steps)
    columns = (*LEARNERS, *BASELINES)
    figures: dict[str, Any] = {}
    every = treatments(options.steps)
    pool = ProcessPoolExecutor(options.jobs)
    waiting = {
        (treatment.name, name): pool.submit(lost, treatment, name, options.seeds, options.steps)
        for treatment in every
        for name in columns
    }
    answers = {
        name: {one: [row["counted"] for row in rows] for one, rows in results_of(name, process).items()}
        for name, process in peers.items()
    }
    print(f"\n| scenario | {' | '.join((*columns, *(PEERS[name] for name in peers)))} |")
    print("|" + " --- |" * (1 + len(columns) + len(peers)))
    for treatment in every:
        cells, row = [], {}
        for name in columns:
            found = waiting[treatment.name, name].result()
            row[name] = found.regrets
            cells.append(cell(found.regrets))
            if treatment.scenario == "restart":
                unbroken = waiting["stationary", name].result()
                same = "the same choices" if np.array_equal(found.arms, unbroken.arms) else "OTHER CHOICES"
                cells[-1] += f", {same}, {found.largest_state:,} B"
        for name, results in answers.items():
            plays = not treatment.remedy
            row[name] = results[treatment.scenario] if plays else []
            cells.append(cell(row[name]) if plays else "")
        figures[treatment.name] = row
        print(f"| {treatment.name} | {' | '.join(cells)} |", flush=True)
    pool.shutdown()
    if options.json:
        options.json.write_text(json.dumps(figures, indent=1), encoding="utf-8")


def cell(regrets: list[float]) -> str:
    """Return the mean, and how far its 95 % interval reaches."""
    value, reach = mean_of(regrets)
    return f"{value:.0f} ± {reach:.0f}"


if __name__ == "__main__":
    main()
