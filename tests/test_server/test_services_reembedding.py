"""Settings that make every vector stale: embedded anew beside the live features, then switched at once."""

import threading
from pathlib import Path

import pytest

from kshot.index.store import Store
from kshot.records import NewExample
from kshot.server.services import indexing
from tests.test_server.live import (
    HASHING,
    GatedEndpoint,
    Live,
    LivePool,
    codes,
    ids,
    pointers,
    running,
    the_problem,
    tickets,
    wait_until,
)


@pytest.mark.parametrize("change", [{"token_layer": 0}, {"embed_template": "{{ inputs|upper }} again"}])
def test_a_change_of_features_runs_as_a_job(change: dict[str, object], live: Live, pool: LivePool):
    pool.add(tickets(30))
    before = pool.info()

    patched = pool.patch(**change, retention_days=9)

    assert patched["settings"] == before["settings"]
    job = live.finished(patched["job_id"])
    assert (job["state"], job["kind"], job["pool"]) == ("succeeded", "reembed", pool.name)
    assert (job["done"], job["total"], job["error"]) == (30, 30, None)
    assert job["result"]["examples"] == 30
    assert pool.info()["settings"] == before["settings"] | change | {"retention_days": 9}
    assert pool.info()["indexed_version"] == pool.info()["version"] == before["version"]
    assert len(pool.select(k=5)["demonstrations"]) == 5


def test_a_new_embed_template_changes_what_is_near(live: Live, pool: LivePool):
    rows = [
        {"id": "a", "inputs": {"title": "apple", "body": "zebra"}, "outputs": "x"},
        {"id": "b", "inputs": {"title": "zebra", "body": "apple"}, "outputs": "x"},
    ]
    pool.add(rows)
    for field, nearest in (("title", "a"), ("body", "b")):
        job = live.finished(pool.patch(embed_template=f"{{{{ inputs.{field} }}}}")["job_id"])
        assert job["state"] == "succeeded"
        query = {"title": "apple", "body": "apple"}
        assert ids(pool.select(query, k=1, method="similarity")) == [nearest]


def test_requests_are_answered_from_the_old_features_until_the_switch(
    live: Live, pool: LivePool, endpoint: GatedEndpoint
):
    pool.add(tickets(20))
    old = pool.select(k=5)
    endpoint.gate.clear()

    job_id = pool.patch(embedder=endpoint.spec)["job_id"]

    wait_until(lambda: endpoint.waiting, "the first texts")
    assert live.job(job_id)["state"] == "running"
    during = pool.select(k=5)
    assert [(one["id"], one["score"]) for one in during["demonstrations"]] == [
        (one["id"], one["score"]) for one in old["demonstrations"]
    ]
    assert pool.info()["settings"]["embedder"] == HASHING
    pool.add(tickets(1, start=20))
    pool.delete(ids=["t00000"])
    assert pool.add([{**tickets(1, start=1)[0], "outputs": "another"}])["updated"] == 1

    endpoint.gate.set()
    assert live.finished(job_id)["state"] == "succeeded"
    info = pool.info()
    assert info["settings"]["embedder"]["type"] == "openai"
    assert (info["dimension"], info["examples"], info["indexed_version"]) == (8, 20, info["version"])
    after = pool.select(k=1000)
    assert sorted(ids(after)) == [f"t{i:05d}" for i in range(1, 21)]
    assert codes(after) == ["signal_absent", "fewer_than_k"]
    assert {one["id"]: one["outputs"] for one in after["demonstrations"]}["t00001"] == "another"


def test_the_features_of_before_are_removed(tmp_path: Path):
    with running(tmp_path) as live:
        pool = live.create()
        pool.add(tickets(5))
        live.finished(pool.patch(token_layer=0)["job_id"])
        (folder,) = (tmp_path / "pools").iterdir()
        wait_until(lambda: len(list(folder.iterdir())) == 1, "the removal")
        pool.add(tickets(3, start=5))
        assert len(list(folder.iterdir())) == 1


def test_an_empty_pool_changes_at_once(pool: LivePool):
    patched = pool.patch(embedder={"type": "external", "dimension": 2})
    assert patched["job_id"] is None
    assert patched["settings"]["embedder"] == {"type": "external", "dimension": 2}
    assert patched["dimension"] == 2
    assert pool.add([{"id": "a", "inputs": "a", "outputs": "b", "vector": [1, 2]}])["accepted"] == 1
    assert ids(pool.select(None, vector=[1, 0], method="similarity")) == ["a"]


