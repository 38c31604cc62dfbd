"""The app over stub services, called in process."""

from collections.abc import AsyncIterator, Callable

import httpx
import pytest

from kshot.server.app import create_app
from kshot.server.settings import Settings
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
