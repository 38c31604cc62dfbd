from dataclasses import replace
from datetime import datetime

import pytest

from kshot.errors import Conflict, InvalidInput, JobNotFound
from kshot.records import JobState
from tests.test_index.test_store.cases import a_job


def test_a_job_comes_back_as_it_was_given(store, pool):
    job = a_job(pool_id=pool.id, total=7, phase="embedding", result={"n": 1}, error={"code": "internal"})
    assert store.add_job(job) == job == store.get_job("job-1")


def test_a_second_job_of_the_same_id_is_a_conflict(store):
    store.add_job(a_job())
    with pytest.raises(Conflict, match="job-1"):
        store.add_job(a_job(kind="other"))


@pytest.mark.parametrize(
    "call",
    [
        lambda store: store.get_job("none"),
        lambda store: store.update_job("none", done=1),
        lambda store: store.list_jobs(after="none"),
    ],
)
def test_a_missing_job_is_said_to_be_missing(store, call):
    with pytest.raises(JobNotFound, match="'none'"):
        call(store)


def test_an_update_changes_what_it_names(store, clock):
    job = store.add_job(a_job(total=9))
    updated = store.update_job("job-1", state=JobState.RUNNING, done=4, phase="scoring")
    assert updated == store.get_job("job-1")
    assert updated == replace(job, state=JobState.RUNNING, done=4, phase="scoring", updated_at=clock.now)
    assert store.update_job("job-1", total=None, phase=None).total is None


@pytest.mark.parametrize("state", [state for state in JobState if state.is_final])
def test_a_job_that_has_ended_never_changes(store, state):
    store.add_job(a_job())
    ended = store.update_job("job-1", state=state, result={"n": 1})
    with pytest.raises(Conflict, match=str(state)):
        store.update_job("job-1", state=JobState.RUNNING, done=5)
    assert store.get_job("job-1") == ended


def test_jobs_are_listed_youngest_first_in_pages(store, pool):
    for i in range(5):
        kind = "tune" if i == 1 else "reembed"
        store.add_job(a_job(id=f"job-{i}", kind=kind, pool_id=pool.id if i % 2 else None))
    store.update_job("job-3", state=JobState.RUNNING)

    def ids(**wanted):
        return [job.id for job in store.list_jobs(**wanted)]

    assert ids() == ["job-4", "job-3", "job-2", "job-1", "job-0"]
    assert ids(limit=2) == ["job-4", "job-3"]
    assert ids(limit=2, after="job-3") == ["job-2", "job-1"]
    assert ids(pool_id=pool.id) == ["job-3", "job-1"]
    assert ids(state=JobState.QUEUED, pool_id=pool.id) == ["job-1"]
    assert ids(pool_id=pool.id, kind="reembed") == ["job-3"]
    assert ids(kind="tune") == ["job-1"]
    with pytest.raises(InvalidInput, match="limit is 0"):
        store.list_jobs(limit=0)


def test_jobs_are_claimed_oldest_first_and_once(store, clock):
    for i in range(2):
        store.add_job(a_job(id=f"job-{i}"))
    claimed = [store.claim_job(), store.claim_job()]
    assert [(job.id, job.state, job.updated_at) for job in claimed] == [
        ("job-0", JobState.RUNNING, clock.now),
        ("job-1", JobState.RUNNING, clock.now),
    ]
    assert store.claim_job() is None


def test_interrupted_jobs_are_queued_again(store):
    for i, state in enumerate(JobState):
        store.add_job(a_job(id=f"job-{i}", state=state))
    store.add_job(a_job(id="job-9", state=JobState.RUNNING, done=4))

    assert [(j.id, j.state, j.done) for j in store.requeue_interrupted_jobs()] == [
        ("job-1", JobState.QUEUED, 0),
        ("job-9", JobState.QUEUED, 4),
    ]
    assert store.requeue_interrupted_jobs() == []


def test_a_naive_time_is_refused(store):
    with pytest.raises(InvalidInput, match="no timezone"):
        store.add_job(a_job(created_at=datetime(2031, 1, 1)))  # noqa: DTZ001  # the mistake under test
