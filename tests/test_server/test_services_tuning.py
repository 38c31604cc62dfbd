"""Tuning over the real service: a job that measures, proposes and, when told to, changes settings."""

from pathlib import Path

import numpy as np
import pytest

from tests.test_server.live import HASHING, Live, LivePool, pointers, running, the_problem, tickets
from tests.test_server.live_tuning import plain, told_by_one_word, tuned, without_meaning

SIMILARITY_ONLY = {"similarity": 1.0, "bsr": 0.0, "bm25": 0.0}


def test_better_weights_are_proposed_and_nothing_changes(live: Live, pool: LivePool):
    pool.add(told_by_one_word(120))
    before = pool.info()

    result = tuned(live, pool)

    assert (result["queries"], result["rows"], result["labels"], result["k"]) == (120, 120, 4, 8)
    assert result["pool_version"] == before["version"]
    present, after = result["before"], result["after"]
    assert (present["token_layer"], present["weights"]) == (1, {"similarity": 1, "bsr": 1, "bm25": 0})
    assert after["weights"]["bm25"] == 1
    assert after["agreement"]["low"] > present["agreement"]["high"]
    weights_step, layer_step = result["steps"]
    assert (weights_step["compares"], weights_step["accepted"]) == ("weights", True)
    assert 0 < weights_step["gain"]["low"] < weights_step["gain"]["mean"] < weights_step["gain"]["high"]
    # Both numbers name the only layer of this embedder.
    assert (layer_step["compares"], layer_step["accepted"]) == ("token_layer", False)
    means = [one["agreement"]["mean"] for one in result["compared"]]
    assert means == sorted(means, reverse=True)
    assert (result["applied"], result["job_id"]) == (False, None)
    assert result["settings"]["select"]["params"]["fused"] == after["weights"]
    assert pool.info() == before


def test_applied_weights_hold_at_once_and_leave_other_settings_alone(live: Live, pool: LivePool):
    pool.add(told_by_one_word(120))
    pool.patch(select={"k": 3, "params": {"mmr": {"diversity": 0.2}}}, retention_days=9)

    result = tuned(live, pool, apply=True)

    assert (result["applied"], result["job_id"]) == (True, None)
    settings = pool.info()["settings"]
    assert settings["select"]["params"] == {
        "mmr": {"diversity": 0.2},
        "fused": result["after"]["weights"],
    }
    assert (settings["select"]["k"], settings["retention_days"]) == (3, 9)
    chosen = pool.select("lo1 mi2 green sa3", explain=True)
    assert chosen["explain"]["params"]["bm25"] == 1
    assert {one["label"] for one in chosen["demonstrations"]} == {"green"}
    again = tuned(live, pool, apply=True)
    assert (again["before"]["weights"], again["after"]) == (result["after"]["weights"], None)
    assert (again["settings"], again["applied"]) == ({}, False)


@pytest.mark.parametrize("seed", range(3))
def test_labels_drawn_by_lot_propose_no_change(seed: int, live: Live, pool: LivePool):
    pool.add(without_meaning(90, seed))
    result = tuned(live, pool, apply=True, seed=seed)
    assert (result["after"], result["settings"], result["applied"]) == (None, {}, False)
    assert result["before"]["agreement"]["mean"] == pytest.approx(1 / 3, abs=0.1)


def test_the_same_seed_gives_the_same_result(live: Live, pool: LivePool):
    pool.add(told_by_one_word(150))
    first, again, other = (tuned(live, pool, queries=60, seed=seed) for seed in (1, 1, 2))
    assert first == again
    assert first["compared"] != other["compared"]
    assert first["queries"] == 60


@pytest.mark.parametrize("signal", ["similarity", "bsr", "bm25"])
def test_agreement_is_that_of_selections_that_leave_the_query_out(signal: str, live: Live, pool: LivePool):
    rows = plain(60)
    pool.add(rows)
    # Of one signal, so that the samples it is standardised over do not matter.
    weights = {**dict.fromkeys(SIMILARITY_ONLY, 0.0), signal: 1.0}
    pool.patch(select={"params": {"fused": weights}})
    shares = []
    for row in rows:
        chosen = pool.select(row["inputs"], k=8, method="fused", exclude={"ids": [row["id"]]})
        labels = [one["label"] for one in chosen["demonstrations"]]
        shares.append(np.mean([label == row["outputs"] for label in labels]))
    result = tuned(live, pool)
    assert result["before"]["weights"] == weights
    assert result["before"]["agreement"]["mean"] == pytest.approx(np.mean(shares), abs=1e-9)


