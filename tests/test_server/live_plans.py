"""Asking a running service for annotation plans, and reading what it proposes."""

from typing import Any

import httpx

from tests.test_server.live import LivePool, the_problem, tickets, wait_until


def unlabelled(n: int, start: int = 0) -> list[dict[str, Any]]:
    """Tickets without outputs; every third costs more."""
    rows = tickets(n, start)
    for i, row in enumerate(rows):
        del row["outputs"], row["split"]
        row["metadata"]["cost"] = 5.0 if i % 3 == 0 else 2.0
    return rows


def ask(pool: LivePool, **body: Any) -> httpx.Response:
    return pool.live.http.post("/v1/plans", json={"pool": pool.name, **body})


def started(pool: LivePool, **body: Any) -> str:
    response = ask(pool, **body)
    assert response.status_code == 202, response.text
    plan = response.json()
    assert response.headers["location"] == f"/v1/plans/{plan['id']}"
    assert plan["pool"] in {pool.name, body.get("pool")}
    return str(plan["id"])


def finished(pool: LivePool, plan_id: str) -> Any:
    def plan() -> Any:
        return pool.live.http.get(f"/v1/plans/{plan_id}").raise_for_status().json()

    wait_until(lambda: plan()["state"] in {"succeeded", "failed", "cancelled"}, f"the end of {plan_id}")
    return plan()


def made(pool: LivePool, **body: Any) -> Any:
    plan = finished(pool, started(pool, **body))
    assert (plan["state"], plan["error"]) == ("succeeded", None)
    return plan


def items(pool: LivePool, plan: Any) -> list[Any]:
    page = pool.live.http.get(f"/v1/plans/{plan['id']}/items?limit=1000").raise_for_status().json()
    assert page["next_cursor"] is None
    assert [item["rank"] for item in page["data"]] == list(range(1, len(page["data"]) + 1))
    return list(page["data"])


def ids(pool: LivePool, plan: Any) -> list[str]:
    return [item["id"] for item in items(pool, plan)]


def refused(pool: LivePool, **body: Any) -> Any:
    return the_problem(ask(pool, **body), 422)
