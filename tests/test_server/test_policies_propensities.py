"""What is logged of a decision is what it was drawn from: by counting, and by drawing again."""

from typing import Any

import numpy as np
import pytest

from kshot.selectors.bandits import PropensityKind
from kshot.selectors.bandits.propensity import Distribution, decision_seed, draw
from tests.test_server.live import Live
from tests.test_server.live_policies import LivePolicy, policy

HOLD_OUT, FLOOR = 0.1, 0.1


def taught(live: Live, algorithm: str) -> LivePolicy:
    """A policy that prefers one variant, with one in the nursery."""
    asked = policy(
        live,
        algorithm=algorithm,
        hold_out=HOLD_OUT,
        floor=FLOOR,
        nursery=0.2,
        context={"dimension": 0},
    )
    for _ in range(12):
        asked.tell(asked.decide(eligible=["brief"]), 0.2)
        asked.tell(asked.decide(eligible=["formal"]), 0.8)
    asked.settled(24)
    return asked


@pytest.mark.parametrize("algorithm", ["square_cb", "lin_thompson", "beta_thompson", "lin_ucb"])
def test_every_decision_can_be_drawn_again_from_what_is_stored(live: Live, algorithm: str) -> None:
    asked = taught(live, algorithm)
    replies: list[Any] = [asked.decide(f"question {i}") for i in range(60)]
    records = live.services.store.find_decisions([one["decision_id"] for one in replies])
    number = live.services.store.get_policy(asked.name).id
    for reply in replies:
        record = records[reply["decision_id"]]
        p = np.frombuffer(record.probabilities, "<f8")
        assert p.sum() == pytest.approx(1.0)
        assert p.min() >= FLOOR / 3
        seed = decision_seed(str(number), record.policy_version, record.id)
        assert record.seed == f"{seed:016x}"
        adaptive = (p - HOLD_OUT / 3) / (1 - HOLD_OUT)
        found = draw(Distribution(p, adaptive, HOLD_OUT, np.zeros(3, np.bool_), PropensityKind.EXACT), seed)
        assert record.eligible[found.place] == record.chosen == reply["variant"]
        assert (found.propensity, found.is_holdout) == (record.propensity, record.hold_out)
        assert reply["probability"] == pytest.approx(found.propensity, abs=1e-6)


def test_variants_are_served_as_often_as_is_logged(live: Live) -> None:
    """Frozen, so that nothing but the draw differs; 4 standard deviations."""
    asked = taught(live, "square_cb")
    asked.patch(mode="frozen")
    replies = [asked.decide(f"question {i}") for i in range(800)]
    assert len({str(one["ranking"]) for one in replies}) == 1
    for ranked in replies[0]["ranking"]:
        served = sum(one["variant"] == ranked["variant"] for one in replies)
        p = ranked["probability"]
        assert abs(served - 800 * p) <= 4 * np.sqrt(800 * p * (1 - p)), ranked
    held = sum(one["hold_out"] for one in replies)
    assert abs(held - 800 * HOLD_OUT) <= 4 * np.sqrt(800 * HOLD_OUT * (1 - HOLD_OUT))
