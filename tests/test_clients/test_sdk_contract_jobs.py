"""One suite, three clients: embedding again and tuning are jobs that can be followed."""

import pytest

from kshot.errors import InvalidInput, InvalidParameter, JobNotFound, PoolNotFound
from kshot.schemas.operations import JobInfo
from kshot.schemas.tuning import TuneResult


def test_a_change_of_the_embed_template_is_a_job_that_can_be_followed(client, pool):
    changed = client.update_pool(pool, embed_template="ticket: {{ inputs }}")
    assert changed.job_id is not None
    done = client.wait_job(changed.job_id, timeout_s=60)
    assert (done.state, done.pool) == ("succeeded", pool)
    assert changed.job_id in [job.id for job in client.list_jobs(pool)]
    assert client.get_job(changed.job_id).state == "succeeded"
    assert client.cancel_job(changed.job_id).state == "succeeded"
    assert client.select(pool, "parcel", k=5).usage.eligible == 5


def test_a_pool_is_tuned_by_its_labels(client, empty_pool):
    # The label stands in one word among many that all labels share.
    rows = [(f"the box of {('red', 'blue', 'green')[i % 3]} number{i} came", "rbg"[i % 3]) for i in range(60)]
    client.upsert(empty_pool, rows)
    started = client.tune_pool(empty_pool, apply=True, layers=[])
    assert (started.kind, started.pool) == ("tune", empty_pool)
    seen: list[JobInfo] = []
    done = client.wait_job(started.id, timeout_s=60, on_progress=seen.append)
    assert seen[-1] == done
    result = TuneResult.model_validate(done.result)
    assert (result.queries, result.rows, result.labels) == (60, 60, 3)
    kept = client.get_pool(empty_pool).settings.select.params.get("fused", {})
    assert kept == ({} if result.after is None else result.after.weights)
    assert result.applied == (result.after is not None)


def test_a_pool_without_enough_labels_is_not_tuned(client, pool):
    with pytest.raises(InvalidInput, match="wanted 50"):
        client.tune_pool(pool)
    with pytest.raises(InvalidParameter, match="allowed 0 to 1"):
        client.tune_pool(pool, layers=[9])
    with pytest.raises(PoolNotFound):
        client.tune_pool("absent")


def test_an_unknown_job_is_not_found(client):
    for look_up in (client.get_job, client.cancel_job, client.wait_job):
        with pytest.raises(JobNotFound):
            look_up("no-such-job")