def test_examples_without_vectors_cannot_become_external(pool: LivePool):
    pool.add(tickets(1))
    external = {"settings": {"embedder": {"type": "external", "dimension": 2}}}
    problem = the_problem(pool.request("PATCH", "", external))
    assert pointers(problem) == ["/settings/embedder"]


def test_an_external_pool_keeps_its_vectors_under_another_embed_template(live: Live):
    pool = live.create("external-words", embedder={"type": "external", "dimension": 2})
    pool.add([{**row, "vector": [1, i]} for i, row in enumerate(tickets(3))])
    assert live.finished(pool.patch(embed_template="{{ inputs }} nonsense")["job_id"])["state"] == "succeeded"
    assert ids(pool.select(None, vector=[1, 2], method="similarity", k=1)) == ["t00002"]
    assert len(pool.select("nonsense", method="bm25", k=3)["demonstrations"]) == 3


def test_an_external_pool_can_be_embedded_here(live: Live):
    pool = live.create("was-external", embedder={"type": "external", "dimension": 2})
    pool.add([{**row, "vector": [1, i]} for i, row in enumerate(tickets(6))])
    job = live.finished(pool.patch(embedder=HASHING)["job_id"])
    assert job["result"] == {"examples": 6, "refused": 0, "embedder_fingerprint": "hashing-1/128"}
    assert len(pool.select(k=3)["demonstrations"]) == 3


def test_a_cancelled_job_changes_nothing(live: Live, pool: LivePool, endpoint: GatedEndpoint):
    pool.add(tickets(6))
    before = pool.info()
    endpoint.gate.clear()
    job_id = pool.patch(embedder=endpoint.spec)["job_id"]
    wait_until(lambda: endpoint.waiting, "the first texts")

    assert live.http.delete(f"/v1/jobs/{job_id}").json()["state"] == "cancelled"

    endpoint.gate.set()
    # The next job begins when this one has noticed.
    assert live.finished(pool.patch(token_layer=0)["job_id"])["state"] == "succeeded"
    assert live.job(job_id)["state"] == "cancelled"
    assert pool.info()["settings"] == before["settings"] | {"token_layer": 0}
    assert live.http.delete(f"/v1/jobs/{job_id}").json()["state"] == "cancelled"


def test_a_second_change_of_features_waits_for_the_first(live: Live, pool: LivePool, endpoint: GatedEndpoint):
    pool.add(tickets(3))
    endpoint.gate.clear()
    job_id = pool.patch(embedder=endpoint.spec)["job_id"]
    problem = the_problem(pool.request("PATCH", "", {"settings": {"token_layer": 0}}), 409)
    assert problem["code"] == "conflict"
    assert job_id in problem["detail"]
    endpoint.gate.set()
    assert live.finished(job_id)["state"] == "succeeded"


def test_plain_settings_of_meanwhile_survive_the_switch(live: Live, pool: LivePool, endpoint: GatedEndpoint):
    pool.add(tickets(6))
    endpoint.gate.clear()
    job_id = pool.patch(embedder=endpoint.spec)["job_id"]
    wait_until(lambda: endpoint.waiting, "the first texts")
    pool.patch(select={"k": 2, "method": "similarity"}, label_field="metadata.lang")
    endpoint.gate.set()
    live.finished(job_id)
    assert pool.info()["settings"]["select"]["k"] == 2
    assert len(pool.select()["demonstrations"]) == 2
    wait_until(lambda: pool.stats()["by_label"] == {"en": 2, "de": 2, "fr": 2}, "the new labels")


def test_an_embedder_that_fails_fails_the_job_alone(live: Live, pool: LivePool, endpoint: GatedEndpoint):
    pool.add(tickets(3))
    endpoint.then(401, {"error": {"code": "invalid_api_key"}})
    job = live.finished(pool.patch(embedder=endpoint.spec)["job_id"])
    assert (job["state"], job["error"]["code"]) == ("failed", "embedder_unavailable")
    assert pool.info()["settings"]["embedder"] == HASHING
    assert len(pool.select(k=3)["demonstrations"]) == 3


def test_rows_that_the_new_template_refuses_are_counted(live: Live, pool: LivePool):
    pool.add(
        [{"id": "a", "inputs": {"x": "1"}, "outputs": "o"}, {"id": "b", "inputs": {"y": "1"}, "outputs": "o"}]
    )
    job = live.finished(pool.patch(embed_template="{{ inputs.x }}")["job_id"])
    assert (job["result"]["examples"], job["result"]["refused"]) == (1, 1)
    assert ids(pool.select({"x": "1"})) == ["a"]
    assert pool.stats()["pending"] == 1


