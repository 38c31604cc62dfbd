"""Any sequence of writes against a dictionary that does the same."""

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from kshot.index.store import ExampleHeader, Store
from kshot.records import NewExample, Status
from tests.test_index.test_store.cases import content, same_inputs

ids = st.sampled_from(["a", "b", "c", "d", "é"])
subjects = st.sampled_from([None, "s", "t"])
field_strategies = {
    "inputs": st.sampled_from(["x", "y", {"q": "x"}]),
    "outputs": st.sampled_from([None, "yes", "no", {"label": "yes"}]),
    "metadata": st.sampled_from([{}, {"n": 1}, {"n": True}]),
    "status": st.sampled_from(Status),
    "subject_id": subjects,
    "vector": st.sampled_from([None, b"\x00\x00\x80\x3f"]),
}
examples = st.builds(NewExample, id=ids, **field_strategies)
batches = st.lists(examples, max_size=4, unique_by=lambda example: example.id)
patches = st.fixed_dictionaries({}, optional=field_strategies)


def shape(example):
    """Tell examples apart as JSON does: 1 is not True."""
    return repr(content(example))


class History(RuleBasedStateMachine):
    """A pool, a dictionary that should equal it, and a follower that only reads the change log."""

    store: Store

    def __init__(self):
        super().__init__()
        self.pool = self.store.create_pool(f"pool {len(self.store.list_pools())}", {})
        #: id -> (content, seq, feature_seq) of the live version, now and at each version of the pool.
        self.live: dict[str, tuple[NewExample, int, int]] = {}
        self.past = [self.live]
        #: seq -> (id, subject) of every version, and the seqs whose content is gone.
        self.seq_to_owner: dict[int, tuple[str, str | None]] = {}
        self.erased: set[int] = set()
        self.last_seq = 0
        self.followed: dict[int, ExampleHeader] = {}
        self.followed_version = 0

    def put(self, new, seq):
        assert seq > self.last_seq
        self.last_seq = seq
        old = self.live.get(new.id)
        feature_seq = seq
        if old is not None and (old[0].inputs, old[0].vector) == (new.inputs, new.vector):
            feature_seq = old[2]
        self.live = self.live | {new.id: (new, seq, feature_seq)}
        self.seq_to_owner[seq] = (new.id, new.subject_id)

    def erase(self, removed, subject=None):
        self.live = {id_: entry for id_, entry in self.live.items() if id_ not in removed}
        self.erased |= {
            seq
            for seq, (id_, owner) in self.seq_to_owner.items()
            if id_ in removed or (subject is not None and owner == subject)
        }

    def commit(self, is_changed):
        if is_changed:
            self.past.append(self.live)

    @rule(batch=batches)
    def upsert(self, batch):
        result = self.store.upsert_examples(self.pool.id, batch, keeps_features=same_inputs)
        for new, outcome, seq in zip(batch, result.outcomes, result.seqs, strict=True):
            old = self.live.get(new.id)
            if old is not None and shape(old[0]) == shape(new):
                assert (outcome, seq) == ("unchanged", old[1])
            else:
                assert outcome == ("created" if old is None else "updated")
                self.put(new, seq)
        self.commit(set(result.outcomes) - {"unchanged"})
        assert result.version == len(self.past) - 1

    @rule(example_id=ids, changes=patches)
    def patch(self, example_id, changes):
        if example_id not in self.live:
            return
        old = self.live[example_id][0]
        patched = self.store.patch_example(self.pool.id, example_id, changes, keeps_features=same_inputs)
        expected = NewExample(**{name: getattr(old, name) for name in NewExample.__slots__} | changes)
        assert shape(patched) == shape(expected)
        is_changed = shape(expected) != shape(old)
        if is_changed:
            self.put(expected, patched.seq)
        self.commit(is_changed)

    @rule(some=st.lists(ids, max_size=3))
    def delete(self, some):
        removed = self.store.delete_examples(self.pool.id, ids=some)
        assert set(removed) == set(some) & self.live.keys()
        self.erase(set(removed))
        self.commit(removed)

    @rule(subject=st.sampled_from(["s", "t"]))
    def delete_subject(self, subject):
        removed = self.store.delete_examples(self.pool.id, subject_id=subject)
        assert set(removed) == {id_ for id_, (e, _, _) in self.live.items() if e.subject_id == subject}
        self.erase(set(removed), subject)
        self.commit(removed)

    @rule()
    def follow(self):
        changes = self.store.read_changes(self.pool.id, self.followed_version)
        for seq in changes.removed:
            del self.followed[seq]
        self.followed |= {header.seq: header for header in changes.added}
        self.followed_version = changes.version
        expected = {header.seq: header for header in self.store.iterate_headers(self.pool.id)}
        assert self.followed == expected

    @rule(data=st.data())
    def look_back(self, data):
        version = data.draw(st.integers(0, len(self.past) - 1))
        expected = {
            (id_, seq, feature_seq)
            for id_, (_, seq, feature_seq) in self.past[version].items()
            if seq not in self.erased
        }
        headers = self.store.iterate_headers(self.pool.id, at_version=version, batch_size=2)
        assert {(h.id, h.seq, h.feature_seq) for h in headers} == expected

    @invariant()
    def the_live_set_equals_the_dictionary(self):
        live = list(self.store.iterate_live(self.pool.id, batch_size=3))
        assert {e.id: (shape(e), e.seq, e.feature_seq) for e in live} == {
            id_: (shape(e), seq, feature_seq) for id_, (e, seq, feature_seq) in self.live.items()
        }
        assert [e.feature_seq for e in live] == sorted(e.feature_seq for e in live)
        assert self.store.count_live(self.pool.id) == len(live)
        assert self.store.get_pool_by_id(self.pool.id).version == len(self.past) - 1

    @invariant()
    def what_was_not_erased_can_be_replayed(self):
        seqs = sorted(self.seq_to_owner)
        found = [e.seq for e in self.store.get_examples_by_seq(self.pool.id, seqs)]
        assert found == [seq for seq in seqs if seq not in self.erased]


def check_histories(url, **size):
    with Store(url) as opened:

        class HistoryHere(History):
            store = opened

        run_state_machine_as_test(
            HistoryHere,
            settings=settings(deadline=None, suppress_health_check=[HealthCheck.too_slow], **size),
        )


def test_any_history_of_writes_equals_the_dictionary(store_url):
    check_histories(store_url, max_examples=15, stateful_step_count=15)


@pytest.mark.slow
def test_many_histories_of_writes_equal_the_dictionary(store_url):
    check_histories(store_url, max_examples=100, stateful_step_count=40)
