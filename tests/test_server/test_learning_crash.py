"""``kill -9`` while decisions are made and outcomes told: nothing acknowledged is lost, nothing counts twice.

After every kill the next server's states are compared with one clean pass over the log in another process,
and the log with what clients were told.
"""

import os
import random
import time
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import make_url

from kshot.server.settings import Settings
from tests.test_server.clean_pass import reading
from tests.test_server.learning_clients import Application, at_work, check, set_up
from tests.test_server.server_process import serving

pytestmark = [pytest.mark.slow, pytest.mark.component]

IS_FULL = bool(os.environ.get("KSHOT_TEST_FULL"))
FOLDERS, KILLS_PER_FOLDER = (10, 20) if IS_FULL else (2, 10)
REPLICA_KILLS = 20 if IS_FULL else 4
CLIENTS = 6
LATEST_S = 2.0


def clients(rng: random.Random) -> list[Application]:
    return [Application(f"app{i}", random.Random(rng.random())) for i in range(CLIENTS)]


@pytest.mark.parametrize("folder", range(FOLDERS))
def test_every_decision_and_outcome_survives_and_counts_once(folder: int, tmp_path: Path):
    rng = random.Random(folder)
    applications = clients(rng)
    outcomes = 0
    for kill in range(KILLS_PER_FOLDER + 1):
        with serving(tmp_path) as server:
            if not kill:
                with httpx.Client(base_url=server.url) as http:
                    set_up(http)
            with reading(Settings(data_dir=tmp_path).store_url, tmp_path) as (store, states):
                outcomes = check(server.url, store, states, applications)
            if kill < KILLS_PER_FOLDER:
                with at_work(applications, [server.url]):
                    time.sleep(rng.uniform(0.0, LATEST_S))
                    server.kill()
    assert outcomes > KILLS_PER_FOLDER
    assert any(one.erased for one in applications)


def test_a_replica_that_is_killed_leaves_everything_to_the_other(postgres_server: Any, tmp_path: Path):
    rng = random.Random(1)
    applications = clients(rng)
    database = make_url(postgres_server.get_uri()).set(drivername="postgresql")
    url = database.render_as_string(hide_password=False)
    outcomes = 0
    with (
        serving(tmp_path / "steady", KSHOT_DATABASE_URL=url) as steady,
        reading(url, tmp_path) as (store, states),
    ):
        with httpx.Client(base_url=steady.url) as http:
            set_up(http)
        for _ in range(REPLICA_KILLS):
            with serving(tmp_path / "mortal", KSHOT_DATABASE_URL=url) as mortal:
                with at_work(applications, [steady.url, mortal.url]):
                    time.sleep(rng.uniform(0.0, LATEST_S))
                    mortal.kill()
                    # What was under way there is sent again here.
                    time.sleep(1.0)
                outcomes = check(steady.url, store, states, applications)
        # Who comes last has never seen any of it.
        with serving(tmp_path / "late", KSHOT_DATABASE_URL=url) as late:
            assert check(late.url, store, states, applications) == outcomes > REPLICA_KILLS
