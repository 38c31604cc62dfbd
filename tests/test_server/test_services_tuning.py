"""Tuning over the real service: a job that measures, proposes and, when told to, changes settings."""

import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kshot.clients.embedders.base import TextFeatures
from kshot.clients.embedders.hashing import HashingEmbedder
from kshot.server.services import agreement
from tests.test_server.live import (
    HASHING,
    Live,
    LivePool,
    pointers,
    running,
    the_problem,
    tickets,
    wait_until,
)

SIMILARITY_ONLY = {"similarity": 1.0, "bsr": 0.0, "bm25": 0.0}
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


def test_better_weights_are_proposed_and_nothing_changes(live: Live, pool: LivePool):
    pool.add(told_by_one_word(120))
    before = pool.info()

    result = tuned(live, pool)

    assert (result["queries"], result["rows"], result["labels"], result["k"]) == (120, 120, 4, 8)
    assert result["pool_version"] == before["version"]
    present, after = result["before"], result["after"]
    assert (present["token_layer"], present["weights"]) == (1, {"similarity": 1, "bsr": 1, "bm25": 0})
    assert after["weights"]["bm25"] == 1
    assert after["agreement"]["low"] > present["agreement"]["high"]
    weights_step, layer_step = result["steps"]
    assert (weights_step["compares"], weights_step["accepted"]) == ("weights", True)
    assert 0 < weights_step["gain"]["low"] < weights_step["gain"]["mean"] < weights_step["gain"]["high"]
    # Both numbers name the only layer of this embedder.
    assert (layer_step["compares"], layer_step["accepted"]) == ("token_layer", False)
    means = [one["agreement"]["mean"] for one in result["compared"]]
    assert means == sorted(means, reverse=True)
    assert (result["applied"], result["job_id"]) == (False, None)
    assert result["settings"]["select"]["params"]["fused"] == after["weights"]
    assert pool.info() == before


def test_applied_weights_hold_at_once_and_leave_other_settings_alone(live: Live, pool: LivePool):
    pool.add(told_by_one_word(120))
    pool.patch(select={"k": 3, "params": {"mmr": {"diversity": 0.2}}}, retention_days=9)

    result = tuned(live, pool, apply=True)

    assert (result["applied"], result["job_id"]) == (True, None)
    settings = pool.info()["settings"]
    assert settings["select"]["params"] == {
        "mmr": {"diversity": 0.2},
        "fused": result["after"]["weights"],
    }
    assert (settings["select"]["k"], settings["retention_days"]) == (3, 9)
    chosen = pool.select("lo1 mi2 green sa3", explain=True)
    assert chosen["explain"]["params"]["bm25"] == 1
    assert {one["label"] for one in chosen["demonstrations"]} == {"green"}
    again = tuned(live, pool, apply=True)
    assert (again["before"]["weights"], again["after"]) == (result["after"]["weights"], None)
    assert (again["settings"], again["applied"]) == ({}, False)


@pytest.mark.parametrize("seed", range(3))
def test_labels_drawn_by_lot_propose_no_change(seed: int, live: Live, pool: LivePool):
    pool.add(without_meaning(90, seed))
    result = tuned(live, pool, apply=True, seed=seed)
    assert (result["after"], result["settings"], result["applied"]) == (None, {}, False)
    assert result["before"]["agreement"]["mean"] == pytest.approx(1 / 3, abs=0.1)


def test_the_same_seed_gives_the_same_result(live: Live, pool: LivePool):
    pool.add(told_by_one_word(150))
    first, again, other = (tuned(live, pool, queries=60, seed=seed) for seed in (1, 1, 2))
    assert first == again
    assert first["compared"] != other["compared"]
    assert first["queries"] == 60


