"""Policies, their variants and their saved states."""

import pytest
from sqlalchemy import create_engine, make_url, text

from kshot.errors import Conflict, PolicyExists, PolicyNotFound, VariantNotFound
from kshot.index.store import Store
from kshot.index.store.policies import NewVariant

A, B = NewVariant("a", "active", {"template": "x"}), NewVariant("b", "draft", {})


@pytest.fixture
def store(store_url, clock):
    with Store(store_url, clock=clock) as opened:
        yield opened


@pytest.fixture
def policy(store):
    return store.create_policy("p", {"floor": 0.5}, [A, B])


def test_a_policy_comes_back_as_it_was(store, policy, clock):
    assert (policy.name, policy.version, policy.config) == ("p", 1, {"floor": 0.5})
    assert [(one.name, one.position, one.status, one.config) for one in policy.variants] == [
        ("a", 0, "active", {"template": "x"}),
        ("b", 1, "draft", {}),
    ]
    assert policy.created_at == clock.now
    assert store.get_policy("p") == store.get_policy_by_id(policy.id) == policy
    with pytest.raises(PolicyExists, match="'p'"):
        store.create_policy("p", {}, [A])
    for find in (lambda: store.get_policy("q"), lambda: store.get_policy_by_id(99)):
        with pytest.raises(PolicyNotFound):
            find()


def test_policies_are_listed_by_name(store, policy):
    for name in ("r", "q"):
        store.create_policy(name, {}, [A])
    assert [one.name for one in store.list_policies(limit=2)] == ["p", "q"]
    assert [one.name for one in store.list_policies(after="q")] == ["r"]


def test_every_change_shows_in_the_stamp_even_while_the_clock_stands(store, policy):
    stamps = {policy.stamp}
    for change in (
        lambda: store.update_policy(policy.id, {}, expected=store.get_policy("p").stamp, learns_anew=False),
        lambda: store.add_variant(policy.id, NewVariant("c", "active", {})),
        lambda: store.update_variant(policy.id, "c", status="paused", changes={"cost": 2.0}),
    ):
        changed = change()
        assert store.policy_stamps() == [changed.stamp]
        stamps.add(changed.stamp)
    assert len(stamps) == 4
    assert changed.variants[-1].status == "paused"
    assert changed.variants[-1].config == {"cost": 2.0}


def test_a_change_of_what_changed_meanwhile_is_refused(store, policy):
    changed = store.update_policy(policy.id, {"floor": 0.1}, expected=policy.stamp, learns_anew=True)
    assert changed.version == 2
    with pytest.raises(Conflict, match="changed meanwhile"):
        store.update_policy(policy.id, {"floor": 0.2}, expected=policy.stamp, learns_anew=False)
    assert store.get_policy("p").config == {"floor": 0.1}


def test_variants_are_added_once_and_known_by_name(store, policy):
    with pytest.raises(Conflict, match="never changes"):
        store.add_variant(policy.id, A)
    with pytest.raises(VariantNotFound, match="it has a, b"):
        store.update_variant(policy.id, "c", status="paused", changes={})


def test_three_states_are_kept_of_the_present_version(store, policy):
    for seq in (1, 5, 3, 9):
        assert store.save_policy_state(policy.id, 1, seq, f"state {seq}".encode())
    assert [(one.upto_seq, one.state, one.is_whole) for one in store.saved_policy_states(policy.id, 1)] == [
        (9, b"state 9", True),
        (5, b"state 5", True),
        (3, b"state 3", True),
    ]
    assert [one.upto_seq for one in store.saved_policy_states(policy.id, 1, upto_seq=5)] == [5, 3]
    assert store.save_policy_state(policy.id, 1, 9, b"again")
    assert store.saved_policy_states(policy.id, 1)[0].state == b"again"
    store.drop_policy_states(policy.id, before_seq=9)
    assert [one.upto_seq for one in store.saved_policy_states(policy.id, 1)] == [9]
    store.update_policy(policy.id, {}, expected=policy.stamp, learns_anew=True)
    assert store.saved_policy_states(policy.id, 1) == []
    assert not store.save_policy_state(policy.id, 1, 12, b"of before")


def test_a_changed_byte_is_noticed(store, policy, store_url):
    store.save_policy_state(policy.id, 1, 1, b"state")
    url = make_url(store_url)
    if url.get_backend_name() == "postgresql":
        url = url.set(drivername="postgresql+psycopg")
    engine = create_engine(url)
    with engine.begin() as connection:
        connection.execute(text("UPDATE policy_states SET state = :state"), {"state": b"stat3"})
    engine.dispose()
    assert [one.is_whole for one in store.saved_policy_states(policy.id, 1)] == [False]


def test_deleting_takes_everything_along(store, policy):
    store.save_policy_state(policy.id, 1, 1, b"state")
    store.delete_policy("p")
    assert store.policy_stamps() == []
    assert store.saved_policy_states(policy.id, 1) == []
    with pytest.raises(PolicyNotFound):
        store.delete_policy("p")
