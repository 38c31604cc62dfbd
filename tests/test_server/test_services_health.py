"""Pool health over the real service: duplicates, doubtful labels, diversity; measured once per state."""

import math
import threading
from typing import Any

import numpy as np
import pytest

from kshot.server.services import health as module
from tests.test_server.live import Live, LivePool, tickets

CLUSTERS = 3


@pytest.fixture
def clusters(live: Live, pool: LivePool) -> LivePool:
    """Three clusters of fifteen examples; one example carries the label of another cluster."""
    own = live.create(f"clusters-{pool.name}", embedder={"type": "external", "dimension": 12})
    rng = np.random.default_rng(1)
    rows = []
    for number in range(15 * CLUSTERS):
        cluster = number % CLUSTERS
        vector = np.eye(12)[cluster] + 0.15 * rng.standard_normal(12)
        label = "two" if number == 6 else ("zero", "one", "two")[cluster]
        rows.append({"id": f"e{number}", "inputs": f"text {number}", "outputs": label, "vector": [*vector]})
    own.add(rows)
    return own


def health(pool: LivePool) -> Any:
    return pool.request("GET", "/stats?health=true").raise_for_status().json()["health"]


def test_plain_counts_come_without_health(clusters: LivePool, monkeypatch):
    monkeypatch.setattr(module, "measure_health", None)
    assert clusters.stats()["health"] is None
    assert clusters.request("GET", "/stats?health=false").json()["health"] is None


def test_a_wrong_label_is_found(clusters: LivePool):
    labels = health(clusters)["labels"]
    assert (labels["labels"], labels["labelled"], labels["measured"]) == (3, 45, 45)
    assert (labels["smallest"], labels["largest"]) == (14, 16)
    shares = [14 / 45, 15 / 45, 16 / 45]
    entropy = -sum(share * math.log(share) for share in shares)
    assert labels["entropy"] == pytest.approx(entropy, abs=1e-6)
    assert labels["evenness"] == pytest.approx(entropy / math.log(3), abs=1e-6)
    assert labels["suspected"] == 1
    (suspect,) = labels["suspects"]
    assert (suspect["id"], suspect["label"], suspect["suggested"]) == ("e6", "two", "zero")
    assert suspect["agreement"] == 1
    assert 0 < suspect["similarity"] < 1


def test_near_duplicates_are_named_in_pairs(clusters: LivePool):
    before = health(clusters)["duplicates"]
    assert (before["threshold"], before["measured"]) == (0.95, 45)
    assert before["rate"] == pytest.approx(2 * len(before["pairs"]) / 45, abs=1e-6)
    vector = [0.0] * 11 + [1.0]
    clusters.add(
        [
            {"id": "a", "inputs": "a", "outputs": "one", "vector": vector},
            {"id": "b", "inputs": "b", "outputs": "one", "vector": vector},
        ]
    )
    after = health(clusters)["duplicates"]
    assert after["rate"] == pytest.approx((45 * before["rate"] + 2) / 47, abs=1e-6)
    assert after["pairs"] == [{"id": "a", "other_id": "b", "similarity": 1.0}, *before["pairs"]]


def test_retired_and_deleted_examples_are_left_out(clusters: LivePool):
    clusters.request("PATCH", "/examples/e6", {"status": "retired"}).raise_for_status()
    clusters.delete(ids=["e0"])
    found = health(clusters)
    assert (found["examples"], found["labels"]["labelled"], found["labels"]["suspected"]) == (43, 43, 0)


def test_diversity_falls_where_examples_repeat_themselves(live: Live, clusters: LivePool):
    twelve = [[*vector] for vector in np.eye(12)]
    apart = live.create(f"apart-{clusters.name}", embedder={"type": "external", "dimension": 12})
    apart.add([{"id": str(i), "inputs": str(i), "vector": vector} for i, vector in enumerate(twelve)])
    assert health(apart)["log_det_distance"] == 0
    assert health(apart)["log_det_examples"] == 12
    assert health(clusters)["log_det_distance"] > 0.2


def test_examples_without_labels_have_no_label_health(live: Live, pool: LivePool):
    drafts = live.create(f"drafts-{pool.name}", embedder={"type": "external", "dimension": 2})
    assert health(drafts) == {
        "examples": 0,
        "duplicates": None,
        "log_det_distance": None,
        "log_det_examples": 0,
        "labels": None,
        "took_s": pytest.approx(0, abs=60),
    }
    drafts.add([{"id": "a", "inputs": "a", "vector": [1.0, 0.0]}])
    assert health(drafts)["duplicates"] is None
    drafts.add([{"id": "b", "inputs": "b", "vector": [0.0, 1.0]}])
    found = health(drafts)
    assert (found["duplicates"]["rate"], found["labels"]) == (0, None)


def test_texts_of_the_default_kind_are_measured_as_well(pool: LivePool):
    pool.add(tickets(30))
    found = health(pool)
    assert found["examples"] == found["duplicates"]["measured"] == 30
    assert found["labels"]["labelled"] == 30


@pytest.fixture
def counted(monkeypatch):
    """Count the measurements."""
    measured: list[int] = []
    measure = module.measure_health

    def counting(snapshot):
        measured.append(snapshot.version)
        return measure(snapshot)

    monkeypatch.setattr(module, "measure_health", counting)
    return measured


def test_what_did_not_change_is_measured_once(clusters: LivePool, counted: list[int]):
    first = health(clusters)
    assert health(clusters) == first
    assert len(counted) == 1
    clusters.add([{"id": "new", "inputs": "new", "outputs": "one", "vector": [1.0] * 12}])
    assert health(clusters)["examples"] == 46
    assert len(counted) == 2


def test_another_label_field_counts_as_a_change(live: Live, clusters: LivePool, counted: list[int]):
    own = live.create(f"fields-{clusters.name}", embedder={"type": "external", "dimension": 2})
    own.add(
        [
            {"id": "a", "inputs": "a", "outputs": "x", "metadata": {"kind": "p"}, "vector": [1.0, 0.0]},
            {"id": "b", "inputs": "b", "outputs": "x", "metadata": {"kind": "q"}, "vector": [0.0, 1.0]},
        ]
    )
    assert health(own)["labels"]["labels"] == 1
    own.patch(label_field="metadata.kind")
    assert health(own)["labels"]["labels"] == 2
    assert len(counted) == 2


def test_two_who_ask_at_once_share_one_measurement(clusters: LivePool, counted: list[int]):
    found: list[Any] = []
    threads = [threading.Thread(target=lambda: found.append(health(clusters))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(counted) == 1
    assert all(one == found[0] for one in found)


def test_a_pool_too_large_to_look_at_is_sampled(clusters: LivePool, monkeypatch):
    # Room for 20 of the 45 examples in either search.
    monkeypatch.setattr(module, "MOST_PRODUCTS", 20 * 45 * 12)
    found = health(clusters)
    assert (found["examples"], found["duplicates"]["measured"], found["labels"]["measured"]) == (45, 20, 20)
    assert found["labels"]["labelled"] == 45


def test_a_deleted_pool_is_forgotten(live: Live, clusters: LivePool):
    health(clusters)
    cache = live.services.pools._health
    assert len(cache._pool_to_health) >= 1
    clusters.request("DELETE")
    again = live.create(clusters.name, embedder={"type": "external", "dimension": 2})
    assert health(again)["examples"] == 0
