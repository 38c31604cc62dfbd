from datetime import timedelta

import pytest

from kshot.errors import SelectionNotFound
from tests.test_index.test_store.cases import NOON, a_selection


@pytest.mark.parametrize(
    "changes",
    [{}, {"query": "a text"}, {"query": None}, {"abstained": True, "demonstrations": []}],
)
def test_a_selection_comes_back_as_it_was_given(store, pool, changes):
    selection = a_selection(pool_id=pool.id, **changes)
    assert store.add_selections([selection]) == 1
    assert store.get_selection("sel-1") == selection


def test_a_missing_selection_is_said_to_be_missing(store):
    with pytest.raises(SelectionNotFound, match="'sel-1'"):
        store.get_selection("sel-1")


def test_a_batch_may_be_written_again(store, pool):
    batch = [a_selection(id=f"sel-{i}", pool_id=pool.id) for i in range(3)]
    assert store.add_selections(batch[:2]) == 2
    assert store.add_selections([a_selection(id="sel-0", pool_id=pool.id, method="mmr"), *batch[1:]]) == 1
    assert [store.get_selection(s.id) for s in batch] == batch
    assert store.add_selections([]) == 0


def test_selections_of_a_deleted_pool_do_not_spoil_the_batch(store, pool):
    batch = [a_selection(id="gone", pool_id=pool.id + 7), a_selection(id="kept", pool_id=pool.id)]
    assert store.add_selections(batch) == 1
    assert store.get_selection("kept").pool_id == pool.id
    assert store.add_selections(batch[:1]) == 0


def test_selections_older_than_their_retention_are_purged(store, pool):
    other = store.create_pool("other", {})
    for hours in range(3):
        for each in (pool, other):
            made = NOON + timedelta(hours=hours)
            name = f"{each.name}-{hours}"
            store.add_selections([a_selection(id=name, pool_id=each.id, created_at=made)])

    assert store.purge_selections(NOON + timedelta(hours=1), pool_id=other.id) == 1
    assert store.purge_selections(NOON + timedelta(hours=2)) == 3
    with pytest.raises(SelectionNotFound):
        store.get_selection("tickets-1")
    assert store.get_selection("tickets-2").created_at == NOON + timedelta(hours=2)
