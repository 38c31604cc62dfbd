"""A store on every database that kshot supports: each test here runs on all of them."""

import uuid
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import create_engine, make_url, text

from kshot.index.store import Store


class ManualClock:
    """A clock that stands still until it is told to go on."""

    def __init__(self):
        self.now = datetime(2031, 5, 6, 7, 8, 9, 123456, tzinfo=UTC)

    def __call__(self):
        return self.now

    def advance(self, **duration):
        self.now += timedelta(**duration)


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.component)])
def store_url(request, tmp_path):
    """Give the URL of an empty database."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path}/store.sqlite"
        return
    server = request.getfixturevalue("postgres_server")
    name = f"kshot_{uuid.uuid4().hex}"
    url = make_url(server.get_uri()).set(drivername="postgresql+psycopg")
    engine = create_engine(url, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(text(f"CREATE DATABASE {name}"))
    yield url.set(drivername="postgresql", database=name).render_as_string(hide_password=False)
    with engine.connect() as connection:
        connection.execute(text(f"DROP DATABASE {name} WITH (FORCE)"))
    engine.dispose()


@pytest.fixture
def clock():
    return ManualClock()


@pytest.fixture
def store(store_url, clock):
    with Store(store_url, clock=clock) as opened:
        yield opened


@pytest.fixture
def pool(store):
    return store.create_pool("tickets", {"template": "{inputs}"})
