"""Token weights by inverse document frequency, over the real service."""

import pytest

from tests.test_server.live import Live, LivePool, ids


@pytest.fixture(scope="module")
def tickets(live: Live) -> LivePool:
    pool = live.create("weighed")
    rows = [f"please help me with my {word}" for word in ("invoice", "parcel", "password", "hub", "lamp")]
    pool.add({"id": text.split()[-1], "inputs": text, "outputs": "x"} for text in [*rows, "invoice overdue"])
    return pool


@pytest.mark.parametrize("name", ["bsr", "set_bsr"])
def test_rare_words_count_more_once_asked_for(tickets: LivePool, name):
    query = "please help me with my overdue lamp"
    assert ids(tickets.select(query, k=1, method=name)) == ["lamp"]
    # Five of seven words are in five of six rows; "overdue" and "lamp" are in one each.
    chosen = tickets.select(query, k=2, method={"type": name, "idf": True})
    assert set(ids(chosen)) == {"lamp", "overdue"}
    scores = {one["id"]: one["score"] for one in chosen["demonstrations"]}
    assert scores["overdue"] > 0.35


def test_the_default_method_takes_idf(tickets: LivePool):
    method = {"type": "fused", "idf": True}
    chosen = tickets.select("please help me with my overdue lamp", k=2, method=method, explain=True)
    assert chosen["explain"]["params"]["idf"] is True
    assert ids(chosen)[-1] == "lamp"
