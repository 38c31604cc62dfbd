import pytest

from kshot.errors import InvalidInput, PoolExists, PoolNotFound
from kshot.records import NewExample
from tests.test_index.test_store.cases import a_job, a_selection, write


def test_a_created_pool_is_returned_as_stored(store, clock):
    created = store.create_pool("größe", {"nested": {"a": [1, 2.5, None, True, "ü"]}})

    assert created == store.get_pool("größe") == store.get_pool_by_id(created.id)
    assert created.settings == {"nested": {"a": [1, 2.5, None, True, "ü"]}}
    assert (created.version, created.embedder_fingerprint, created.dimension) == (0, None, None)
    assert created.created_at == created.updated_at == clock.now


def test_a_second_pool_of_the_same_name_is_a_conflict(store, pool):
    with pytest.raises(PoolExists, match="tickets"):
        store.create_pool("tickets", {})
    assert store.get_pool("tickets") == pool


def test_pool_names_are_told_apart_by_case(store, pool):
    assert store.create_pool("Tickets", {}).id != pool.id


def test_a_name_that_no_database_can_hold_is_refused(store):
    with pytest.raises(InvalidInput, match="NUL"):
        store.create_pool("a\x00b", {})


def test_pools_are_listed_by_name(store):
    for name in ("b", "a", "c"):
        store.create_pool(name, {})
    assert [pool.name for pool in store.list_pools()] == ["a", "b", "c"]


@pytest.mark.parametrize(
    "call",
    [
        lambda store: store.get_pool("none"),
        lambda store: store.get_pool_by_id(99),
        lambda store: store.update_pool_settings("none", {}),
        lambda store: store.set_pool_embedder(99, "f", 3),
        lambda store: store.delete_pool("none"),
        lambda store: write(store, 99, NewExample(id="a", inputs="x")),
        lambda store: store.patch_example(99, "a", {}, keeps_features=lambda _old, _new: True),
        lambda store: store.revise_examples(99, [], lambda _: [], keeps_features=lambda _old, _new: True),
        lambda store: store.delete_examples(99, ids=["a"]),
        lambda store: list(store.iterate_live(99)),
        lambda store: list(store.iterate_headers(99)),
        lambda store: store.read_changes(99, 0),
        lambda store: store.add_job(a_job(pool_id=99)),
    ],
)
def test_a_missing_pool_is_said_to_be_missing(store, call):
    with pytest.raises(PoolNotFound):
        call(store)


def test_settings_are_replaced_and_the_version_stays(store, pool, clock):
    clock.advance(minutes=1)
    updated = store.update_pool_settings("tickets", {"k": 8})

    assert updated == store.get_pool("tickets")
    assert (updated.settings, updated.version) == ({"k": 8}, pool.version)
    assert (updated.created_at, updated.updated_at) == (pool.created_at, clock.now)


def test_the_embedder_is_recorded_and_taken_back(store, pool):
    recorded = store.set_pool_embedder(pool.id, "minilm@1", 384)
    assert (recorded.embedder_fingerprint, recorded.dimension) == ("minilm@1", 384)
    assert store.get_pool("tickets") == recorded

    taken_back = store.set_pool_embedder(pool.id, None, None)
    assert (taken_back.embedder_fingerprint, taken_back.dimension) == (None, None)


def test_deleting_a_pool_takes_its_examples_and_selections_and_leaves_its_jobs(store, pool):
    other = store.create_pool("other", {})
    for each in (pool, other):
        write(store, each.id, NewExample(id="a", inputs="x"))
        store.add_selections([a_selection(id=f"sel-{each.name}", pool_id=each.id)])
        store.add_job(a_job(id=f"job-{each.name}", pool_id=each.id))

    store.delete_pool("tickets")

    assert [left.name for left in store.list_pools()] == ["other"]
    assert (store.count_live(pool.id), store.count_live(other.id)) == (0, 1)
    assert store.get_job("job-tickets").pool_id is None
    assert store.get_job("job-other").pool_id == other.id
    assert store.add_selections([a_selection(id="sel-tickets", pool_id=other.id)]) == 1, (
        "the id is free again"
    )


def test_neither_pool_numbers_nor_seqs_are_used_twice(store, pool):
    seqs = write(store, pool.id, NewExample(id="a", inputs="x"), NewExample(id="b", inputs="y")).seqs
    store.delete_pool("tickets")

    again = store.create_pool("tickets", {})
    assert again.id > pool.id
    assert write(store, again.id, NewExample(id="a", inputs="x")).seqs[0] > max(seqs)