@pytest.mark.parametrize("signal", ["similarity", "bsr", "bm25"])
def test_agreement_is_that_of_selections_that_leave_the_query_out(signal: str, live: Live, pool: LivePool):
    rows = plain(60)
    pool.add(rows)
    # Of one signal, so that the samples it is standardised over do not matter.
    weights = {**dict.fromkeys(SIMILARITY_ONLY, 0.0), signal: 1.0}
    pool.patch(select={"params": {"fused": weights}})
    shares = []
    for row in rows:
        chosen = pool.select(row["inputs"], k=8, method="fused", exclude={"ids": [row["id"]]})
        labels = [one["label"] for one in chosen["demonstrations"]]
        shares.append(np.mean([label == row["outputs"] for label in labels]))
    result = tuned(live, pool)
    assert result["before"]["weights"] == weights
    assert result["before"]["agreement"]["mean"] == pytest.approx(np.mean(shares), abs=1e-9)


def test_a_query_does_not_find_its_own_label_in_copies_of_itself(live: Live, pool: LivePool):
    rows = without_meaning(60, seed=4)
    copies = [{**row, "id": f"{row['id']}-again", "inputs": row["inputs"].upper()} for row in rows]
    pool.add([*rows, *copies])
    result = tuned(live, pool, k=1, layers=[])
    assert result["rows"] == 120
    assert result["before"]["agreement"]["mean"] < 0.6


def test_a_query_does_not_find_its_own_label_in_its_group(live: Live, pool: LivePool):
    rows = without_meaning(60, seed=5)
    followers = [{**row, "id": f"{row['id']}-b", "inputs": row["inputs"] + " please"} for row in rows]
    pool.add([{**row, "group": f"g{i % 60}"} for i, row in enumerate([*rows, *followers])])
    result = tuned(live, pool, k=1, layers=[])
    assert (result["queries"], result["rows"]) == (60, 120)
    assert result["before"]["agreement"]["mean"] < 0.6


def test_the_test_split_takes_no_part_unless_wanted(live: Live, pool: LivePool):
    pool.add([{**row, "split": "test" if i % 3 == 0 else "train"} for i, row in enumerate(plain(120))])
    assert tuned(live, pool, layers=[])["rows"] == 80
    assert tuned(live, pool, layers=[], exclude_splits=[])["rows"] == 120


def test_a_pool_without_token_vectors_is_tuned_by_the_other_signals(live: Live):
    pool = live.create("tuned-external", embedder={"type": "external", "dimension": 3})
    rng = np.random.default_rng(0)
    pool.add([{**row, "vector": rng.standard_normal(3).tolist()} for row in told_by_one_word(100)])
    result = tuned(live, pool, apply=True)
    assert result["before"]["weights"] == {"similarity": 1, "bm25": 0}
    assert result["before"]["token_layer"] is None
    assert [step["compares"] for step in result["steps"]] == ["weights"]
    assert result["after"]["weights"]["bm25"] == 1
    assert pool.info()["settings"]["select"]["params"]["fused"] == result["after"]["weights"]
    assert pointers(pool.problem("/tune", {"layers": [1]})) == ["/layers/0"]


def test_what_cannot_be_tuned_is_refused_at_once(live: Live, pool: LivePool):
    pool.add(tickets(30))
    assert "wanted 50" in pool.problem("/tune", {})["detail"]
    assert pointers(pool.problem("/tune", {"layers": [1, 7]})) == ["/layers/1"]
    assert pointers(pool.problem("/tune", {"queries": 10, "k": 0})) == ["/queries", "/k"]
    assert pointers(pool.problem("/tune", {"weights": {}})) == ["/weights"]
    absent = live.pool("absent").request("POST", "/tune", {})
    assert the_problem(absent, 404)["code"] == "pool_not_found"
    jobs = live.http.get("/v1/jobs", params={"pool": pool.name}).json()
    assert jobs["data"] == []


def test_an_idempotency_key_starts_one_job(live: Live, pool: LivePool):
    pool.add(plain(60))
    answers = [
        pool.request("POST", "/tune", {"layers": []}, headers={"Idempotency-Key": "once"}) for _ in range(2)
    ]
    assert [answer.status_code for answer in answers] == [202, 202]
    assert answers[0].json()["id"] == answers[1].json()["id"]
    assert answers[0].headers["location"] == answers[1].headers["location"]
    live.finished(answers[0].json()["id"])
    assert len(live.http.get("/v1/jobs", params={"pool": pool.name}).json()["data"]) == 1


