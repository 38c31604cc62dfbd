import threading
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from kshot.index.store import Store
from kshot.index.store.learning_schema import feedback
from kshot.records import NewFeedback
from tests.test_index.test_store.cases import a_selection

NOW = datetime(2031, 5, 6, tzinfo=UTC)


def an_event(number=0, **changes):
    event = NewFeedback(
        target_kind="decision",
        target_id=f"d{number}",
        policy_id=1,
        metric="reward",
        idempotency_key="once",
        kind="reward",
        value=0.25,
        weight=0.5,
        source="judge",
        tags={"n": [1]},
        occurred_at=NOW,
        received_at=NOW,
    )
    return replace(event, **changes)


def test_events_come_back_as_they_were_in_their_order(store):
    appended = store.append_feedback([an_event(2), an_event(1), an_event(3, of="x", variant="b")])
    assert [one.duplicate for one in appended] == [False] * 3
    found = store.feedback_after(1, 0, 10)
    assert found == [one.event for one in appended]
    assert [event.target_id for event in found] == ["d2", "d1", "d3"]
    assert [event.seq for event in found] == sorted(event.seq for event in found)
    assert replace(an_event(2), received_at=NOW) == NewFeedback(
        **{name: getattr(found[0], name) for name in NewFeedback.__dataclass_fields__}
    )
    assert store.last_feedback_seq() == found[-1].seq


def test_an_event_is_in_the_log_once(store):
    first = store.append_feedback([an_event(value=0.25)])[0].event
    again = store.append_feedback([an_event(value=0.75), an_event(1)])
    assert [one.duplicate for one in again] == [True, False]
    assert again[0].event == first
    # Another metric, key or target is another event.
    more = store.append_feedback([an_event(metric="cost"), an_event(idempotency_key="twice")])
    assert [one.duplicate for one in more] == [False, False]
    assert len(store.feedback_after(1, 0, 10)) == 4


def test_the_same_event_twice_in_a_batch_is_there_once(store):
    appended = store.append_feedback([an_event(), an_event()])
    assert [one.duplicate for one in appended] == [False, True]
    assert appended[0].event == appended[1].event


def test_reading_goes_on_after_a_place(store):
    events = [one.event for one in store.append_feedback([an_event(number) for number in range(5)])]
    assert store.feedback_after(1, events[1].seq, 2) == events[2:4]
    assert store.feedback_after(2, 0, 10) == []


def test_events_of_some_targets_up_to_a_place(store):
    first, second, third = (
        one.event
        for one in store.append_feedback([an_event(1), an_event(2), an_event(1, idempotency_key="later")])
    )
    assert store.feedback_of("decision", ["d1", "d2", "d3"]) == {
        "d1": [first, third],
        "d2": [second],
        "d3": [],
    }
    assert store.feedback_of("decision", ["d1"], upto_seq=second.seq) == {"d1": [first]}
    assert store.feedback_of("selection", ["d1"]) == {"d1": []}


def test_forgotten_targets_leave_nothing(store):
    store.append_feedback([an_event(1), an_event(2), an_event(1, metric="cost")])
    assert store.forget_targets("decision", ["d1", "d9"]) == 2
    assert [event.target_id for event in store.feedback_after(1, 0, 10)] == ["d2"]


def test_a_reader_never_sees_a_later_event_before_an_earlier_one(store):
    """Four writers at once: whoever reads up to some place has seen all there ever is before it."""
    seen: list[int] = []
    done = threading.Event()

    def read():
        while not (done.is_set() and len(seen) >= 200):
            after = seen[-1] if seen else 0
            seen.extend(event.seq for event in store.feedback_after(1, after, 1_000))

    def write(writer):
        for number in range(50):
            store.append_feedback([an_event(0, target_id=f"{writer}-{number}")])

    reader = threading.Thread(target=read)
    reader.start()
    writers = [threading.Thread(target=write, args=(writer,)) for writer in range(4)]
    for thread in writers:
        thread.start()
    for thread in writers:
        thread.join()
    done.set()
    reader.join()
    assert seen == [event.seq for event in store.feedback_after(1, 0, 1_000)]
    assert len(seen) == 200


def test_a_second_process_waits_with_its_number_until_the_first_has_committed(store, store_url):
    entered, seqs = threading.Event(), []

    def append_second():
        entered.set()
        seqs.append(other.append_feedback([an_event(2)])[0].event.seq)

    with Store(store_url) as other:
        thread = threading.Thread(target=append_second)
        # What a slow process does: its event has a number, and nobody can see it yet.
        with store._append() as connection:
            row = {name: getattr(an_event(1), name) for name in NewFeedback.__dataclass_fields__}
            first = connection.execute(feedback.insert().returning(feedback.c.seq), row).scalar_one()
            thread.start()
            entered.wait()
            thread.join(timeout=0.3)
            assert thread.is_alive()
            assert other.feedback_after(1, 0, 10) == []
        thread.join()
        assert seqs[0] > first
        assert [event.seq for event in other.feedback_after(1, 0, 10)] == [first, seqs[0]]


def test_what_was_said_of_selections_goes_with_them(store, pool):
    hour, other = timedelta(hours=1), store.create_pool("other", {})
    store.add_selections(
        [
            a_selection(id="old", pool_id=pool.id, created_at=NOW),
            a_selection(id="young", pool_id=pool.id, created_at=NOW + 2 * hour),
            a_selection(id="elsewhere", pool_id=other.id, created_at=NOW + 2 * hour),
        ]
    )
    targets = ["old", "young", "elsewhere", "unknown", "just-unknown"]
    late = {"just-unknown": NOW + 2 * hour}
    store.append_feedback(
        [
            an_event(target_kind="selection", target_id=one, policy_id=None, received_at=late.get(one, NOW))
            for one in targets
        ]
    )
    store.append_feedback([an_event()])

    def told():
        return {one for one, events in store.feedback_of("selection", targets).items() if events}

    assert store.purge_selections(NOW + hour, pool_id=pool.id) == 1
    assert told() == {"young", "elsewhere", "just-unknown"}
    store.delete_pool(pool.name)
    assert told() == {"elsewhere", "just-unknown"}
    # Decisions have a retention of their own.
    assert len(store.feedback_after(1, 0, 10)) == 1
