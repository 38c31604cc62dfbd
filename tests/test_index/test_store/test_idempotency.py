import pytest

from kshot.errors import IdempotencyConflict
from kshot.index.store import Store, StoredResponse

SCOPE = "POST /v1/pools/tickets/examples"


def test_a_completed_request_is_answered_again(store):
    assert store.reserve_idempotency_key(SCOPE, "k", "hash") is None
    store.complete_idempotency_key(SCOPE, "k", 201, {"ids": ["ü"]})
    for _ in range(2):
        assert store.reserve_idempotency_key(SCOPE, "k", "hash") == StoredResponse(201, {"ids": ["ü"]})


def test_an_answer_may_be_empty(store):
    store.reserve_idempotency_key(SCOPE, "k", "hash")
    store.complete_idempotency_key(SCOPE, "k", 204, None)
    assert store.reserve_idempotency_key(SCOPE, "k", "hash") == StoredResponse(204, None)


def test_the_first_answer_stays(store):
    store.reserve_idempotency_key(SCOPE, "k", "hash")
    store.complete_idempotency_key(SCOPE, "k", 200, {"n": 1})
    store.complete_idempotency_key(SCOPE, "k", 500, {"n": 2})
    store.release_idempotency_key(SCOPE, "k")
    assert store.reserve_idempotency_key(SCOPE, "k", "hash") == StoredResponse(200, {"n": 1})


@pytest.mark.parametrize("is_completed", [False, True])
def test_another_body_is_a_conflict(store, is_completed):
    store.reserve_idempotency_key(SCOPE, "k", "hash")
    if is_completed:
        store.complete_idempotency_key(SCOPE, "k", 200, {})
    with pytest.raises(IdempotencyConflict, match="another body"):
        store.reserve_idempotency_key(SCOPE, "k", "other hash")


def test_a_request_in_flight_is_a_conflict(store):
    store.reserve_idempotency_key(SCOPE, "k", "hash")
    with pytest.raises(IdempotencyConflict, match="in flight"):
        store.reserve_idempotency_key(SCOPE, "k", "hash")


def test_a_released_key_can_be_used_again(store):
    store.reserve_idempotency_key(SCOPE, "k", "hash")
    store.release_idempotency_key(SCOPE, "k")
    assert store.reserve_idempotency_key(SCOPE, "k", "other hash") is None


def test_keys_are_told_apart_by_scope(store):
    store.reserve_idempotency_key(SCOPE, "k", "hash")
    assert store.reserve_idempotency_key("POST /v1/plans", "k", "hash") is None


def test_old_keys_are_purged(store, clock):
    store.reserve_idempotency_key(SCOPE, "old", "hash")
    clock.advance(hours=25)
    store.reserve_idempotency_key(SCOPE, "new", "hash")
    assert store.purge_idempotency_keys(clock.now) == 1
    assert store.reserve_idempotency_key(SCOPE, "old", "hash") is None


@pytest.mark.parametrize("store_url", ["sqlite"], indirect=True)
def test_reopening_releases_what_was_in_flight_and_keeps_what_was_answered(store, store_url):
    store.reserve_idempotency_key(SCOPE, "answered", "hash")
    store.complete_idempotency_key(SCOPE, "answered", 200, {})
    store.reserve_idempotency_key(SCOPE, "in flight", "hash")
    store.close()

    with Store(store_url) as reopened:
        assert reopened.reserve_idempotency_key(SCOPE, "in flight", "hash") is None
        assert reopened.reserve_idempotency_key(SCOPE, "answered", "hash") == StoredResponse(200, {})
