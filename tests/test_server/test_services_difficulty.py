"""Difficulty that the scorer gives: what is asked, what is kept, and who goes by it."""

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from kshot.clients.scorers.base import Pair, ScoringOptions
from kshot.errors import ScorerUnavailable
from kshot.formatting import Prompt, QueryTurn
from kshot.server.services.difficulty import ROWS_AT_ONCE
from kshot.testing import ToyCompletionServer
from tests.test_server.closed_form import ClosedFormScorer, path_nats
from tests.test_server.live import Live, LivePool, ids, pointers, running, the_problem, tickets, wait_until

URL = "http://127.0.0.1:9/v1"
ROWS = [{**row, "outputs": f"{row['outputs']} {'!' * (i % 3)}"} for i, row in enumerate(tickets(30))]
MORE = [{**row, "outputs": f"text {i}"} for i, row in enumerate(tickets(2 * ROWS_AT_ONCE + 22))]
"""Three batches."""
_DEFAULTS = ScoringOptions()


@pytest.fixture
def scorer() -> ClosedFormScorer:
    return ClosedFormScorer()


@pytest.fixture
def scoring(tmp_path: Path, scorer: ClosedFormScorer) -> Iterator[Live]:
    with running(tmp_path, scorer=scorer, scorer_url=URL) as made:
        yield made


def filled(live: Live, rows: Any = ROWS, **settings: Any) -> LivePool:
    pool = live.create(**settings)
    pool.add(rows)
    return pool


def as_pair(one: object) -> Pair:
    assert isinstance(one, Pair)
    return one


def ask(pool: LivePool, **body: Any) -> httpx.Response:
    return pool.request("POST", "/difficulty", body)


def measured(pool: LivePool, **body: Any) -> Any:
    response = ask(pool, **body)
    assert response.status_code == 202, response.text
    job = pool.live.finished(response.json()["id"])
    assert (job["state"], job["kind"], job["error"]) == ("succeeded", "difficulty", None)
    assert response.headers["location"] == f"/v1/jobs/{job['id']}"
    return job["result"]


def nats_of(row: dict[str, Any]) -> list[float]:
    return path_nats(Prompt([], QueryTurn.of(row["inputs"])).text(), f" {row['outputs']}")


def nll(row: dict[str, Any]) -> float:
    return -sum(nats_of(row))


def perplexity(row: dict[str, Any]) -> float:
    return float(np.exp(-np.mean(nats_of(row))))


def by_difficulty(rows: list[dict[str, Any]], measure: Any = nll) -> list[str]:
    return [row["id"] for row in sorted(rows, key=measure)]


@pytest.mark.parametrize(("measure", "of"), [("answer_nll", nll), ("answer_perplexity", perplexity)])
def test_cds_and_its_order_go_by_what_the_scorer_said(scoring: Live, measure: str, of: Any):
    pool = filled(scoring)
    result = measured(pool, measure=measure, apply=True)
    assert pool.info()["settings"]["difficulty_field"] == measure
    numbers = sorted(map(of, ROWS))
    assert result["difficulty"] == pytest.approx(
        {"least": numbers[0], "median": float(np.median(numbers)), "largest": numbers[-1]}
    )
    assert (result["scored"], result["kept"], result["failed"], result["failure"]) == (30, 0, 0, None)
    assert (result["model"], result["fingerprint"], result["applied"]) == ("bytes", "bytes-1", True)
    everything = ids(pool.select("my parcel", k=30, method="cds", order="easy_to_hard"))
    ordered = [of(row) for one in everything for row in ROWS if row["id"] == one]
    assert ordered == sorted(numbers)
    # One of each of three levels.
    levels = by_difficulty(ROWS, of)
    chosen = ids(pool.select("my parcel", k=3, method="cds", order="as_selected"))
    bounds = [(numbers[10 * i], numbers[10 * i + 9]) for i in range(3)]
    picked = [of(next(row for row in ROWS if row["id"] == one)) for one in chosen]
    assert all(low <= number <= high for (low, high), number in zip(bounds, picked, strict=True))
    assert set(chosen) <= set(levels)
    # Any method's set can be put into that order.
    near = ids(pool.select("my parcel", k=8, method="similarity", order="easy_to_hard"))
    assert [of(next(row for row in ROWS if row["id"] == one)) for one in near] == sorted(
        of(row) for row in ROWS if row["id"] in near
    )


