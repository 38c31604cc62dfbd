"""Policies over a running service: created, asked, told how it went."""

from typing import Any
from uuid import uuid4

import httpx

from tests.test_server.live import HASHING, Live, wait_until

CONTEXT = {"embedder": HASHING, "dimension": 8}
VARIANTS = [{"name": name, "template": name + ": {{ inputs }}"} for name in ("brief", "formal", "warm")]
DETERMINED: dict[str, Any] = {"floor": 0.0, "hold_out": 0.0, "nursery": 0.0}
"""Nothing is served at random."""


class LivePolicy:
    """One policy of a running service."""

    def __init__(self, live: Live, name: str) -> None:
        self.live = live
        self.name = name

    @property
    def url(self) -> str:
        return f"/v1/policies/{self.name}"

    def ask(self, inputs: Any = "where is my parcel", **options: Any) -> httpx.Response:
        query = {} if inputs is None else {"inputs": inputs}
        return self.live.http.post(f"{self.url}/decide", json={**query, **options})

    def decide(self, inputs: Any = "where is my parcel", **options: Any) -> Any:
        response = self.ask(inputs, **options)
        assert response.status_code == 200, response.text
        return response.json()

    def tell(self, decision: Any, value: Any = 1.0, **options: Any) -> Any:
        body = {"decision_id": decision["decision_id"], "value": value, **options}
        response = self.live.http.post("/v1/feedback", json=body)
        assert response.status_code == 200, response.text
        return response.json()

    def info(self) -> Any:
        """Describe the policy; its state is up to date with the log."""
        return self.live.http.get(self.url).raise_for_status().json()

    def patch(self, **settings: Any) -> Any:
        response = self.live.http.patch(self.url, json=settings)
        assert response.status_code == 200, response.text
        return response.json()

    def variant(self, name: str, **changes: Any) -> Any:
        response = self.live.http.patch(f"{self.url}/variants/{name}", json=changes)
        assert response.status_code == 200, response.text
        return response.json()

    def add(self, **variant: Any) -> Any:
        response = self.live.http.post(f"{self.url}/variants", json=variant)
        assert response.status_code == 201, response.text
        return response.json()

    def settled(self, outcomes: int) -> None:
        wait_until(lambda: self.info()["outcomes"] == outcomes, f"{outcomes} outcomes")


def policy(live: Live, name: str | None = None, **settings: Any) -> LivePolicy:
    """Create a policy of three variants over hashed embeddings."""
    name = name or f"policy-{uuid4().hex}"
    response = live.http.post("/v1/policies", json=body(name, **settings))
    assert response.status_code == 201, response.text
    assert response.headers["location"] == f"/v1/policies/{name}"
    return LivePolicy(live, name)


def body(name: str, **settings: Any) -> dict[str, Any]:
    return {"name": name, "context": CONTEXT, "variants": VARIANTS, **settings}


def outcome_of(info: Any, name: str) -> tuple[int, float | None]:
    """Return how many outcomes a variant has, and their mean."""
    variant = next(one for one in info["variants"] if one["name"] == name)
    return variant["outcomes"], variant["mean"]


def decision(live: Live, decision_id: str) -> Any:
    return live.http.get(f"/v1/decisions/{decision_id}").raise_for_status().json()
