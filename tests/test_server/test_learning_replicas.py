"""Two servers over one PostgreSQL database learn the same, whichever of them is told."""

import asyncio
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple
from uuid import uuid4

import httpx
import numpy as np
import pytest
from sqlalchemy import URL, create_engine, make_url, text

from tests.test_server.clean_pass import check_state, reading
from tests.test_server.live import wait_until
from tests.test_server.live_policies import CONTEXT, VARIANTS
from tests.test_server.server_process import serving

pytestmark = [pytest.mark.slow, pytest.mark.component]

AT_ONCE = 100
WORKERS, DECIDES = 8, 200


class Replicas(NamedTuple):
    """Two servers and what they share."""

    urls: tuple[str, str]
    database: str
    folder: Path


@contextmanager
def fresh_database(server: Any) -> Iterator[URL]:
    """Make a database for this module, as others have policies of the same names, and drop it in the end."""
    name = f"kshot_{uuid4().hex}"
    address = make_url(server.get_uri())
    engine = create_engine(address.set(drivername="postgresql+psycopg"), isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(text(f"CREATE DATABASE {name}"))
    yield address.set(drivername="postgresql", database=name)
    with engine.connect() as connection:
        connection.execute(text(f"DROP DATABASE {name} WITH (FORCE)"))
    engine.dispose()


@pytest.fixture(scope="module")
def replicas(postgres_server: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Replicas]:
    """Two servers for this module's tests, each with a policy of its own."""
    folder = tmp_path_factory.mktemp("replicas")
    with ExitStack() as stack:
        database = stack.enter_context(fresh_database(postgres_server))
        url = database.render_as_string(hide_password=False)
        one, other = (
            stack.enter_context(serving(folder / name, KSHOT_DATABASE_URL=url)).url
            for name in ("one", "other")
        )
        yield Replicas((one, other), url, folder)


def create(url: str, name: str, **settings: Any) -> None:
    body = {"name": name, "context": CONTEXT, "variants": VARIANTS, **settings}
    httpx.post(f"{url}/v1/policies", json=body, timeout=60).raise_for_status()


def info(url: str, name: str) -> Any:
    return httpx.get(f"{url}/v1/policies/{name}", timeout=60).raise_for_status().json()


def decided(replicas: Replicas, name: str, count: int) -> list[str]:
    """Decide through both, and return the ids."""

    def some(start: int) -> list[str]:
        with httpx.Client(base_url=replicas.urls[start % 2], timeout=60) as http:
            return [
                http.post(
                    f"/v1/policies/{name}/decide", json={"inputs": f"question {number}", "render": False}
                )
                .raise_for_status()
                .json()["decision_id"]
                for number in range(start, count, WORKERS)
            ]

    with ThreadPoolExecutor(WORKERS) as pool:
        return [one for part in pool.map(some, range(WORKERS)) for one in part]


def rumours(ids: list[str], count: int, rng: np.random.Generator) -> list[dict[str, Any]]:
    """Rewards, corrections and retractions in any order, a fifth of them twice."""
    kinds = rng.choice(["reward", "correct", "retract"], size=count, p=[0.8, 0.15, 0.05])
    items: list[dict[str, Any]] = []
    for number, kind in enumerate(kinds):
        value = {} if kind == "retract" else {"value": float(rng.uniform())}
        target = ids[int(rng.integers(len(ids)))]
        items.append({"decision_id": target, "kind": str(kind), "idempotency_key": f"k{number}", **value})
    items += [items[int(i)] for i in rng.integers(count, size=count // 5)]
    return [items[int(i)] for i in rng.permutation(len(items))]


def told(replicas: Replicas, items: list[dict[str, Any]]) -> dict[str, int]:
    """Tell both at once, and count what became of the items."""

    def some(start: int) -> dict[str, int]:
        body = {"items": items[start : start + AT_ONCE]}
        url = replicas.urls[start // AT_ONCE % 2]
        reply = httpx.post(f"{url}/v1/feedback:batch", json=body, timeout=60).raise_for_status().json()
        assert {one["code"] for one in reply["refused"]} <= {"decision_conflict"}
        return {
            "accepted": reply["accepted"],
            "duplicates": reply["duplicates"],
            "refused": len(reply["refused"]),
        }

    with ThreadPoolExecutor(WORKERS) as pool:
        parts = list(pool.map(some, range(0, len(items), AT_ONCE)))
    return {name: sum(part[name] for part in parts) for name in ("accepted", "duplicates", "refused")}


@pytest.mark.parametrize(
    ("name", "settings", "count"),
    [("holding", {"control": "brief"}, 10_000), ("forgetting", {"half_life_s": 3_600.0}, 2_000)],
)
def test_what_is_told_twice_and_out_of_order_to_both_comes_to_one_state(
    replicas: Replicas, name: str, settings: dict[str, Any], count: int
):
    create(replicas.urls[0], name, **settings)
    ids = decided(replicas, name, count // 5)
    assert len({*ids}) == count // 5
    counts = told(replicas, rumours(ids, count, np.random.default_rng(3)))
    assert sum(counts.values()) == count + count // 5
    # What could not be corrected yet was refused, perhaps both times it was told.
    assert counts["accepted"] > count * 0.8
    assert counts["duplicates"] > count // 10
    one, other = (info(url, name) for url in replicas.urls)
    assert one == other
    with reading(replicas.database, replicas.folder) as (store, states):
        check_state(store, states, one)
        events = store.feedback_of("decision", ids)
    keys = [(one.target_id, one.idempotency_key) for some in events.values() for one in some]
    assert len(keys) == len({*keys}) == counts["accepted"]


def test_a_replica_serves_what_the_other_was_told_without_being_asked_to_look(replicas: Replicas):
    here, there = replicas.urls
    create(here, "followed", floor=0.0, hold_out=0.0, nursery=0.0)
    # It is known over there before anything is asked that would look at the log.
    ask = {"inputs": "question", "render": False}
    with httpx.Client(timeout=60) as http:

        def share(url: str) -> float:
            reply = http.post(f"{url}/v1/policies/followed/decide", json=ask).raise_for_status().json()
            found: float = next(one["probability"] for one in reply["ranking"] if one["variant"] == "warm")
            return found

        before = share(there)
        for _ in range(40):
            reply = http.post(f"{here}/v1/policies/followed/decide", json=ask).raise_for_status().json()
            body = {"decision_id": reply["decision_id"], "value": float(reply["variant"] == "warm")}
            http.post(f"{here}/v1/feedback", json=body).raise_for_status()
        wait_until(lambda: share(here) > 0.8, "what was learnt here")
        wait_until(lambda: share(there) == share(here), "what was learnt there")
        assert before == pytest.approx(1 / 3)


def test_sixteen_hundred_decisions_of_one_session_at_once_are_of_one_variant(replicas: Replicas):
    create(replicas.urls[0], "sticky")

    async def worker(number: int) -> list[Any]:
        url = replicas.urls[number % 2]
        async with httpx.AsyncClient(base_url=url, timeout=120) as http:
            requests = [
                http.post(
                    "/v1/policies/sticky/decide",
                    json={"inputs": f"question {number} {i}", "session_key": "s", "render": False},
                )
                for i in range(DECIDES)
            ]
            return [one.raise_for_status().json() for one in await asyncio.gather(*requests)]

    async def everybody() -> list[Any]:
        parts = await asyncio.gather(*(worker(number) for number in range(WORKERS)))
        return [reply for part in parts for reply in part]

    replies = asyncio.run(everybody())
    assert len(replies) == WORKERS * DECIDES
    assert len({reply["variant"] for reply in replies}) == 1
    assert [reply["sticky"] for reply in replies].count(False) == 1
    with reading(replicas.database, replicas.folder) as (store, _):
        assert store.count_decisions(store.get_policy("sticky").id) == WORKERS * DECIDES
