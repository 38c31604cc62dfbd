"""A start over what an earlier process left: whole, half-done, or damaged."""

import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from kshot.index.store import Store
from kshot.records import NewExample
from tests.test_server.live import (
    HASHING,
    GatedEndpoint,
    Live,
    ids,
    running,
    the_problem,
    tickets,
    wait_until,
)


def store_of(data_dir: Path) -> Store:
    return Store(f"sqlite:///{data_dir}/store.sqlite")


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with thirty tickets in three segments, and another pool."""
    data_dir = tmp_path_factory.mktemp("template")
    with running(data_dir) as live:
        pool = live.create()
        for start in (0, 10, 20):
            pool.add(tickets(10, start=start))
        live.create("other").add(tickets(2))
    return data_dir


@pytest.fixture
def left(template: Path, tmp_path: Path) -> Path:
    """A copy of it."""
    return shutil.copytree(template, tmp_path / "left")


def features(data_dir: Path) -> Path:
    (folder,) = data_dir.glob("pools/1/*/segments")
    return folder


def write_behind_its_back(data_dir: Path) -> None:
    """Commit rows and deletions as a process does that dies before it has indexed them."""
    with store_of(data_dir) as store:
        pool = store.get_pool("tickets")
        rows = [
            NewExample(id=row["id"], inputs=row["inputs"], outputs=row["outputs"])
            for row in tickets(5, start=30)
        ]
        store.upsert_examples(pool.id, rows, keeps_features=lambda _old, _new: False)
        store.delete_examples(pool.id, ids=["t00003"])


def test_what_was_indexed_is_served_at_once(left: Path):
    with running(left) as live:
        stats = live.pool().stats()
        assert (stats["indexed_version"], stats["pending"], stats["segments"]) == (3, 0, 3)
        assert len(ids(live.pool().select(k=30))) == 30


def test_what_was_committed_but_not_indexed_is_indexed(left: Path):
    write_behind_its_back(left)
    with running(left) as live:
        pool = live.pool()
        pool.indexed()
        assert pool.stats()["pending"] == 0
        assert sorted(ids(pool.select(k=100))) == sorted(one["id"] for one in pool.listed())
        assert len(pool.listed()) == 34


def test_while_the_rest_is_embedded_the_present_part_is_served(tmp_path: Path, endpoint: GatedEndpoint):
    with running(tmp_path) as live:
        live.create(embedder=endpoint.spec).add(tickets(10))
    write_behind_its_back(tmp_path)
    endpoint.gate.clear()
    with running(tmp_path) as live, ThreadPoolExecutor(1) as threads:
        pool = live.pool()
        wait_until(lambda: endpoint.waiting, "the embedder")
        indexed = {"filter": '{"field": "id", "exists": true}'}
        assert len(pool.request("GET", "/examples", params=indexed).json()["data"]) == 9
        # Deleted and changed while the first publication is a partial one.
        deletion = threads.submit(pool.delete, ids=["t00004"])
        wait_until(lambda: pool.request("GET", "/examples/t00004").status_code == 404, "the deletion")
        pool.add([{**tickets(6)[5], "outputs": "changed"}], wait="none")
        endpoint.gate.set()
        assert deletion.result()["deleted"] == 1
        pool.indexed()
        chosen = pool.select(k=100)["demonstrations"]
        assert len({one["id"] for one in chosen}) == len(chosen) == 13
        assert {one["id"]: one["outputs"] for one in chosen}["t00005"] == "changed"


@pytest.mark.parametrize(
    ("file", "damage"),
    [
        ("tokens.npy", "flipped"),
        ("vectors.npy", "missing"),
        ("manifest.json", "truncated"),
        pytest.param("vectors.npy", "flipped", marks=pytest.mark.slow),
        pytest.param("keys.npy", "flipped", marks=pytest.mark.slow),
        pytest.param("manifest.json", "flipped", marks=pytest.mark.slow),
        pytest.param("manifest.json", "missing", marks=pytest.mark.slow),
        pytest.param("offsets.npy", "truncated", marks=pytest.mark.slow),
    ],
)
def test_a_damaged_segment_is_made_again(file: str, damage: str, left: Path):
    path = sorted(features(left).iterdir())[1] / file
    content = bytearray(path.read_bytes())
    if damage == "missing":
        path.unlink()
    else:
        content[len(content) // 2] ^= 0xFF
        path.write_bytes(content if damage == "flipped" else content[:-7])
    with running(left) as live:
        pool = live.pool()
        pool.indexed()
        assert pool.stats()["pending"] == 0
        assert len(ids(pool.select(k=100))) == 30


def test_without_its_features_a_pool_is_embedded_anew(left: Path):
    shutil.rmtree(left / "pools")
    with running(left) as live:
        live.pool().indexed()
        assert len(ids(live.pool().select(k=100))) == 30


def test_leftovers_are_removed(left: Path):
    pool_folder = left / "pools" / "1"
    for orphan in (
        left / "pools" / "999" / "abc",
        pool_folder / "abandoned",
        features(left) / "tmp-half-written",
    ):
        orphan.mkdir(parents=True)
        (orphan / "vectors.npy").write_bytes(b"x")
    with running(left) as live:
        assert len(ids(live.pool().select(k=100))) == 30
    assert {path.name for path in (left / "pools").iterdir()} == {"1", "2"}
    assert len(list(pool_folder.iterdir())) == 1
    assert not list(features(left).glob("tmp-*"))


def test_a_pool_that_cannot_be_opened_leaves_the_others_alone(left: Path, monkeypatch: pytest.MonkeyPatch):
    broken = {
        "type": "openai",
        "model": "m",
        "base_url": "http://localhost:1/v1",
        "api_key_env": "KSHOT_EMBEDDER_KEY",
    }
    with store_of(left) as store:
        record = store.get_pool("tickets")
        settings = {**record.settings, "embedder": broken}
        store.change_features(record.id, settings=settings, fingerprint=None, dimension=None)
    monkeypatch.delenv("KSHOT_EMBEDDER_KEY", raising=False)

    with running(left) as live:
        pool = live.pool()
        problem = the_problem(pool.request("POST", "/select", {"inputs": "a"}), 503)
        assert "KSHOT_EMBEDDER_KEY" in problem["detail"]
        assert live.http.get("/readyz").json()["checks"]["pool tickets"] == "invalid_parameter"
        assert broken.items() <= pool.info()["settings"]["embedder"].items()
        assert len(ids(live.pool("other").select())) == 2

        job_id = pool.patch(embedder=HASHING)["job_id"]
        assert live.finished(job_id)["state"] == "succeeded"
        assert len(ids(pool.select(k=100))) == 30
        assert live.http.get("/readyz").status_code == 200


def test_settings_of_another_version_keep_their_pool_closed_alone(left: Path):
    with store_of(left) as store:
        store.update_pool_settings("tickets", {**store.get_pool("tickets").settings, "colour": "red"})
    with running(left) as live:
        assert len(ids(live.pool("other").select())) == 2
        assert live.http.get("/readyz").json()["checks"] == {"store": "ok", "pool tickets": "invalid_input"}
        problem = the_problem(live.pool().request("POST", "/select", {"inputs": "a"}), 503)
        assert "/settings/colour is unknown" in problem["detail"]


def test_a_pool_whose_tokenizer_vanished_opens_once_it_has_another(left: Path, tmp_path: Path):
    with store_of(left) as store:
        settings = store.get_pool("tickets").settings
        store.update_pool_settings("tickets", {**settings, "tokenizer": str(tmp_path / "gone.json")})
    with running(left) as live:
        pool = live.pool()
        assert "gone.json" in the_problem(pool.request("POST", "/select", {"inputs": "a"}), 503)["detail"]
        pool.patch(tokenizer=None)
        pool.indexed()
        assert len(ids(pool.select(k=100))) == 30


def test_idempotency_keys_outlive_the_process(left: Path):
    body = {"examples": tickets(2, start=50)}

    def post(live: Live):
        return live.pool().request("POST", "/examples", body, headers={"Idempotency-Key": "once"})

    with running(left) as live:
        first = post(live)
        assert first.json()["created"] == 2
    with running(left) as live:
        live.pool().delete(ids=["t00050"])
        again = post(live)
        assert again.headers["Idempotency-Replayed"] == "true"
        assert again.json() == first.json()
        assert len(live.pool().listed()) == 31