class Encoding:
    """Stands between the hashing embedder and a test: a gate for whole batches, and a layer 0 of noise."""

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.gate.set()
        self.waiting = 0

    def encode_layers(self, embedder: Any, texts: Any, layers: Any) -> list[TextFeatures]:
        self.waiting += not self.gate.is_set()
        assert self.gate.wait(60)
        return [embedder.encode(texts, token_layer=layer) for layer in layers]


@pytest.fixture
def encoding(monkeypatch: pytest.MonkeyPatch):
    made = Encoding()
    monkeypatch.setattr(
        HashingEmbedder,
        "encode_layers",
        lambda embedder, *arguments: made.encode_layers(embedder, *arguments),  # noqa: PLW0108  binds `self`
    )
    yield made
    made.gate.set()


@pytest.fixture
def deaf_layer(monkeypatch: pytest.MonkeyPatch):
    """Let layer 0 hear nothing but places, and the sentence vector nothing at all."""
    encode = HashingEmbedder.encode

    def hears_little(self: Any, texts: Any, *, token_layer: Any, spans: bool = False) -> TextFeatures:
        features = encode(self, texts, token_layer=token_layer, spans=spans)
        features.vectors[:] = np.eye(1, features.vectors.shape[1], dtype=np.float32)
        if token_layer == 0 and features.tokens is not None and features.offsets is not None:
            starts = np.repeat(features.offsets[:-1], np.diff(features.offsets))
            places = np.arange(len(features.tokens)) - starts
            features.tokens[:] = np.eye(features.tokens.shape[1], dtype=np.float32)[places]
        return features

    monkeypatch.setattr(HashingEmbedder, "encode", hears_little)


@pytest.mark.usefixtures("deaf_layer")
def test_a_better_token_layer_is_applied_by_embedding_again(tmp_path: Path):
    with running(tmp_path) as live:
        pool = live.create(token_layer=0)
        # No two rows share a word, only parts of words, which layer 1 alone hears.
        rows = plain(100)
        pool.add(
            {**row, "inputs": " ".join(f"{word}{i}" for word in row["inputs"].split())}
            for i, row in enumerate(rows)
        )
        result = tuned(live, pool, apply=True)
        assert [(step["compares"], step["accepted"]) for step in result["steps"]] == [
            ("weights", False),
            ("token_layer", True),
        ]
        assert (result["before"]["token_layer"], result["after"]["token_layer"]) == (0, 1)
        assert result["settings"]["token_layer"] == 1
        job = live.finished(result["job_id"])
        assert (job["kind"], job["state"]) == ("reembed", "succeeded")
        settings = pool.info()["settings"]
        assert settings["token_layer"] == 1
        assert (
            settings["select"]["params"].get("fused", result["before"]["weights"])
            == result["after"]["weights"]
        )
        assert tuned(live, pool)["after"] is None


@pytest.mark.usefixtures("deaf_layer")
def test_a_layer_that_tells_nothing_is_not_worth_embedding_again(live: Live, pool: LivePool):
    pool.add(plain(100))
    result = tuned(live, pool, layers=[0])
    assert result["after"] is None or result["after"]["token_layer"] == 1
    assert not result["steps"][1]["accepted"]


def test_a_cancelled_job_changes_nothing(live: Live, pool: LivePool, encoding: Encoding):
    pool.add(told_by_one_word(120))
    before = pool.info()
    encoding.gate.clear()
    job_id = started(pool, apply=True)
    wait_until(lambda: encoding.waiting, "the first texts")
    assert live.job(job_id)["state"] == "running"
    assert live.http.delete(f"/v1/jobs/{job_id}").json()["state"] == "cancelled"
    encoding.gate.set()
    # The next job begins when this one has noticed.
    assert tuned(live, pool)["after"] is not None
    assert live.job(job_id)["state"] == "cancelled"
    assert live.job(job_id)["result"] is None
    assert pool.info() == before


