"""Measure policies: the call, the durable decision, learning, and what is lost on the way to the best arm.

    python benchmarks/policies.py [--part call fold decide regret] [--peer PYTHON] [--json FILE]

- call: choose, distribution and draw with 50 variants and 64 features, every policy; MABWiser's LinUCB with
  64 and 384 features beside it, in alternating rounds;
- fold: outcomes a second in batches, by the policies alone and from the log of the service;
- decide: a durable ``POST decide`` over HTTP, hashing embedder and MiniLM, beside the embedding alone;
- regret: worlds with a known best arm, linear or not, with late outcomes or a change, beside MABWiser and
  Vowpal Wabbit on the same contexts and coins.

``--peer`` is the Python of an environment with mabwiser 2.7.4 and vowpalwabbit 9.11.9.
"""

import sys
from pathlib import Path

# `select.py` beside this file would hide Python's own `select` from whatever is imported next.
sys.path[0] = str(Path(__file__).parent.parent)

import argparse
import json
import os
import platform
from importlib.metadata import version
from typing import Any

# Read when NumPy is imported: requests run side by side, as in `kshot serve`.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

from benchmarks.bandits.calls import measure_calls
from benchmarks.bandits.deciding import measure_decide
from benchmarks.bandits.folds import measure_folds, measure_log
from benchmarks.bandits.regrets import measure_regrets

PARTS = ("call", "fold", "decide", "regret")
ROOT = Path(__file__).parent.parent
DATA = Path(os.environ.get("KSHOT_TEST_DATA", "../shared/data")) / "banking77"


def main() -> None:
    """Run the parts that are asked for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--part", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--peer", help="Python of an environment with mabwiser and vowpalwabbit")
    parser.add_argument("--repeats", type=int, default=200, help="calls of each policy in a round")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--events", type=int, default=20_000, help="outcomes that are folded")
    parser.add_argument("--batch", type=int, default=1000, help="outcomes in a batch")
    parser.add_argument("--algorithm", default="square_cb", help="of the policy that decides over HTTP")
    parser.add_argument("--queries", type=int, default=300)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes that play at once")
    parser.add_argument("--json", type=Path, help="write every figure here as well")
    options = parser.parse_args()
    versions = ", ".join(f"{name} {version(name)}" for name in ("numpy", "scipy", "sqlalchemy"))
    load = os.getloadavg()[0]
    print(f"Python {platform.python_version()}, {os.cpu_count()} cores, load {load:.1f}; {versions}")
    found: dict[str, Any] = {}
    if "call" in options.part:
        found["call"] = measure_calls(options.repeats, options.rounds, options.peer, ROOT)
    if "fold" in options.part:
        found["fold"] = measure_folds(options.events, options.batch, options.rounds)
        found["log"] = measure_log(options.events // 4, options.rounds, ["square_cb", "beta_thompson"])
    if "decide" in options.part:
        with (DATA / "test.jsonl").open(encoding="utf-8") as file:
            queries = [json.loads(line)["input"] for line in file][: options.queries]
        found["decide"] = measure_decide(queries, options.algorithm, options.threads, 500)
    if "regret" in options.part:
        found["regret"] = measure_regrets(options.seeds, options.jobs, options.peer)
    if options.json:
        options.json.write_text(json.dumps(found, default=float, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
