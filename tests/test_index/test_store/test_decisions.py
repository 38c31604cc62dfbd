"""Decisions and sessions: each recorded once, whoever comes first; and gone when their time is up."""

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest

from kshot.errors import DecisionNotFound
from kshot.index.store import Store
from kshot.index.store.decisions import (
    PolicyGone,
    Proposal,
    Recorded,
    SessionMove,
    SessionTaken,
    StoredSession,
)
from kshot.index.store.policies import NewVariant, StoredPolicy
from kshot.records import DecisionRecord, NewFeedback

VARIANTS = [NewVariant("a", "active", {}), NewVariant("b", "active", {})]


@pytest.fixture
def store(store_url, clock):
    with Store(store_url, clock=clock) as opened:
        yield opened


@pytest.fixture
def policy(store):
    return store.create_policy("p", {}, VARIANTS)


def record(policy: StoredPolicy, name: str, **changes: Any) -> DecisionRecord:
    values: dict[str, Any] = {
        "id": name,
        "policy_id": policy.id,
        "policy_version": 1,
        "feature_version": "f",
        "decided_at": policy.created_at,
        "request_hash": "h",
        "chosen": "a",
        "served": "a",
        "propensity": 0.5,
        "propensity_kind": "exact",
        "hold_out": False,
        "mode": "online",
        "active": True,
        "seed": "0",
        "eligible": ["a", "b"],
        "probabilities": b"\x00" * 16,
        "features": b"\x01" * 8,
        "detail": {"means": [0.1, None]},
    }
    return DecisionRecord(**(values | changes))


def first_of(policy: StoredPolicy, name: str, variant: str, key: str = "s") -> Proposal:
    """A decision that wants to be the first of its session."""
    move = SessionMove(None, StoredSession(variant, False, policy.created_at))
    return Proposal(record(policy, name, served=variant, chosen=variant, session_key=key), move)


def event(decision: DecisionRecord, key: str) -> NewFeedback:
    return NewFeedback(
        target_kind="decision",
        target_id=decision.id,
        policy_id=decision.policy_id,
        metric="reward",
        idempotency_key=key,
        kind="reward",
        value=1.0,
        occurred_at=decision.decided_at,
        received_at=decision.decided_at,
    )


def test_a_decision_comes_back_as_it_was_and_the_first_of_an_id_stands(store, policy):
    first = record(policy, "d", subject_id="u", costs={"a": 1.5})
    second = record(policy, "d", served="b", request_hash="other")
    assert store.add_decisions([Proposal(first)]) == [Recorded(first, is_new=True)]
    assert store.add_decisions([Proposal(second)]) == [Recorded(first, is_new=False)]
    assert store.get_decision("d") == first
    assert store.find_decisions(["d", "none"]) == {"d": first}
    with pytest.raises(DecisionNotFound, match="'none'"):
        store.get_decision("none")


def test_of_two_in_one_batch_the_first_stands(store, policy):
    first, second = record(policy, "d"), record(policy, "d", served="b")
    answers = store.add_decisions([Proposal(first), Proposal(second)])
    assert answers == [Recorded(first, is_new=True), Recorded(first, is_new=False)]


def test_a_session_belongs_to_its_first_decision(store, policy):
    assert store.get_session(policy.id, "s") is None
    (answer,) = store.add_decisions([first_of(policy, "d1", "a")])
    assert answer.is_new
    present = store.get_session(policy.id, "s")
    assert present == StoredSession("a", False, policy.created_at)
    assert store.add_decisions([first_of(policy, "d2", "b")]) == [SessionTaken(present)]
    with pytest.raises(DecisionNotFound):
        store.get_decision("d2")
    # Repeated, the first decision asks nothing of the session.
    assert store.add_decisions([first_of(policy, "d1", "b")])[0].record.served == "a"


def test_a_session_moves_only_from_where_it_was_seen(store, policy):
    store.add_decisions([first_of(policy, "d1", "a")])
    seen = store.get_session(policy.id, "s")
    later = StoredSession("b", True, policy.created_at + timedelta(minutes=1))
    moved = Proposal(record(policy, "d2", served="b", session_key="s"), SessionMove(seen, later))
    late = Proposal(record(policy, "d3", served="b", session_key="s"), SessionMove(seen, later))
    kept = Proposal(record(policy, "d4", session_key="s"), SessionMove(seen, seen))
    assert store.add_decisions([moved])[0].is_new
    assert store.add_decisions([late, kept]) == [SessionTaken(later), SessionTaken(later)]
    again = Proposal(record(policy, "d5", served="b", session_key="s"), SessionMove(later, later))
    assert store.add_decisions([again])[0].is_new


