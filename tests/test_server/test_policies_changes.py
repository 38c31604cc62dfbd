"""Decisions while their policy is changed, and with one that does not change."""

from concurrent.futures import ThreadPoolExecutor
from itertools import cycle
from typing import Any

from tests.test_server.live import Live
from tests.test_server.live_policies import DETERMINED, policy


def numbers(count: int) -> dict[str, Any]:
    features = [{"type": "number", "name": f"x{i}", "low": 0, "high": 1} for i in range(count)]
    return {"dimension": 0, "features": features}


def test_a_policy_may_get_other_features_while_it_decides(live: Live) -> None:
    """Every decision is one of the policy before or after a change, whole: none is of both."""
    asked = policy(live, algorithm="lin_ucb", context=numbers(1))
    for i in range(5):
        asked.tell(asked.decide(None, features={"x0": i / 5}, render=False), 1.0)

    def decides(_: int) -> Any:
        return asked.ask(None, features={"x0": 0.5}, render=False)

    with ThreadPoolExecutor(8) as threads:
        waiting = threads.map(decides, range(800))
        for count in (2, 3, 1) * 8:
            asked.patch(context=numbers(count))
        replies = list(waiting)
    assert [(one.status_code, one.text) for one in replies if one.status_code != 200] == []
    store = live.services.store
    records = store.find_decisions([one.json()["decision_id"] for one in replies])
    # The version of its policy says how many features each was made on.
    wanted = dict(zip(range(1, 26), cycle((1, 2, 3)), strict=False))
    assert {(one.policy_version, len(one.features) // 8 - 1) for one in records.values()} <= set(
        wanted.items()
    )
    assert len({one.policy_version for one in records.values()}) > 1


def test_a_frozen_policy_waits_for_nothing(live: Live) -> None:
    """What explores by widths is narrowed by what it awaits; frozen it awaits nothing."""
    asked = policy(live, algorithm="lin_ucb", **DETERMINED)
    for i in range(3):
        asked.tell(asked.decide(f"question {i}"), 1.0)
    asked.settled(3)
    asked.patch(mode="frozen")
    replies = [asked.decide("what now") for _ in range(20)]
    assert len({str(one["ranking"]) for one in replies}) == 1
    assert asked.patch(mode="online")["outcomes"] == 3
    assert asked.decide("what now")["ranking"] == replies[0]["ranking"]
