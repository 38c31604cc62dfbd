"""``kill -9`` while decisions are made and outcomes told: nothing acknowledged is lost, nothing counts twice.

After every kill the next server's states are compared with one clean pass over the log in another process,
and the log with what clients were told.
"""

import os
import random
import threading
import time
from pathlib import Path

import httpx
import pytest

from kshot.server.settings import Settings
from tests.test_server.clean_pass import check_state, reading
from tests.test_server.learning_clients import ERASED, OVERDUE, POLICIES, Application, check_log, set_up
from tests.test_server.live import wait_until
from tests.test_server.server_process import ServerProcess, serving

pytestmark = [pytest.mark.slow, pytest.mark.component]

IS_FULL = bool(os.environ.get("KSHOT_TEST_FULL"))
FOLDERS, KILLS_PER_FOLDER = (10, 20) if IS_FULL else (2, 10)
CLIENTS = 6
LATEST_S = 2.0


def killed_at_work(server: ServerProcess, applications: list[Application], rng: random.Random) -> None:
    failures: list[BaseException] = []

    def guarded(application: Application) -> None:
        try:
            application.work(server.url)
        except BaseException as error:  # noqa: BLE001  (raised again in the test's own thread)
            failures.append(error)

    threads = [threading.Thread(target=guarded, args=(one,)) for one in applications]
    for thread in threads:
        thread.start()
    time.sleep(rng.uniform(0.0, LATEST_S))
    server.kill()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]


def check(server: ServerProcess, data_dir: Path, applications: list[Application]) -> int:
    """Compare what is served and stored with what was acknowledged, and return how many outcomes stay."""
    total = 0
    with (
        httpx.Client(base_url=server.url, timeout=60) as http,
        reading(Settings(data_dir=data_dir).store_url, data_dir) as (store, states),
    ):

        def info(name: str) -> dict[str, int]:
            found: dict[str, int] = http.get(f"/v1/policies/{name}").raise_for_status().json()
            return found

        check_log(store, applications)
        # Each is told or runs out of time, and counts either way.
        overdue = store.count_decisions(store.get_policy(OVERDUE).id)
        wait_until(lambda: info(OVERDUE)["outcomes"] == overdue, "the end of every window")
        for name in POLICIES:
            known = info(name)
            check_state(store, states, known)
            total += known["outcomes"] if name != ERASED else 0
    return total


@pytest.mark.parametrize("folder", range(FOLDERS))
def test_every_decision_and_outcome_survives_and_counts_once(folder: int, tmp_path: Path):
    rng = random.Random(folder)
    applications = [Application(f"app{i}", random.Random(rng.random())) for i in range(CLIENTS)]
    outcomes = 0
    for kill in range(KILLS_PER_FOLDER):
        with serving(tmp_path) as server:
            if not kill:
                with httpx.Client(base_url=server.url) as http:
                    set_up(http)
            outcomes = check(server, tmp_path, applications)
            killed_at_work(server, applications, rng)
    with serving(tmp_path) as server:
        assert check(server, tmp_path, applications) > outcomes > 0
    assert any(one.erased for one in applications)
