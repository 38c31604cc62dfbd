"""A policy that cannot be opened: said, and in nobody else's way."""

from pathlib import Path

from kshot.index.store import Store
from tests.test_server.live import Live, LivePool, running, the_problem
from tests.test_server.live_policies import policy


def test_a_pool_that_a_policy_embeds_by_stays(live: Live, pool: LivePool) -> None:
    asked = policy(live, context={"pool": pool.name, "dimension": 8})
    problem = the_problem(live.http.delete(f"/v1/pools/{pool.name}"), 409)
    assert asked.name in problem["detail"]
    asked.decide()
    asked.patch(context={"dimension": 0})
    assert live.http.delete(f"/v1/pools/{pool.name}").status_code == 204
    asked.decide()


def test_a_policy_that_cannot_be_opened_is_listed_and_can_be_mended(tmp_path: Path) -> None:
    with running(tmp_path) as live:
        pool = live.create("shared")
        broken = policy(live, "broken", context={"pool": pool.name, "dimension": 8})
        made = broken.decide()
        broken.decide(subject_id="ann")
        policy(live, "sound").decide()
    with Store(f"sqlite:///{tmp_path / 'store.sqlite'}") as store:
        store.delete_pool("shared")
    with running(tmp_path) as live:
        listed = live.http.get("/v1/policies").raise_for_status().json()["data"]
        assert [(one["name"], [w["code"] for w in one["warnings"]]) for one in listed] == [
            ("broken", ["not_opened"]),
            ("sound", []),
        ]
        body = {"decision_id": made["decision_id"], "value": 1.0}
        # Whoever has an outcome keeps it and says it again.
        for response in (
            live.http.post("/v1/feedback", json=body),
            live.http.post("/v1/policies/broken/decide", json={"inputs": "a"}),
            live.http.post("/v1/decisions:delete", json={"subject_id": "ann"}),
        ):
            assert "shared" in the_problem(response, 503)["detail"]
        batch = live.http.post("/v1/feedback:batch", json={"items": [body]}).json()
        assert [one["code"] for one in batch["refused"]] == ["unavailable"]
        live.http.patch("/v1/policies/broken", json={"context": {"dimension": 0}}).raise_for_status()
        assert live.http.post("/v1/feedback", json=body).json()["folded"] is False
        erased = live.http.post("/v1/decisions:delete", json={"subject_id": "ann"})
        assert erased.json() == {"deleted": 1}
        assert live.http.delete("/v1/policies/broken").status_code == 204
        assert live.http.get("/v1/policies/broken").status_code == 404
