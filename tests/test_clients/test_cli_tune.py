"""``kshot pool tune``, on a data folder opened in this process."""

import random
import shutil
from pathlib import Path

import pytest

import kshot
from kshot.clients.sdk.client import Client
from tests.test_clients.command_line import Run, forget_environment

COLOURS = ("red", "blue", "green", "white")


@pytest.fixture(autouse=True)
def _alone(monkeypatch, tmp_path):
    forget_environment(monkeypatch, tmp_path)


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder with a pool whose labels stand in one word of each text, and one that says nothing."""
    rng = random.Random(0)
    common = [f"{syllable}{i}" for syllable in ("lo", "mi", "sa") for i in range(8)]
    folder = tmp_path_factory.mktemp("filled") / "data"
    with kshot.LocalClient(folder) as client:
        client.create_pool("colours", embedder="hashing", select={"k": 3})
        texts = [
            " ".join([*rng.choices(common, k=10), COLOURS[i % 4], *rng.choices(common, k=10)])
            for i in range(120)
        ]
        client.upsert("colours", [(text, COLOURS[i % 4]) for i, text in enumerate(texts)])
        client.create_pool("lots", embedder="hashing")
        client.upsert("lots", [(" ".join(rng.sample(common, 6)), rng.choice("abc")) for _ in range(80)])
    return folder


@pytest.fixture
def data(filled, tmp_path) -> Path:
    """A copy of the filled folder that a test may change."""
    return Path(shutil.copytree(filled, tmp_path / "data"))


def test_a_proposal_is_shown_and_changes_nothing(data):
    run = Run("pool", "tune", "colours", "--data", data)
    assert run.code == 0
    assert "120 queries against 120 examples" in run.out
    present, chosen = (
        next(line for line in run.out.splitlines() if word in line) for word in ("present", "chosen")
    )
    assert run.out.index(chosen) < run.out.index(present)
    assert "weights: gain 0." in run.out
    assert "another token layer: gain" in run.out
    assert "not beyond noise" in run.out
    assert "proposed: token layer 1, " in run.out
    assert "--apply" in run.err
    with kshot.LocalClient(data) as client:
        assert client.get_pool("colours").settings.select.params == {}


def test_what_is_applied_is_kept(data):
    run = Run("pool", "tune", "colours", "--apply", "--queries", "60", "--layer", "1", "--data", data)
    assert run.code == 0
    assert "now: token layer 1, " in run.out
    assert "another token layer" not in run.out
    assert run.err == ""
    with kshot.LocalClient(data) as client:
        select = client.get_pool("colours").settings.select
    assert select.params["fused"]["bm25"] == 1
    assert select.k == 3


def test_programs_get_everything_that_was_compared(data):
    run = Run("pool", "tune", "colours", "-k", "4", "--seed", "3", "--layer", "0", "--json", "--data", data)
    assert (run.json["k"], run.json["queries"], run.json["applied"]) == (4, 120, False)
    assert {one["token_layer"] for one in run.json["compared"]} == {0, 1}
    assert set(run.json["settings"]) == {"select"}
    assert run.err == ""


def test_nothing_is_proposed_where_labels_mean_nothing(data):
    run = Run("pool", "tune", "lots", "--apply", "--data", data)
    assert run.code == 0
    assert "the present settings stay" in run.out
    assert "proposed" not in run.out
    with kshot.LocalClient(data) as client:
        assert client.get_pool("lots").settings.select.params == {}


def test_a_pool_that_cannot_be_tuned_is_an_error(data):
    with kshot.LocalClient(data) as client:
        client.create_pool("few", embedder="hashing")
        client.upsert("few", [("a", "x"), ("b", "y")])
    run = Run("pool", "tune", "few", "--data", data)
    assert run.code == 1
    assert "wanted 2" in run.err
    assert Run("pool", "tune", "absent", "--data", data).code == 1
    assert Run("pool", "tune", "colours", "--queries", "9", "--data", data).code == 2


def test_whoever_stops_waiting_stops_the_job(data, monkeypatch):
    cancelled = []

    def interrupted(self, job_id, **_):
        raise KeyboardInterrupt

    monkeypatch.setattr(Client, "wait_job", interrupted)
    monkeypatch.setattr(Client, "cancel_job", lambda self, job_id: cancelled.append(job_id))
    run = Run("pool", "tune", "colours", "--data", data)
    assert run.code == 130
    assert len(cancelled) == 1


def test_a_job_that_somebody_cancelled_is_a_failure(data, monkeypatch):
    wait = Client.wait_job

    def cancelled(self, job_id, **options):
        self.cancel_job(job_id)
        return wait(self, job_id, **options).model_copy(update={"result": None})

    monkeypatch.setattr(Client, "wait_job", cancelled)
    run = Run("pool", "tune", "colours", "--data", data)
    assert run.code == 1
    assert "was cancelled" in run.err
