"""Plans over the real service: cancelled, cut short, and kept waiting."""

import threading
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from kshot.index.store import Store
from kshot.records import Job, JobState
from kshot.server.services.planning import gathering, work
from tests.test_server.live import Live, LivePool, running, the_problem
from tests.test_server.live_plans import finished, ids, made, started, unlabelled


def test_what_is_no_plan_is_not_found(live: Live, pool: LivePool):
    pool.add(unlabelled(3))
    job = live.services._runner.submit("tune", live.services.store.get_pool(pool.name).id, {})
    for plan_id in ("none", job.id):
        for call in (
            live.http.get(f"/v1/plans/{plan_id}"),
            live.http.get(f"/v1/plans/{plan_id}/items"),
            live.http.delete(f"/v1/plans/{plan_id}"),
            live.http.get(f"/v1/plans?cursor={plan_id}"),
        ):
            assert the_problem(call, 404)["code"] == "plan_not_found"


class Gate:
    """Holds a plan where it begins to gather its rows."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.reached = threading.Event()
        self.open = threading.Event()
        through = gathering.task_of

        def gated(*arguments: Any) -> Any:
            self.reached.set()
            assert self.open.wait(60)
            return through(*arguments)

        monkeypatch.setattr(f"{work.__name__}.task_of", gated)


def test_a_running_plan_can_be_cancelled(live: Live, pool: LivePool, monkeypatch: pytest.MonkeyPatch):
    pool.add(unlabelled(9))
    gate = Gate(monkeypatch)
    plan_id = started(pool, budget=3)
    assert gate.reached.wait(60)
    unfinished = the_problem(live.http.get(f"/v1/plans/{plan_id}/items"), 409)
    assert "running" in unfinished["detail"]
    assert live.http.delete(f"/v1/plans/{plan_id}").json()["state"] == "cancelled"
    gate.open.set()
    plan = finished(pool, plan_id)
    assert (plan["state"], plan["result"]) == ("cancelled", None)
    # The runner goes on with the next one.
    assert len(ids(pool, made(pool, budget=3))) == 3


def test_a_plan_of_a_pool_that_is_deleted_meanwhile_fails_with_the_reason(
    live: Live, pool: LivePool, monkeypatch: pytest.MonkeyPatch
):
    pool.add(unlabelled(9))
    gate = Gate(monkeypatch)
    plan_id = started(pool, budget=3)
    assert gate.reached.wait(60)
    live.http.delete(f"/v1/pools/{pool.name}")
    gate.open.set()
    plan = finished(pool, plan_id)
    assert plan["pool"] is None
    assert plan["state"] in {"cancelled", "failed"}


def test_a_plan_that_was_cut_short_is_made_at_the_next_start(tmp_path: Path):
    with running(tmp_path) as live:
        live.create().add(unlabelled(9))
        pool_id = live.services.store.get_pool("tickets").id
    now = datetime.now(UTC)
    with Store(f"sqlite:///{tmp_path}/store.sqlite") as store:
        store.add_job(
            Job(
                id="cut",
                kind="plan",
                pool_id=pool_id,
                params={"request": {"pool": "tickets", "budget": 4}, "version": 1},
                state=JobState.RUNNING,
                done=3,
                total=9,
                phase="graph",
                result=None,
                error=None,
                created_at=now,
                updated_at=now,
            )
        )
    with running(tmp_path) as live:
        pool = live.pool()
        assert len(ids(pool, finished(pool, "cut"))) == 4


def test_a_plan_whose_index_does_not_catch_up_fails_with_the_reason(
    live: Live, pool: LivePool, monkeypatch: pytest.MonkeyPatch
):
    pool.add(unlabelled(3))
    monkeypatch.setattr(work, "STALLED_S", 0.3)
    pool_id = live.services.store.get_pool(pool.name).id
    job = live.services._runner.submit(
        "plan", pool_id, {"request": {"pool": pool.name, "budget": 2}, "version": 99}
    )
    plan = finished(pool, job.id)
    assert (plan["state"], plan["error"]["code"]) == ("failed", "unavailable")
    assert "wanted 99" in plan["error"]["detail"]
