"""Tuning over the real service: jobs that are cancelled, overtaken or interrupted."""

import threading
from pathlib import Path
from typing import Any

import pytest

from kshot.clients.embedders.base import TextFeatures
from kshot.clients.embedders.hashing import HashingEmbedder
from kshot.server.services import agreement
from tests.test_server.live import Live, LivePool, running, the_problem, wait_until
from tests.test_server.live_tuning import plain, started, told_by_one_word, tuned


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