def test_each_answer_is_asked_for_alone_in_the_pools_own_words(scoring: Live, scorer: ClosedFormScorer):
    prompt = {
        "demonstration": "Q {{ input }} => {{ output }}.",
        "query": "Q {{ input }}",
        "separator": "|",
        "system": "One of {{ labels | join(',') }}:",
        "output": "<{{ outputs }}>",
    }
    measured(filled(scoring, ROWS[:3], prompt=prompt))
    labels = ",".join(sorted(row["outputs"] for row in ROWS[:3]))
    assert [(pair.context, pair.completion) for pair in map(as_pair, scorer.pairs)] == [
        (f"One of {labels}:|Q {row['inputs']}", f" => <{row['outputs']}>") for row in ROWS[:3]
    ]


def test_nothing_changes_without_apply_and_the_result_says_what_to_set(scoring: Live):
    pool = filled(scoring)
    result = measured(pool)
    assert (result["applied"], result["settings"]) == (False, {"difficulty_field": "answer_nll"})
    assert pool.info()["settings"]["difficulty_field"] is None
    pool.patch(**result["settings"])
    assert ids(pool.select("a", k=30, method="cds", order="as_selected"))
    again = measured(pool)
    assert (again["settings"], again["applied"]) == ({}, False)


def test_what_is_known_is_not_asked_again_and_changed_answers_are(scoring: Live, scorer: ClosedFormScorer):
    pool = filled(scoring, difficulty_field="answer_nll")
    measured(pool)
    scorer.pairs.clear()
    changed = {**ROWS[4], "outputs": "quite another answer"}
    pool.add([changed, {"id": "new", "inputs": "a new one", "outputs": "new"}])
    pool.delete(ids=[ROWS[0]["id"]])
    pool.indexed()
    # Until then they count as the median, and the others stay what they are.
    assert len(ids(pool.select("a", k=40, method="cds"))) == 30
    result = measured(pool)
    assert (result["examples"], result["scored"], result["kept"]) == (30, 2, 28)
    assert len(scorer.pairs) == 2
    rows = [*ROWS[1:4], changed, *ROWS[5:], {"id": "new", "inputs": "a new one", "outputs": "new"}]
    shown = ids(pool.select("a", k=40, method="cds", order="easy_to_hard"))
    by_id = {row["id"]: nll(row) for row in rows}
    assert [by_id[one] for one in shown] == sorted(by_id.values())


def test_another_model_or_prompt_replaces_all_of_it(scoring: Live, scorer: ClosedFormScorer):
    pool = filled(scoring)
    measured(pool)
    pool.patch(prompt={"query": "{{ input }} ->", "demonstration": "{{ input }} -> {{ output }}"})
    result = measured(pool)
    assert (result["scored"], result["kept"]) == (30, 0)
    # The embedder has no part in it, and what is on disk outlives a change of it.
    job = pool.patch(embed_template="ticket {{ inputs }}")["job_id"]
    scoring.finished(job)
    result = measured(pool)
    assert (result["scored"], result["kept"]) == (0, 30)


def test_it_outlives_the_process(tmp_path: Path):
    with running(tmp_path, scorer=ClosedFormScorer(), scorer_url=URL) as live:
        measured(filled(live, difficulty_field="answer_nll"))
    with running(tmp_path) as live:
        shown = ids(live.pool().select("a", k=30, method="cds", order="easy_to_hard"))
        assert [nll(row) for one in shown for row in ROWS if row["id"] == one] == sorted(map(nll, ROWS))


def test_before_anything_was_scored_the_error_says_what_to_do(scoring: Live):
    pool = filled(scoring, difficulty_field="answer_perplexity")
    problem = pool.problem("/select", {"inputs": "a", "method": "cds"})
    assert "kshot pool difficulty" in problem["detail"]
    # Other methods need no difficulty.
    assert ids(pool.select("a", k=3, order="easy_to_hard"))


def test_answers_that_cannot_be_scored_are_counted_and_take_the_median(tmp_path: Path):
    long = {"id": "long", "inputs": "word " * 100, "outputs": "x"}
    with running(tmp_path, scorer=ClosedFormScorer(200), scorer_url=URL) as live:
        pool = filled(live, [*ROWS, long])
        result = measured(pool, apply=True)
        assert (result["scored"], result["failed"], result["failure"]) == (30, 1, "the context is too long")
        chosen = pool.select("a", k=3, method="cds", explain=True)
        assert chosen["explain"]["diagnostics"]["unknown"] == 1


