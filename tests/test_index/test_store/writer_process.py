"""Write batches of three examples until killed, and print a line for each that was acknowledged."""

import itertools
import sys

from kshot.index.store import Store
from kshot.records import NewExample
from tests.test_index.test_store.cases import same_inputs


def run(url, first):
    store = Store(url)
    pool = store.get_pool("tickets")
    for number in itertools.count(first):
        rows = [NewExample(id=f"{number}-{i}", inputs=f"text {number} " * 50) for i in range(3)]
        # Every second batch also updates the one before it.
        if number % 2:
            rows.append(NewExample(id=f"{number - 1}-0", inputs=f"updated by {number}"))
        store.upsert_examples(pool.id, rows, keeps_features=same_inputs)
        sys.stdout.write(f"{number}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    run(sys.argv[1], int(sys.argv[2]))