def test_an_interrupted_job_goes_on_where_it_stopped(
    tmp_path: Path, endpoint: GatedEndpoint, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(indexing, "CHUNK_ROWS", 8)
    with running(tmp_path) as live:
        pool = live.create()
        pool.add(tickets(40))
        endpoint.gate.clear()
        endpoint.free_answers = 2
        job_id = pool.patch(embedder=endpoint.spec)["job_id"]
        wait_until(lambda: endpoint.waiting, "the third chunk")
        assert live.job(job_id)["done"] == 16
        # Shutting down waits for the chunk at hand.
        threading.Timer(0.2, endpoint.gate.set).start()
    assert len(endpoint.texts) == 24

    with running(tmp_path) as live:
        job = live.finished(job_id)
        assert (job["state"], job["done"], job["total"]) == ("succeeded", 40, 40)
        assert len(live.pool().select(k=40)["demonstrations"]) == 40
    documents = [text for text in endpoint.texts if "number" in text]
    assert sorted(documents) == sorted(row["inputs"] for row in tickets(40)), "no text was embedded twice"


def test_a_deleted_pool_ends_its_job(tmp_path: Path, endpoint: GatedEndpoint):
    with running(tmp_path) as live:
        pool = live.create()
        pool.add(tickets(3))
        endpoint.gate.clear()
        job_id = pool.patch(embedder=endpoint.spec)["job_id"]
        wait_until(lambda: endpoint.waiting, "the first texts")
        assert pool.request("DELETE").status_code == 204
        assert live.job(job_id)["state"] == "cancelled"
        assert live.job(job_id)["pool"] is None
        endpoint.gate.set()
        other = live.create("other")
        other.add(tickets(3))
        assert live.finished(other.patch(token_layer=0)["job_id"])["state"] == "succeeded"
        assert len(list((tmp_path / "pools").iterdir())) == 1


def test_jobs_are_listed_newest_first(live: Live, pool: LivePool):
    pool.add(tickets(2))
    job_ids = []
    for layer in (0, 1, 0):
        job_ids.append(pool.patch(token_layer=layer)["job_id"])
        live.finished(job_ids[-1])
    first = live.http.get("/v1/jobs", params={"pool": pool.name, "limit": 2}).json()
    rest = live.http.get("/v1/jobs", params={"pool": pool.name, "cursor": first["next_cursor"]}).json()
    assert [job["id"] for job in first["data"] + rest["data"]] == job_ids[::-1]
    assert the_problem(live.http.get("/v1/jobs/nothing"), 404)["code"] == "job_not_found"


def test_vectors_of_another_embedder_are_not_served(tmp_path: Path):
    with running(tmp_path) as live:
        pool = live.create()
        pool.add(tickets(4))
        pool_id = live.services.store.get_pool("tickets").id
    with Store(f"sqlite:///{tmp_path}/store.sqlite") as store:
        store.set_pool_embedder(pool_id, "hashing-0/128", 128)
        pending = NewExample(id="pending", inputs="text", outputs="x")
        store.upsert_examples(pool_id, [pending], keeps_features=lambda _old, _new: False)

    with running(tmp_path) as live:
        pool = live.pool()
        assert pool.delete(ids=["t00003"])["deleted"] == 1
        live.services.indexer.run(lambda: None)  # after what the deletion has queued
        assert pool.stats()["indexed_version"] == 0, "nothing is embedded by the wrong embedder"
        for path, body in (
            ("/select", {"inputs": "a"}),
            ("/search", {"inputs": "a"}),
            ("/render", {"inputs": "a"}),
            ("/examples", [{"inputs": "a"}]),
        ):
            problem = the_problem(pool.request("POST", path, body), 409)
            assert problem["code"] == "embedder_mismatch", path
            assert "hashing-0/128" in problem["detail"]
        assert live.http.get("/readyz").json()["checks"]["pool tickets"] == "embedder_mismatch"

        job_id = pool.patch(embedder=HASHING)["job_id"]
        assert live.finished(job_id)["state"] == "succeeded"
        assert len(pool.select(k=4)["demonstrations"]) == 4
        assert live.http.get("/readyz").status_code == 200