def test_a_job_fails_where_none_can_be_scored(tmp_path: Path):
    with running(tmp_path, scorer=ClosedFormScorer(5), scorer_url=URL) as live:
        job = live.finished(ask(filled(live)).json()["id"])
    assert (job["state"], job["error"]["code"]) == ("failed", "invalid_input")
    assert "the context is too long" in job["error"]["detail"]


def test_answers_without_a_chance_are_the_hardest(scoring: Live):
    pool = filled(scoring, [*ROWS, {"id": "never", "inputs": "what", "outputs": "Z"}])
    result = measured(pool, apply=True)
    assert result["difficulty"]["largest"] == np.finfo(np.float64).max
    assert ids(pool.select("a", k=31, method="cds", order="easy_to_hard"))[-1] == "never"


def test_a_scorer_that_dies_fails_the_job_and_what_was_known_stays(scoring: Live, scorer: ClosedFormScorer):
    pool = filled(scoring, MORE[:10], difficulty_field="answer_nll")
    measured(pool)
    before = ids(pool.select("a", k=10, method="cds", order="easy_to_hard"))
    pool.add(MORE[10:])
    scorer.error, scorer.after_batches = ScorerUnavailable("nobody answers"), scorer.batches + 1
    job = scoring.finished(ask(pool).json()["id"])
    assert (job["state"], job["error"]["code"]) == ("failed", "scorer_unavailable")
    only = {"field": "id", "in": before}
    assert ids(pool.select("a", k=10, method="cds", order="easy_to_hard", filter=only)) == before
    scorer.error = None
    assert measured(pool)["scored"] == len(MORE) - 10


def test_a_stopped_server_finds_its_scores_again(tmp_path: Path):
    class Slow(ClosedFormScorer):
        stuck = False

        async def score_batch(self, pairs, options=_DEFAULTS):
            if len(self.pairs) == 2 * ROWS_AT_ONCE:
                self.stuck = True
                await asyncio.Event().wait()
            return await super().score_batch(pairs, options)

    slow, fast = Slow(), ClosedFormScorer()
    with running(tmp_path, scorer=slow, scorer_url=URL) as live:
        job_id = ask(filled(live, MORE)).json()["id"]
        wait_until(lambda: slow.stuck, "the third batch")
        assert live.job(job_id)["phase"] == "scoring"
    with running(tmp_path, scorer=fast, scorer_url=URL) as live:
        result = live.finished(job_id)["result"]
    assert (result["scored"], len(slow.pairs), len(fast.pairs)) == (len(MORE), 2 * ROWS_AT_ONCE, 22)


def test_what_cannot_be_asked_is_refused_at_once(scoring: Live, live: Live, scorer: ClosedFormScorer):
    empty = scoring.create("empty")
    empty.add([{"inputs": "no answer"}])
    assert "outputs" in the_problem(ask(empty))["detail"]
    assert pointers(the_problem(ask(filled(scoring), measure="length"))) == ["/measure"]
    assert the_problem(ask(scoring.pool("absent")), 404)["code"] == "pool_not_found"
    problem = the_problem(ask(filled(live)), 503)
    assert problem["code"] == "scorer_unavailable"
    assert "--scorer-url" in problem["detail"]


def test_the_whole_way_to_a_completion_server(tmp_path: Path):
    toy = ToyCompletionServer()
    rows = [
        {"id": f"r{i}", "inputs": f"is {word} the", "outputs": ("yes", "no", "banana Paris")[i % 3]}
        for i, word in enumerate(["New", "York", "banana", "Paris", "ring", "seat"])
    ]
    with toy.running() as url, running(tmp_path, scorer_url=url) as live:
        pool = filled(live, rows)
        result = measured(pool, apply=True)
        shown = ids(pool.select("is Paris", k=6, method="cds", order="easy_to_hard"))

    def exact(row: dict[str, Any]) -> float:
        context = toy.tokenizer.encode(f"Input: {row['inputs']}\nOutput:")
        answer = toy.tokenizer.encode(f" {row['outputs']}", add_special_tokens=False)
        return -toy.model.sum_nats(context, answer)

    numbers = sorted(map(exact, rows))
    # Some are equal but for rounding.
    found = [exact(row) for one in shown for row in rows if row["id"] == one]
    assert found == pytest.approx(numbers, abs=1e-9)
    assert result["difficulty"]["least"] == pytest.approx(numbers[0], abs=1e-4)
    assert result["difficulty"]["largest"] == pytest.approx(numbers[-1], abs=1e-4)
    assert json.dumps(result)
