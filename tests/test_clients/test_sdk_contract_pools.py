"""One suite, three clients: the server, its pools and their settings."""

import uuid

import pytest

import kshot
from kshot.errors import InvalidInput, PoolExists, PoolNotFound


def test_the_server_is_ready_and_of_this_version(client):
    assert client.version().version == kshot.__version__
    assert client.ready().ready


def test_a_pool_is_created_described_and_deleted(client):
    name = f"p{uuid.uuid4().hex[:8]}"
    created = client.create_pool(name, embedder="hashing", select={"k": 3}, retention_days=5)
    assert (created.name, created.settings.select.k, created.settings.retention_days) == (name, 3, 5)
    assert created.settings.embedder.type == "hashing"
    assert client.get_pool(name).settings == created.settings
    assert name in [pool.name for pool in client.list_pools()]
    assert client.delete_pool(name) is None
    with pytest.raises(PoolNotFound, match=name):
        client.get_pool(name)


def test_a_second_pool_of_a_name_is_a_conflict_unless_that_is_fine(client, empty_pool):
    with pytest.raises(PoolExists, match=empty_pool):
        client.create_pool(empty_pool, embedder="hashing")
    assert client.create_pool(empty_pool, exist_ok=True, embedder="hashing").name == empty_pool


def test_refused_settings_are_named_by_pointer(client):
    with pytest.raises(InvalidInput) as caught:
        client.create_pool("p", embedder="hashing", retention_days=0, colour="red")
    assert {error.pointer for error in caught.value.errors} == {
        "/settings/retention_days",
        "/settings/colour",
    }
    assert caught.value.request_id


def test_a_pool_with_a_bad_name_is_refused(client):
    with pytest.raises(InvalidInput) as caught:
        client.create_pool("no spaces", embedder="hashing")
    assert [error.pointer for error in caught.value.errors] == ["/name"]


def test_settings_are_changed_one_by_one(client, empty_pool):
    changed = client.update_pool(empty_pool, retention_days=9)
    assert changed.settings.retention_days == 9
    assert changed.settings.embedder.type == "hashing"


def test_the_health_of_a_pool_comes_where_it_is_asked_for(client, pool):
    health = client.pool_stats(pool, health=True).health
    assert health.examples == health.duplicates.measured == client.get_pool(pool).examples
    assert health.labels.labels == 3
    assert 0 <= health.labels.evenness <= 1
    assert health.log_det_distance >= 0
