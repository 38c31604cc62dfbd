"""Fixtures that several files of this area share."""

import socket
import threading
import uuid
from collections.abc import Iterator
from typing import Any

import pytest
import uvicorn

import kshot
from kshot.clients.embedders.minilm import open_minilm
from kshot.server.bootstrap import build_app
from kshot.server.settings import Settings
from tests.test_clients.adapters import Awaited
from tests.test_clients.sdk_tickets import TICKETS


@pytest.fixture(scope="session")
def model_cache(tmp_path_factory):
    return tmp_path_factory.mktemp("models")


@pytest.fixture(scope="session")
def minilm(model_cache):
    """The real default embedder, exported afresh once per run; for tests marked `component`."""
    embedder = open_minilm(cache=model_cache)
    assert embedder.runtime == "onnx"
    yield embedder
    embedder.close()


@pytest.fixture(scope="module")
def url(tmp_path_factory) -> Iterator[str]:
    """A real server in a thread, on a free port."""
    app = build_app(Settings(data_dir=tmp_path_factory.mktemp("served")))
    listener = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app, log_config=None, lifespan="on"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    server.should_exit = True
    thread.join(30)
    listener.close()
    assert not thread.is_alive()


@pytest.fixture(scope="module", params=["http", "async", "local"])
def client(request, tmp_path_factory) -> Iterator[Any]:
    made: Any
    if request.param == "local":
        made = kshot.LocalClient(tmp_path_factory.mktemp("local"))
    elif request.param == "async":
        made = Awaited(kshot.AsyncClient(request.getfixturevalue("url")))
    else:
        made = kshot.Client(request.getfixturevalue("url"))
    yield made
    made.close()


@pytest.fixture
def empty_pool(client) -> Iterator[str]:
    name = f"p{uuid.uuid4().hex[:8]}"
    client.create_pool(name, embedder="hashing")
    yield name
    client.delete_pool(name)


@pytest.fixture
def pool(client, empty_pool: str) -> str:
    """Give a pool of tickets."""
    client.upsert(empty_pool, TICKETS)
    return empty_pool
