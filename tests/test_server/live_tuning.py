"""Pools worth tuning and pools that are not, and the job that tunes them."""

from typing import Any

import numpy as np

from tests.test_server.live import Live, LivePool, tickets

HUBS = ["red", "green", "blue", "white"]


def told_by_one_word(n: int, seed: int = 0) -> list[dict[str, Any]]:
    """Return rows whose label stands in one rare word; the many other words are common to all labels."""
    rng = np.random.default_rng(seed)
    common = [f"{syllable}{i}" for syllable in ("lo", "mi", "sa") for i in range(8)]
    return [
        {
            "id": f"w{i}",
            "inputs": " ".join([*rng.choice(common, 10), HUBS[i % 4], *rng.choice(common, 10)]),
            "outputs": HUBS[i % 4],
        }
        for i in range(n)
    ]


def without_meaning(n: int, seed: int) -> list[dict[str, Any]]:
    """Rows whose labels were drawn by lot."""
    rng = np.random.default_rng(seed)
    words = [f"word{i}" for i in range(60)]
    return [
        {"id": f"n{i}", "inputs": " ".join(rng.choice(words, 6)), "outputs": str(rng.integers(3))}
        for i in range(n)
    ]


def plain(n: int) -> list[dict[str, Any]]:
    """Tickets without split and group."""
    return [{name: row[name] for name in ("id", "inputs", "outputs")} for row in tickets(n)]


def started(pool: LivePool, **body: Any) -> str:
    response = pool.request("POST", "/tune", body)
    assert response.status_code == 202, response.text
    job = response.json()
    assert response.headers["location"] == f"/v1/jobs/{job['id']}"
    assert (job["kind"], job["pool"]) == ("tune", pool.name)
    return str(job["id"])


def tuned(live: Live, pool: LivePool, **body: Any) -> Any:
    job = live.finished(started(pool, **body))
    assert (job["state"], job["error"]) == ("succeeded", None)
    assert job["done"] == job["total"] > 0
    return job["result"]
