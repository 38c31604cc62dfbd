"""What MABWiser's linear bandits expect after 1,000 outcomes, as a peer for test_mabwiser_linear.py.

Runs in an environment of its own, and prints the outcomes beside what the peer makes of them:

    python -m venv /tmp/peer && /tmp/peer/bin/pip install mabwiser==2.7.4
    /tmp/peer/bin/python benchmarks/peers/mabwiser_linear.py \
        > tests/test_selectors/test_bandits/golden/mabwiser_linear.json

Features are in 64ths and rewards in quarters, so that both sides have the very same numbers.
"""

import json
from importlib.metadata import version

import numpy as np
from mabwiser.mab import MAB, LearningPolicy

ARMS = ["a", "b", "c", "untried"]
EVENTS, D, QUERIES = 1000, 6, 20

rng = np.random.default_rng(11)
contexts = np.column_stack([rng.integers(-64, 65, (EVENTS, D - 1)), np.full(EVENTS, 64)])
queries = np.column_stack([rng.integers(-64, 65, (QUERIES, D - 1)), np.full(QUERIES, 64)])
arms = [ARMS[arm] for arm in rng.integers(0, 3, EVENTS)]
rewards = rng.integers(0, 5, EVENTS)


def expected(policy) -> list[list[float]]:
    """Return what is expected of every arm in every query."""
    bandit = MAB(ARMS, policy)
    bandit.fit(arms, rewards / 4, contexts / 64)
    return [[float(row[arm]) for arm in ARMS] for row in bandit.predict_expectations(queries / 64)]


print(
    json.dumps(
        {
            "mabwiser": version("mabwiser"),
            "numpy": version("numpy"),
            "arms": ARMS,
            "events": {"arms": arms, "contexts": contexts.tolist(), "rewards": rewards.tolist()},
            "queries": queries.tolist(),
            "greedy_ridge_1": expected(LearningPolicy.LinGreedy(epsilon=0.0, l2_lambda=1.0)),
            "ucb_alpha_1_ridge_1": expected(LearningPolicy.LinUCB(alpha=1.0, l2_lambda=1.0)),
            "ucb_alpha_1_ridge_4": expected(LearningPolicy.LinUCB(alpha=1.0, l2_lambda=4.0)),
        },
        separators=(",", ":"),
    )
)
