"""The whole service in this process: the real app, its lifespan entered, over a data folder of the test's."""

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Event
from typing import Any

import httpx
from fastapi import FastAPI

from kshot.clients.sdk.in_process import InProcessTransport
from kshot.selectors import SELECTORS
from kshot.server.bootstrap import build_app
from kshot.server.services import Services
from kshot.server.settings import Settings
from tests.test_clients.fake_endpoint import FakeEndpoint

HASHING = {"type": "hashing"}
PATIENCE_S = 60.0
UNSCORED = sorted({*SELECTORS.names()} - {"mdl"})
"""The methods that need no scorer."""
NDJSON = {"Content-Type": "application/x-ndjson"}

_TOPICS = {
    "billing": "invoice charged twice on my card for order",
    "delivery": "parcel has not arrived at my address since",
    "login": "password reset mail does not reach account",
    "returns": "send back the broken lamp and get refund for",
    "setup": "how do I connect the new hub to wifi in room",
}


def tickets(n: int, start: int = 0) -> list[dict[str, Any]]:
    """n rows of five labels, three languages, two splits and groups of two; all inputs differ."""
    labels = list(_TOPICS)
    return [
        {
            "id": f"t{i:05d}",
            "inputs": f"{_TOPICS[labels[i % 5]]} number{i} word{i % 7}",
            "outputs": labels[i % 5],
            "metadata": {"lang": ("en", "de", "fr")[i % 3], "priority": i % 4, "hard": float((i * 7) % 11)},
            "split": "train" if i % 4 else "test",
            "group": f"g{i // 2}",
            "subject_id": f"s{i % 10}",
        }
        for i in range(start, start + n)
    ]


def wait_until(holds: Callable[[], Any], what: str) -> None:
    """Wait for something that another thread is about to do."""
    end = time.monotonic() + PATIENCE_S
    while not holds():
        assert time.monotonic() < end, f"{what}: not within {PATIENCE_S} s"
        time.sleep(0.01)


@dataclass(frozen=True)
class Live:
    """A running app and a client of it; requests may come from any thread."""

    http: httpx.Client
    services: Services

    def create(self, name: str = "tickets", **settings: Any) -> "LivePool":
        body = {"name": name, "settings": {"embedder": HASHING, **settings}}
        response = self.http.post("/v1/pools", json=body)
        assert response.status_code == 201, response.text
        return LivePool(self, name)

    def pool(self, name: str = "tickets") -> "LivePool":
        return LivePool(self, name)

    def job(self, job_id: str) -> Any:
        return self.http.get(f"/v1/jobs/{job_id}").raise_for_status().json()

    def finished(self, job_id: str) -> Any:
        """Wait for a job to end and return it."""
        wait_until(
            lambda: self.job(job_id)["state"] in {"succeeded", "failed", "cancelled"}, f"the end of {job_id}"
        )
        return self.job(job_id)


@contextmanager
def running(data_dir: Path, *, scorer: Any = None, **settings: Any) -> Iterator[Live]:
    """Start the service over a folder, perhaps with a scorer; its end is a clean shutdown."""
    given = Settings(data_dir=data_dir, log_level="warning", **settings)
    if scorer is None:
        app = build_app(given)
    else:
        app = build_app(given, build=lambda *made_of: Services(*made_of, make_scorer=lambda: scorer))
    with served(app) as live:
        yield live


@contextmanager
def served(app: FastAPI) -> Iterator[Live]:
    """Enter the lifespan of an app."""
    transport = InProcessTransport(app)
    with httpx.Client(transport=transport, base_url="http://localhost", timeout=PATIENCE_S) as http:
        yield Live(http, app.state.services)


@dataclass(frozen=True)
class LivePool:
    """One pool of a running app."""

    live: Live
    name: str

    def request(self, method: str, path: str = "", body: Any = None, **options: Any) -> httpx.Response:
        content = {} if body is None else {"json": body}
        return self.live.http.request(method, f"/v1/pools/{self.name}{path}", **content, **options)

    def add(self, rows: Iterable[Any], wait: str = "indexed") -> Any:
        response = self.request("POST", f"/examples?wait={wait}", list(rows))
        assert response.status_code == 200, response.text
        return response.json()

    def select(self, inputs: Any = "my invoice was charged twice", **options: Any) -> Any:
        query = {} if inputs is None else {"inputs": inputs}
        response = self.request("POST", "/select", {**query, **options})
        assert response.status_code == 200, response.text
        return response.json()

    def problem(self, path: str, body: Any, status: int = 422) -> Any:
        """Post what must be refused and return the problem."""
        response = self.request("POST", path, body)
        return the_problem(response, status)

    def delete(self, **body: Any) -> Any:
        return self.request("POST", "/examples:delete", body).raise_for_status().json()

    def patch(self, **settings: Any) -> Any:
        response = self.request("PATCH", "", {"settings": settings})
        assert response.status_code == 200, response.text
        return response.json()

    def info(self) -> Any:
        return self.request("GET").raise_for_status().json()

    def stats(self) -> Any:
        return self.request("GET", "/stats").raise_for_status().json()

    def listed(self, limit: int = 1000) -> list[dict[str, Any]]:
        """Every example, page by page."""
        found: list[dict[str, Any]] = []
        cursor: dict[str, Any] = {}
        while True:
            page = (
                self.request("GET", "/examples", params={"limit": limit, **cursor}).raise_for_status().json()
            )
            found += page["data"]
            if page["next_cursor"] is None:
                return found
            cursor = {"cursor": page["next_cursor"]}

    def indexed(self) -> None:
        """Wait until every stored example can be selected."""
        wait_until(lambda: self.stats()["version"] == self.stats()["indexed_version"], "the index")


def the_problem(response: httpx.Response, status: int = 422) -> Any:
    """Return the problem of a refusal, after checking its form."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    problem = response.json()
    assert problem["status"] == status
    assert problem["detail"]
    return problem


def pointers(problem: dict[str, Any]) -> list[str]:
    return [error["pointer"] for error in problem["errors"]]


def ids(selection: dict[str, Any]) -> list[str]:
    return [one["id"] for one in selection["demonstrations"]]


def codes(reply: dict[str, Any]) -> list[str]:
    return [warning["code"] for warning in reply["warnings"]]


class GatedEndpoint(FakeEndpoint):
    """An embeddings endpoint that answers while its gate is open, or a number of times with it shut."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = Event()
        self.gate.set()
        self.free_answers = 0
        self.waiting = 0
        self.texts: list[str] = []

    @property
    def spec(self) -> Any:
        return {"type": "openai", "model": "fake", "base_url": self.base_url}

    def _answer(self, path: str, body: dict[str, Any]) -> tuple[int, dict[str, str], bytes]:
        if self.free_answers:
            self.free_answers -= 1
        else:
            self.waiting += 1
            assert self.gate.wait(PATIENCE_S)
        self.texts += body["input"]
        return super()._answer(path, body)
