"""Bodies as a server sends them, for tests without one."""

from typing import Any

import httpx

MOMENT = "2026-01-02T03:04:05Z"


def pool(name: str = "tickets", **changes: Any) -> dict[str, Any]:
    return {
        "name": name,
        "settings": {"embedder": {"type": "hashing"}},
        "embedder_fingerprint": None,
        "dimension": None,
        "version": 3,
        "examples": 2,
        "indexed_version": 3,
        "created_at": MOMENT,
        "updated_at": MOMENT,
        **changes,
    }


def demonstration(rank: int, inputs: Any, outputs: Any, **changes: Any) -> dict[str, Any]:
    return {
        "id": f"e{rank}",
        "rank": rank,
        "part": "dynamic",
        "inputs": inputs,
        "outputs": outputs,
        "metadata": {},
        "score": 0.5,
        "gain": 0.5,
        "similarity": 0.5,
        "tokens": 4,
        **changes,
    }


def selection(*demonstrations: dict[str, Any], **changes: Any) -> dict[str, Any]:
    return {
        "selection_id": "s1",
        "pool": "tickets",
        "pool_version": 3,
        "method": "fused",
        "demonstrations": list(demonstrations),
        "usage": {"tokens": 8, "estimated": True, "eligible": 2, "candidates": 2},
        "set": {"mean_pairwise": None, "labels": {}},
        "prefix_hash": None,
        "timing_ms": {"total": 1.0},
        **changes,
    }


def upserted(rows: int, **changes: Any) -> dict[str, Any]:
    return {
        "accepted": rows,
        "created": rows,
        "updated": 0,
        "unchanged": 0,
        "ids": [f"x{i}" for i in range(rows)],
        "version": 3,
        "indexed": True,
        "upto_line": rows,
        **changes,
    }


def job(state: str, **changes: Any) -> dict[str, Any]:
    return {
        "id": "j1",
        "kind": "reembed",
        "pool": "tickets",
        "state": state,
        "done": 1,
        "total": 2,
        "phase": None,
        "result": None,
        "error": None,
        "created_at": MOMENT,
        "updated_at": MOMENT,
        **changes,
    }


def plan(state: str, **changes: Any) -> dict[str, Any]:
    return {
        "id": "p1",
        "pool": "tickets",
        "state": state,
        "phase": None,
        "done": 1,
        "total": 2,
        "eta_s": None,
        "request": {"pool": "tickets", "budget": 2},
        "result": None,
        "error": None,
        "created_at": MOMENT,
        "updated_at": MOMENT,
        **changes,
    }


def problem(status: int, code: str, detail: str = "no", **changes: Any) -> httpx.Response:
    body = {
        "type": f"/problems/{code}",
        "title": code,
        "status": status,
        "code": code,
        "detail": detail,
        **changes,
    }
    return httpx.Response(status, json=body, headers={"Content-Type": "application/problem+json"})
