import os
import subprocess
import sys

import pytest

from kshot.index.store import Store


@pytest.mark.slow
def test_every_acknowledged_batch_survives_a_kill_whole(store_url):
    with Store(store_url) as store:
        pool = store.create_pool("tickets", {})
    acknowledged: list[int] = []
    for acknowledgements in (1, 7, 20, 33):
        # Past a batch that may be stored unacknowledged, and even, so that it updates none before it.
        first = (acknowledged[-1] // 2 + 2) * 2 if acknowledged else 0
        command = [sys.executable, "-m", "tests.test_index.test_store.writer_process", store_url, str(first)]
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(["src", "."])}
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as writer:
            assert writer.stdout is not None
            acknowledged += [int(writer.stdout.readline()) for _ in range(acknowledgements)]
            writer.kill()
            # Acknowledged before the signal came, and so to be counted as well.
            acknowledged += [int(line) for line in writer.stdout]

    with Store(store_url) as store:
        live = {example.id: example.inputs for example in store.iterate_live(pool.id)}
        numbers = {int(example_id.split("-")[0]) for example_id in live}
        assert set(acknowledged) <= numbers
        # At most one batch per kill was stored without its acknowledgement getting through.
        assert len(numbers - set(acknowledged)) <= 4
        assert live.keys() == {f"{number}-{i}" for number in numbers for i in range(3)} | {
            f"{number - 1}-0" for number in numbers if number % 2
        }
        for number in numbers:
            if number % 2:
                assert live[f"{number - 1}-0"] == f"updated by {number}"
        assert store.get_pool("tickets").version == len(numbers)
