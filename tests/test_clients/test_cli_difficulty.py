"""``kshot pool difficulty`` and ``--method mdl``, against a server whose scorer is a completion server."""

import socket
import threading
from collections.abc import Iterator

import pytest
import uvicorn

import kshot
from kshot.server.bootstrap import build_app
from kshot.server.settings import Settings
from kshot.testing import ToyCompletionServer
from tests.test_clients.command_line import Run, forget_environment

ROWS = [(f"is {word} the", ("yes", "no")[i % 2]) for i, word in enumerate(["New", "York", "Paris", "seat"])]


@pytest.fixture(autouse=True)
def _alone(monkeypatch, tmp_path):
    forget_environment(monkeypatch, tmp_path)


@pytest.fixture
def url(tmp_path) -> Iterator[str]:
    """A real server in a thread, on a free port, with a filled pool."""
    with ToyCompletionServer().running() as toy:
        app = build_app(Settings(data_dir=tmp_path / "served", scorer_url=f"{toy}/v1"))
        listener = socket.create_server(("127.0.0.1", 0))
        server = uvicorn.Server(uvicorn.Config(app, log_config=None, lifespan="on"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        address = f"http://127.0.0.1:{listener.getsockname()[1]}"
        with kshot.Client(address) as client:
            client.create_pool("toys", embedder="hashing")
            client.upsert("toys", ROWS)
        yield address
        server.should_exit = True
        thread.join(30)
        listener.close()
        assert not thread.is_alive()


def test_the_spread_is_shown_and_nothing_changes_without_apply(url):
    run = Run("pool", "difficulty", "toys", "--url", url)
    assert run.code == 0, run.err
    assert "by toy: 4 asked about, 0 known before" in run.out
    assert "answer_nll" in run.out
    assert "--apply makes it answer_nll" in run.err
    run = Run("pool", "difficulty", "toys", "--perplexity", "--apply", "--json", "--url", url)
    assert (run.json["scored"], run.json["kept"], run.json["applied"]) == (0, 4, True)
    assert 1 < run.json["difficulty"]["least"] <= run.json["difficulty"]["median"]
    with kshot.Client(url) as client:
        assert client.get_pool("toys").settings.difficulty_field == "answer_perplexity"
        assert len(client.select("toys", "is Paris", k=2, method="cds")) == 2


def test_the_method_that_asks_the_scorer_is_chosen_by_name_like_any_other(url):
    run = Run("select", "toys", "is Paris", "-k", "2", "--method", "mdl", "--explain", "--json", "--url", url)
    assert run.code == 0, run.err
    assert (run.json["method"], run.json["degraded"]) == ("mdl", False)
    assert (
        len(run.json["explain"]["diagnostics"]["entropies"])
        == run.json["explain"]["diagnostics"]["organisations"]
    )
    method = '{"type": "mdl", "objective": "local_e", "organisations": 3}'
    run = Run("select", "toys", "is Paris", "-k", "2", "--method", method, "--url", url)
    assert run.code == 0, run.err
    run = Run("select", "toys", "is Paris", "-k", "2", "--order", "mdl", "--json", "--url", url)
    assert (run.json["method"], run.json["degraded"]) == ("fused", False)


def test_without_a_scorer_both_say_how_to_get_one(tmp_path):
    folder = tmp_path / "data"
    with kshot.LocalClient(folder) as client:
        client.create_pool("toys", embedder="hashing")
        client.upsert("toys", ROWS)
    for command in (["pool", "difficulty", "toys"], ["select", "toys", "is Paris", "--method", "mdl"]):
        run = Run(*command, "--data", folder)
        assert run.code == 1
        assert "--scorer-url" in run.err