def test_a_cancelled_job_leaves_unfinished_features_of_another_alone(
    live: Live, pool: LivePool, encoding: Encoding
):
    pool.add(told_by_one_word(60))
    encoding.gate.clear()
    job_id = started(pool)
    wait_until(lambda: encoding.waiting, "the first texts")
    # Not refused: a job that measures does not stand in the way of one that embeds.
    reembed = pool.patch(token_layer=0)["job_id"]
    runtime = live.services.registry.get(pool.name)
    begun = runtime.folder.with_name("begun")
    begun.mkdir()
    live.http.delete(f"/v1/jobs/{job_id}")
    problem = the_problem(pool.request("PATCH", "", {"settings": {"token_layer": 1}}), 409)
    assert reembed in problem["detail"]
    encoding.gate.set()
    assert live.finished(reembed)["state"] == "succeeded"
    assert not begun.exists()


def test_settings_that_changed_meanwhile_are_not_overwritten(live: Live, pool: LivePool, encoding: Encoding):
    pool.add(told_by_one_word(120))
    encoding.gate.clear()
    job_id = started(pool, apply=True)
    wait_until(lambda: encoding.waiting, "the first texts")
    mine = {"similarity": 0.3, "bsr": 0.7, "bm25": 0.1}
    pool.patch(select={"params": {"fused": mine}})
    encoding.gate.set()
    job = live.finished(job_id)
    assert (job["state"], job["error"]["code"]) == ("failed", "conflict")
    assert "tune it again" in job["error"]["detail"]
    assert pool.info()["settings"]["select"]["params"]["fused"] == mine


def test_other_settings_of_meanwhile_survive(live: Live, pool: LivePool, encoding: Encoding):
    pool.add(told_by_one_word(120))
    encoding.gate.clear()
    job_id = started(pool, apply=True)
    wait_until(lambda: encoding.waiting, "the first texts")
    pool.patch(select={"k": 2}, retention_days=5)
    encoding.gate.set()
    assert live.finished(job_id)["result"]["applied"]
    settings = pool.info()["settings"]
    assert (settings["select"]["k"], settings["retention_days"]) == (2, 5)
    assert settings["select"]["params"]["fused"]["bm25"] == 1


def test_an_interrupted_job_is_done_by_the_next_process(tmp_path: Path, encoding: Encoding):
    with running(tmp_path) as live:
        pool = live.create()
        pool.add(told_by_one_word(120))
        encoding.gate.clear()
        job_id = started(pool, apply=True)
        wait_until(lambda: encoding.waiting, "the first texts")
        # Shutting down waits for the batch at hand.
        threading.Timer(0.2, encoding.gate.set).start()

    with running(tmp_path) as live:
        job = live.finished(job_id)
        assert (job["state"], job["result"]["applied"]) == ("succeeded", True)
        assert live.pool().info()["settings"]["select"]["params"]["fused"]["bm25"] == 1


def test_a_deleted_pool_ends_its_job(tmp_path: Path, encoding: Encoding):
    with running(tmp_path) as live:
        pool = live.create()
        pool.add(plain(60))
        encoding.gate.clear()
        job_id = started(pool)
        wait_until(lambda: encoding.waiting, "the first texts")
        assert pool.request("DELETE").status_code == 204
        assert live.job(job_id)["state"] == "cancelled"
        encoding.gate.set()
        other = live.create("other")
        other.add(plain(60))
        assert tuned(live, other)["rows"] == 60
        assert len(list((tmp_path / "pools").iterdir())) == 1


def test_progress_counts_rows(live: Live, pool: LivePool, encoding: Encoding, monkeypatch):
    monkeypatch.setattr(agreement, "ROWS_AT_ONCE", 16)
    pool.add(plain(80))
    encoding.gate.clear()
    job_id = started(pool)
    wait_until(lambda: encoding.waiting, "the first texts")
    encoding.gate.set()
    job = live.finished(job_id)
    assert (job["done"], job["total"], job["phase"]) == (80, 80, "scoring")


def test_vectors_of_another_embedder_are_not_measured(tmp_path: Path):
    with running(tmp_path) as live:
        pool = live.create(embedder=HASHING)
        pool.add(plain(60))
        record = live.services.store.get_pool("tickets")
        live.services.store.set_pool_embedder(record.id, "hashing-0/128", 128)
    with running(tmp_path) as live:
        problem = the_problem(live.pool().request("POST", "/tune", {}), 409)
        assert problem["code"] == "embedder_mismatch"