def test_eight_writers_of_two_hundred_first_decisions_leave_one_variant(store_url, clock, store, policy):
    with Store(store_url, clock=clock) as other:

        def work(number: int) -> list[Any]:
            writer = (store, other)[number % 2]
            return [
                writer.add_decisions([first_of(policy, f"d-{number}-{i}", "ab"[(number + i) % 2])])[0]
                for i in range(200)
            ]

        with ThreadPoolExecutor(8) as pool:
            answers = [answer for some in pool.map(work, range(8)) for answer in some]
    new = [answer for answer in answers if isinstance(answer, Recorded)]
    assert len(new) == 1
    present = store.get_session(policy.id, "s")
    assert present.variant == new[0].record.served
    assert {answer for answer in answers if isinstance(answer, SessionTaken)} == {SessionTaken(present)}


def test_decisions_of_a_policy_that_is_gone_are_not_recorded(store, policy):
    other = store.create_policy("other", {}, VARIANTS)
    store.add_decisions([Proposal(record(policy, "kept"))])
    store.delete_policy("p")
    answers = store.add_decisions([Proposal(record(policy, "d")), Proposal(record(other, "e"))])
    assert answers == [PolicyGone(policy.id), Recorded(record(other, "e"), is_new=True)]
    assert store.find_decisions(["kept", "d"]) == {}


def test_decisions_are_listed_from_where_one_stopped(store, policy):
    minute = timedelta(minutes=1)
    records = [record(policy, f"d{i}", decided_at=policy.created_at + (i // 2) * minute) for i in range(6)]
    store.add_decisions([Proposal(one) for one in reversed(records)])
    end = policy.created_at + 3 * minute
    assert store.decisions_between(policy.id, None, end, 4) == records[:4]
    place = (records[2].decided_at, records[2].id)
    assert store.decisions_between(policy.id, place, end, 10) == records[3:]
    assert store.decisions_between(policy.id, None, records[2].decided_at, 10) == records[:2]
    assert store.recent_decisions(policy.id, records[4].decided_at, 10) in (records[4:], records[:3:-1])


def test_what_is_purged_is_old_and_known_to_every_saved_state(store, policy):
    records = [record(policy, f"d{i}") for i in range(3)]
    young = record(policy, "young", decided_at=policy.created_at + timedelta(days=1))
    store.add_decisions([Proposal(one) for one in [*records, young]])
    store.append_feedback([event(records[0], "k"), event(records[1], "k")])
    last = store.last_feedback_seq()
    store.append_feedback([event(records[1], "later")])
    before = policy.created_at + timedelta(hours=1)
    assert store.purge_decisions(policy.id, before, folded_seq=last) == 2
    assert set(store.find_decisions(["d0", "d1", "d2", "young"])) == {"d1", "young"}
    kept = store.feedback_of("decision", ["d0", "d1"])
    assert [len(kept[one]) for one in ("d0", "d1")] == [0, 2]


def test_sessions_are_purged_by_age(store, policy):
    store.add_decisions([first_of(policy, "d1", "a")])
    assert store.purge_sessions(policy.id, policy.created_at) == 0
    assert store.purge_sessions(policy.id, policy.created_at + timedelta(seconds=1)) == 1
    assert store.get_session(policy.id, "s") is None


def test_a_wiped_decision_leaves_a_tombstone_only(store, policy):
    own = Proposal(
        record(policy, "own", subject_id="u", session_key="s"), first_of(policy, "own", "a").session
    )
    other = record(policy, "other")
    store.add_decisions([own, Proposal(other)])
    assert [one.id for one in store.decisions_of_subject("u")] == ["own"]
    store.append_feedback([event(own.record, "k"), event(own.record, "stone"), event(other, "k")])
    assert store.wipe_decisions(["own"], keep_key="stone") == 1
    assert store.find_decisions(["own", "other"]) == {"other": other}
    assert store.get_session(policy.id, "s") is None
    left = store.feedback_of("decision", ["own", "other"])
    assert [one.idempotency_key for one in left["own"]] == ["stone"]
    assert len(left["other"]) == 1


def test_a_decision_is_found_by_its_selection(store, policy):
    own = record(policy, "d", selection_id="s1")
    store.add_decisions([Proposal(own)])
    assert store.decision_of_selection("s1") == own
    assert store.decision_of_selection("s2") is None
    assert store.decision_counts(policy.id) == {"a": 1}
    assert store.count_decisions(policy.id) == 1
