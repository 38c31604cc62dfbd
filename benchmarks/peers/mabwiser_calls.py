"""How long MABWiser's LinUCB takes to choose among 50 arms, as a peer for `benchmarks/policies.py`.

Runs in an environment of its own, from the project's root; see `policies_play.py` beside this. Prints the
milliseconds of every call as JSON. The arms are fitted to 5,000 random outcomes first.
"""

import argparse
import json
import os
import time

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np
from mabwiser.mab import MAB, LearningPolicy

from benchmarks.bandits.worlds import sphere, with_intercept

ARMS, EVENTS = 50, 5000


def main():
    """Time both dimensions."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=200)
    options = parser.parse_args()
    times = {}
    for d in (64, 384):
        rng = np.random.default_rng(0)
        contexts = with_intercept(sphere(rng, EVENTS, d - 1))
        bandit = MAB(list(range(ARMS)), LearningPolicy.LinUCB(alpha=0.5, l2_lambda=1.0))
        bandit.fit(rng.integers(0, ARMS, EVENTS), rng.integers(0, 2, EVENTS).astype(float), contexts)
        bandit.predict(contexts[:1])
        times[f"d = {d}"] = [timed(bandit, contexts[row : row + 1]) for row in range(options.repeats)]
    print(json.dumps(times))


def timed(bandit, context):
    """Return the milliseconds of one prediction."""
    started = time.perf_counter()
    bandit.predict(context)
    return 1e3 * (time.perf_counter() - started)


if __name__ == "__main__":
    main()
