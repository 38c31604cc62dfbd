"""The app, called in process: over stub services, and over the real ones."""

import shutil
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from uuid import uuid4

import httpx
import pytest

from kshot.server.app import create_app
from kshot.server.settings import Settings
from tests.test_server.live import GatedEndpoint, Live, LivePool, running
from tests.test_server.stubs import StubServices

Connect = Callable[..., httpx.AsyncClient]


@pytest.fixture
def services() -> StubServices:
    return StubServices()


@pytest.fixture
def connect(services: StubServices) -> Connect:
    """Make a client of an app whose settings the test chooses."""

    def make(**settings: object) -> httpx.AsyncClient:
        app = create_app(services, Settings.model_validate(settings))
        transport = httpx.ASGITransport(app=app)
        return httpx.AsyncClient(transport=transport, base_url="http://localhost")

    return make


@pytest.fixture
async def client(connect: Connect) -> AsyncIterator[httpx.AsyncClient]:
    async with connect() as made:
        yield made


@pytest.fixture(scope="module")
def live() -> Iterator[Live]:
    """One running service for a module's tests, each with a pool of its own.

    Its folder lies in memory where that is possible, as the disk's pace is nothing that these tests look at.
    """
    memory = Path("/dev/shm")
    has_room = memory.is_dir() and shutil.disk_usage(memory).free > 2**30
    with (
        tempfile.TemporaryDirectory(dir=memory if has_room else None) as folder,
        running(Path(folder)) as made,
    ):
        yield made


@pytest.fixture
def pool(live: Live) -> LivePool:
    """An empty pool with hashed vectors."""
    return live.create(f"pool-{uuid4().hex}")


@pytest.fixture
def endpoint() -> Iterator[GatedEndpoint]:
    """An embeddings endpoint on this machine."""
    made = GatedEndpoint()
    yield made
    made.gate.set()
    made.close()
