"""Selections that the scorer decides, worked out by brute force."""

import math
from typing import Any

import numpy as np

from kshot.clients.embedders.hashing import HashingEmbedder
from kshot.formatting import Prompt, QueryTurn, Turn
from kshot.selectors import organisations
from tests.test_server.closed_form import path_nats
from tests.test_server.live import Live, LivePool, tickets

QUERY = "my parcel and my invoice"
URL = "http://127.0.0.1:9/v1"
ROWS = tickets(40)
LABELS = ["billing", "delivery", "login", "returns", "setup"]


def filled(live: Live, **settings: Any) -> LivePool:
    select = {"gap_below": -1, **settings.pop("select", {})}
    made = live.create(select=select, **settings)
    made.add(ROWS)
    return made


def ranking(query: str = QUERY) -> list[dict[str, Any]]:
    texts = [query, *(row["inputs"] for row in ROWS)]
    vectors = HashingEmbedder().encode(texts, token_layer=None).vectors
    cosines = (vectors[1:] @ vectors[0]).tolist()
    return [ROWS[i] for i in sorted(range(len(ROWS)), key=lambda i: (-cosines[i], i))]


def prompt_of(rows: list[dict[str, Any]], query: str = QUERY) -> str:
    return Prompt([Turn.of(row["inputs"], row["outputs"]) for row in rows], QueryTurn.of(query)).text()


def means(prompt: str) -> list[float]:
    return [float(np.mean(path_nats(prompt, f" {label}"))) for label in LABELS]


def entropy(nats: list[float]) -> float:
    weights = [math.exp(one) for one in nats]
    return -sum(one / sum(weights) * math.log(one / sum(weights)) for one in weights)


def laid_out(k: int, count: int = 10, seed: int = 0, depth: int = 30) -> list[list[dict[str, Any]]]:
    """Every organisation's rows in prompt order: the plain one nearest last, the others as drawn."""
    rows = ranking()[: max(k, depth)]
    drawn = organisations(len(rows), k, count, np.random.Generator(np.random.PCG64(seed))).tolist()
    return [rows[:k][::-1], *([rows[place] for place in one] for one in drawn[1:])]


def named(rows: list[dict[str, Any]]) -> list[str]:
    return [row["id"] for row in rows]
