"""Linear models beside the numbers of MABWiser that `benchmarks/peers/mabwiser_linear.py` printed."""

import json
from pathlib import Path

import numpy as np
import pytest

from kshot.selectors.bandits import ArmPrior, Situation, outcomes
from kshot.selectors.bandits.ridge import ridge_estimates
from kshot.selectors.bandits.sums import SumsState

PEER = json.loads((Path(__file__).parent / "golden" / "mabwiser_linear.json").read_text(encoding="utf-8"))
ARMS = tuple(PEER["arms"])
QUERIES = np.array(PEER["queries"]) / 64
UNTRIED = ARMS.index("untried")


@pytest.fixture(scope="module")
def state():
    events = PEER["events"]
    addends = outcomes(events["arms"], np.array(events["contexts"]) / 64, np.array(events["rewards"]) / 4)
    return SumsState(QUERIES.shape[1]).fold(addends)


def own(state, ridge):
    # The peer pulls to 0, and so do we without belief.
    return [ridge_estimates(state, Situation(ARMS, z), ridge, ArmPrior(0.0)) for z in QUERIES]


def test_expected_rewards_are_the_peers(state):
    for (means, _), theirs in zip(own(state, 1.0), PEER["greedy_ridge_1"], strict=True):
        assert means == pytest.approx(theirs, abs=1e-9)


def test_upper_bounds_are_the_peers(state):
    for (means, widths), theirs in zip(own(state, 1.0), PEER["ucb_alpha_1_ridge_1"], strict=True):
        assert means + widths == pytest.approx(theirs, abs=1e-9)


def test_an_untried_arm_is_less_uncertain_under_a_stronger_ridge(state):
    for z, (means, widths), theirs in zip(QUERIES, own(state, 4.0), PEER["ucb_alpha_1_ridge_4"], strict=True):
        tried = np.arange(len(ARMS)) != UNTRIED
        assert (means + widths)[tried] == pytest.approx(np.array(theirs)[tried], abs=1e-9)
        # The peer multiplies with the ridge where it has to divide.
        assert theirs[UNTRIED] == pytest.approx(2 * np.linalg.norm(z), abs=1e-9)
        assert widths[UNTRIED] == pytest.approx(np.linalg.norm(z) / 2, abs=1e-12)