def test_a_query_does_not_find_its_own_label_in_copies_of_itself(live: Live, pool: LivePool):
    rows = without_meaning(60, seed=4)
    copies = [{**row, "id": f"{row['id']}-again", "inputs": row["inputs"].upper()} for row in rows]
    pool.add([*rows, *copies])
    result = tuned(live, pool, k=1, layers=[])
    assert result["rows"] == 120
    assert result["before"]["agreement"]["mean"] < 0.6


def test_a_query_does_not_find_its_own_label_in_its_group(live: Live, pool: LivePool):
    rows = without_meaning(60, seed=5)
    followers = [{**row, "id": f"{row['id']}-b", "inputs": row["inputs"] + " please"} for row in rows]
    pool.add([{**row, "group": f"g{i % 60}"} for i, row in enumerate([*rows, *followers])])
    result = tuned(live, pool, k=1, layers=[])
    assert (result["queries"], result["rows"]) == (60, 120)
    assert result["before"]["agreement"]["mean"] < 0.6


def test_the_test_split_takes_no_part_unless_wanted(live: Live, pool: LivePool):
    pool.add([{**row, "split": "test" if i % 3 == 0 else "train"} for i, row in enumerate(plain(120))])
    assert tuned(live, pool, layers=[])["rows"] == 80
    assert tuned(live, pool, layers=[], exclude_splits=[])["rows"] == 120


def test_a_pool_without_token_vectors_is_tuned_by_the_other_signals(live: Live):
    pool = live.create("tuned-external", embedder={"type": "external", "dimension": 3})
    rng = np.random.default_rng(0)
    pool.add([{**row, "vector": rng.standard_normal(3).tolist()} for row in told_by_one_word(100)])
    result = tuned(live, pool, apply=True)
    assert result["before"]["weights"] == {"similarity": 1, "bm25": 0}
    assert result["before"]["token_layer"] is None
    assert [step["compares"] for step in result["steps"]] == ["weights"]
    assert result["after"]["weights"]["bm25"] == 1
    assert pool.info()["settings"]["select"]["params"]["fused"] == result["after"]["weights"]
    assert pointers(pool.problem("/tune", {"layers": [1]})) == ["/layers/0"]


def test_what_cannot_be_tuned_is_refused_at_once(live: Live, pool: LivePool):
    pool.add(tickets(30))
    assert "wanted 50" in pool.problem("/tune", {})["detail"]
    assert pointers(pool.problem("/tune", {"layers": [1, 7]})) == ["/layers/1"]
    assert pointers(pool.problem("/tune", {"queries": 10, "k": 0})) == ["/queries", "/k"]
    assert pointers(pool.problem("/tune", {"weights": {}})) == ["/weights"]
    absent = live.pool("absent").request("POST", "/tune", {})
    assert the_problem(absent, 404)["code"] == "pool_not_found"
    jobs = live.http.get("/v1/jobs", params={"pool": pool.name}).json()
    assert jobs["data"] == []


def test_an_idempotency_key_starts_one_job(live: Live, pool: LivePool):
    pool.add(plain(60))
    answers = [
        pool.request("POST", "/tune", {"layers": []}, headers={"Idempotency-Key": "once"}) for _ in range(2)
    ]
    assert [answer.status_code for answer in answers] == [202, 202]
    assert answers[0].json()["id"] == answers[1].json()["id"]
    assert answers[0].headers["location"] == answers[1].headers["location"]
    live.finished(answers[0].json()["id"])
    assert len(live.http.get("/v1/jobs", params={"pool": pool.name}).json()["data"]) == 1


def test_vectors_of_another_embedder_are_not_measured(tmp_path: Path):
    with running(tmp_path) as live:
        pool = live.create(embedder=HASHING)
        pool.add(plain(60))
        record = live.services.store.get_pool("tickets")
        live.services.store.set_pool_embedder(record.id, "hashing-0/128", 128)
    with running(tmp_path) as live:
        problem = the_problem(live.pool().request("POST", "/tune", {}), 409)
        assert problem["code"] == "embedder_mismatch"
