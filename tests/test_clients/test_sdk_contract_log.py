"""One suite, three clients: selections of the past and the queries nothing came close to."""

import uuid

import pytest

from kshot.errors import InvalidInput, PoolNotFound, SelectionNotFound
from tests.test_clients.sdk_tickets import ids_of


def test_a_recorded_selection_can_be_looked_up(client, pool):
    chosen = client.select(pool, "parcel", k=2, durable=True)
    stored = client.get_selection(chosen.selection_id)
    assert [shown.id for shown in stored.demonstrations] == ids_of(chosen)
    assert (stored.pool, stored.query, stored.method) == (pool, "parcel", "fused")
    with pytest.raises(SelectionNotFound):
        client.get_selection(str(uuid.uuid4()))


def test_queries_that_nothing_comes_close_to_are_listed(client, pool):
    assert list(client.gaps(pool)) == []
    client.select(pool, "zyxwv", method="similarity")
    near = client.select(pool, "where is my parcel", method="similarity")
    gap = client.select(pool, "zyxwv", method="similarity", durable=True)
    assert [notice.code for notice in gap.warnings] == ["fewer_than_k", "coverage_gap"]
    (found,) = client.gaps(pool)
    assert (found.query, found.count) == ("zyxwv", 2)
    best = client.get_selection(gap.selection_id).best_similarity
    assert found.best_similarity == best < 0.35
    assert client.get_selection(near.selection_id).best_similarity == pytest.approx(1.0)
    assert [one.query for one in client.gaps(pool, below=best + 1e-9)] == ["zyxwv"]
    assert list(client.gaps(pool, below=best)) == []
    stats = client.pool_stats(pool)
    assert (stats.selections, stats.gaps) == (3, 2)
    client.update_pool(pool, select={"gap_below": -1.0})
    assert list(client.gaps(pool)) == []
    assert client.pool_stats(pool).gaps == 0
    with pytest.raises(InvalidInput):
        list(client.gaps(pool, below=2.0))
    with pytest.raises(PoolNotFound):
        list(client.gaps("absent"))
