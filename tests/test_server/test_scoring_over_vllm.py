"""The whole way: this server, its scorer over HTTP, and a completion server whose every number is known."""

import re
from pathlib import Path
from typing import Any

import pytest

from kshot.testing import ToyCompletionServer
from tests.test_server.live import Live, running, the_problem, wait_until

CONTEXT = [20, 30, 40, 50]
OPTIONS = [[60], [60, 61], [70, 71, 72]]


def state(live: Live) -> Any:
    return live.http.get("/v1/scorer").json()["state"]


def test_scores_are_those_of_the_model_and_outlive_the_process(tmp_path: Path):
    toy = ToyCompletionServer(priorities=True)
    body = {"context": CONTEXT, "options": OPTIONS, "boundary": "ids"}
    with toy.running() as url:
        with running(tmp_path, scorer_url=url, scorer_priority=3, scorer_cache_salt="pepper") as live:
            reply = live.http.post("/v1/score", json=body).raise_for_status().json()
            sums = [toy.model.sum_nats(CONTEXT, option) for option in OPTIONS]
            assert [one["sum_nats"] for one in reply["results"]] == pytest.approx(sums, abs=1e-9)
            assert [one["tokens"] for one in reply["results"]] == [1, 2, 3]
            assert reply["best"] == sums.index(max(sums))
            info = live.http.get("/v1/scorer").json()
            assert (info["state"], info["model"], info["max_model_tokens"]) == ("ok", "toy", 2048)
            assert live.http.get("/readyz").json()["checks"]["scorer"] == "ok"
            assert [(one["name"], one["passed"]) for one in info["canaries"]] == [
                (f"C{i}", True) for i in range(1, 9)
            ]
            assert info["audit"]["alarms"] == 0
            text = live.http.get("/metrics").text
            asked = {body["priority"] for body in toy.ledger.bodies}
            assert asked == {3}
            assert {body["cache_salt"] for body in toy.ledger.bodies} == {"pepper"}
            requests = re.search(r'kshot_scorer_requests_total\{outcome="ok"\} (\S+)', text)
            tokens = re.search(r'kshot_scorer_prompt_tokens_total\{outcome="ok"\} (\S+)', text)
            assert requests is not None
            assert tokens is not None
            assert float(requests[1]) > len(toy.ledger.bodies) > 20
            assert float(tokens[1]) > 40 * 20
            assert "kshot_scorer_audit_nats_bucket" in text
            assert "kshot_scorer_audit_alarms_total 0.0" in text
            assert "pepper" not in text + live.http.get("/v1/scorer").text
        with running(tmp_path, scorer_url=url) as live:
            again = live.http.post("/v1/score", json=body).raise_for_status().json()
            assert [one["cached"] for one in again["results"]] == [True] * 3
            assert [one["score"] for one in again["results"]] == [one["score"] for one in reply["results"]]


def test_a_back_end_that_scores_everything_alike_is_refused_with_the_reason(tmp_path: Path):
    toy = ToyCompletionServer()
    toy.faults.constant_nats = -1.0
    with toy.running() as url, running(tmp_path, scorer_url=url) as live:
        wait_until(lambda: state(live) == "refused", "the refusal")
        ready = live.http.get("/readyz")
        assert ready.status_code == 200
        assert ready.json()["checks"]["scorer"].startswith("refused: ")
        problem = the_problem(
            live.http.post("/v1/score", json={"context": CONTEXT, "options": OPTIONS, "boundary": "ids"}), 503
        )
        assert problem["code"] == "scorer_unavailable"


def test_a_server_that_is_not_there_hinders_nothing_else(tmp_path: Path):
    with running(tmp_path, scorer_url="http://127.0.0.1:9/v1") as live:
        live.create()
        wait_until(lambda: state(live) == "scorer_unavailable", "the news")
        assert live.http.get("/readyz").status_code == 200
