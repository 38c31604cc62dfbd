"""Plans by confidences that the scorer gives: what it is asked, and what becomes of its answers."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from kshot.clients.embedders.hashing import HashingEmbedder
from kshot.clients.scorers.base import ScoringOptions
from kshot.errors import InvalidInput, ScorerUnavailable
from kshot.formatting import Prompt, QueryTurn, Turn
from kshot.server.services.planning.confidence import ROWS_AT_ONCE, nearest_last, surest
from tests.test_server.closed_form import ClosedFormScorer, greedy_of, path_nats
from tests.test_server.live import Live, LivePool, pointers, running, the_problem, tickets, wait_until

_DEFAULTS = ScoringOptions()
URL = "http://127.0.0.1:9/v1"


def rows_of(n: int, start: int = 0, *, labelled: bool) -> list[dict[str, Any]]:
    rows = tickets(n, start)
    for row in rows:
        del row["split"]
        if not labelled:
            del row["outputs"]
    return rows


LABELLED = rows_of(20, labelled=True)
OPEN = rows_of(30, 100, labelled=False)
MORE = rows_of(2 * ROWS_AT_ONCE + 22, 100, labelled=False)
"""Three batches."""


def prompt_of(row: dict[str, Any], labelled: list[dict[str, Any]], k: int = 8) -> str:
    """Lay the prompt out by brute force."""
    embedder = HashingEmbedder()
    texts = [row["inputs"], *(one["inputs"] for one in labelled)]
    vectors = embedder.encode(texts, token_layer=None).vectors
    cosines = (vectors[1:] @ vectors[0]).tolist()
    nearest = sorted(range(len(labelled)), key=lambda i: (-cosines[i], i))[:k]
    turns = [Turn.of(labelled[i]["inputs"], labelled[i]["outputs"]) for i in reversed(nearest)]
    return Prompt(turns, QueryTurn.of(row["inputs"])).text()


def by_label(row: dict[str, Any], labelled: list[dict[str, Any]]) -> float:
    prompt = prompt_of(row, labelled)
    labels = {one["outputs"] for one in labelled}
    return max(float(np.mean(path_nats(prompt, f" {label}"))) for label in labels)


def least_sure(confidences: dict[str, float], budget: int) -> list[str]:
    """Sort by rising confidence; equal ones as they are stored."""
    return sorted(confidences, key=lambda one: confidences[one])[:budget]


@pytest.fixture
def scorer() -> ClosedFormScorer:
    return ClosedFormScorer()


@pytest.fixture
def scoring(tmp_path: Path, scorer: ClosedFormScorer) -> Iterator[Live]:
    with running(tmp_path, scorer=scorer, scorer_url=URL) as made:
        yield made


def ask(pool: LivePool, **body: Any) -> httpx.Response:
    body = {"method": "least_confidence", "confidence": "scorer", "curve": False, **body}
    return pool.live.http.post("/v1/plans", json={"pool": pool.name, **body})


def plan_of(live: Live, plan_id: str) -> Any:
    return live.http.get(f"/v1/plans/{plan_id}").raise_for_status().json()


def ended(live: Live, plan_id: str) -> Any:
    final = {"succeeded", "failed", "cancelled"}
    wait_until(lambda: plan_of(live, plan_id)["state"] in final, f"the end of {plan_id}")
    return plan_of(live, plan_id)


def made(pool: LivePool, **body: Any) -> tuple[Any, list[str]]:
    response = ask(pool, **body)
    assert response.status_code == 202, response.text
    plan = ended(pool.live, response.json()["id"])
    assert (plan["state"], plan["error"]) == ("succeeded", None)
    page = pool.live.http.get(f"/v1/plans/{plan['id']}/items?limit=1000").json()
    return plan["result"], [item["id"] for item in page["data"]]


def filled(live: Live, labelled: Any = LABELLED, rows: Any = OPEN, **settings: Any) -> LivePool:
    pool = live.create(**settings)
    pool.add([*labelled, *rows])
    return pool


def test_of_few_labels_the_likeliest_one_is_the_measure(scoring: Live, scorer: ClosedFormScorer):
    result, planned = made(filled(scoring), budget=7)
    expected = {row["id"]: by_label(row, LABELLED) for row in OPEN}
    assert len(set(expected.values())) > 7
    assert planned == least_sure(expected, 7)
    assert len(scorer.pairs) == 30 * 5
    assert result["confidence"] == {
        "model": "bytes",
        "fingerprint": "bytes-1",
        "measure": "best_label",
        "labels": 5,
        "demonstrations": 8,
    }
    assert result["notices"] == []


@pytest.mark.parametrize("labels", ["many", "single"])
def test_otherwise_the_models_own_answer_is(scoring: Live, scorer: ClosedFormScorer, labels: str):
    n = 50 if labels == "many" else 20
    # 25 labels twice each, or texts that come once.
    named = {"many": lambda i: f"label {i % 25}", "single": lambda i: f"text {i}"}[labels]
    labelled = [{**row, "outputs": named(i)} for i, row in enumerate(rows_of(n, labelled=True))]
    result, planned = made(filled(scoring, labelled), budget=6)
    prompts = {row["id"]: prompt_of(row, labelled) for row in OPEN}
    expected = {one: greedy_of(prompt, 32).mean_nats for one, prompt in prompts.items()}
    assert planned == least_sure(expected, 6)
    assert sorted(map(str, scorer.prompts)) == sorted(prompts.values())
    assert (result["confidence"]["measure"], result["confidence"]["labels"]) == ("greedy_answer", None)


def test_the_prompt_is_the_pools_own(scoring: Live, scorer: ClosedFormScorer):
    prompt = {
        "demonstration": "Q {{ input }} => {{ output }}.",
        "query": "Q {{ input }}",
        "separator": "|",
        "system": "One of {{ labels | join(',') }}:",
    }
    made(filled(scoring, LABELLED, OPEN[:1], prompt=prompt), budget=1)
    contexts = {str(pair.context) for pair in scorer.pairs}  # type: ignore[attr-defined]  # pairs
    completions = {str(pair.completion) for pair in scorer.pairs}  # type: ignore[attr-defined]  # pairs
    (context,) = contexts
    assert context.startswith("One of ")
    assert context.endswith(f"|Q {OPEN[0]['inputs']}")
    # What stands between query and answer in a demonstration belongs to the answer.
    assert {one.split(" => ")[0] for one in completions} == {""}


def test_far_demonstrations_give_way_to_the_models_limit(tmp_path: Path):
    scorer = ClosedFormScorer(max_model_tokens=400)
    with running(tmp_path, scorer=scorer, scorer_url=URL) as live:
        result, _ = made(filled(live), budget=3)
    # " delivery" is estimated at 3 tokens, and half of what is left is filled where tokens are estimated.
    room = (400 - 3 - 1) // 2

    def longest_that_fits(row: dict[str, Any]) -> str:
        prompts = (prompt_of(row, LABELLED, k) for k in range(8, 0, -1))
        return next(prompt for prompt in prompts if len(prompt) <= 3.5 * room)

    contexts = {str(pair.context) for pair in scorer.pairs}  # type: ignore[attr-defined]  # pairs
    assert contexts == {longest_that_fits(row) for row in OPEN}
    assert max(context.count("Input: ") for context in contexts) < 9
    # A byte is a token of this model: the estimate was too low, and the start of prompts was cut.
    assert [notice["code"] for notice in result["notices"]] == ["confidence_cut"]


def test_vote_k_takes_the_confidences_too(scoring: Live, scorer: ClosedFormScorer):
    result, planned = made(filled(scoring), budget=12, method="vote_k")
    assert "fallback" not in result["diagnostics"] or not result["diagnostics"]["fallback"]
    assert len(planned) == 12
    assert len(scorer.pairs) == 30 * 5


def test_a_second_plan_asks_only_about_what_is_new(scoring: Live, scorer: ClosedFormScorer):
    pool = filled(scoring)
    first = made(pool, budget=5)
    scorer.pairs.clear()
    assert made(pool, budget=5) == first
    assert scorer.pairs == []
    pool.add(rows_of(3, 200, labelled=False))
    made(pool, budget=5)
    assert len(scorer.pairs) == 3 * 5


def test_rows_that_cannot_be_scored_are_the_least_sure_and_counted(tmp_path: Path):
    class Choosy(ClosedFormScorer):
        async def greedy(self, prompts, max_tokens, stop="\n"):
            if any("number103" in prompt for prompt in prompts):
                raise InvalidInput("a prompt leaves no room for the answer")
            return await super().greedy(prompts, max_tokens, stop)

    labelled = [{**row, "outputs": f"text {i}"} for i, row in enumerate(LABELLED)]
    with running(tmp_path, scorer=Choosy(), scorer_url=URL) as live:
        result, planned = made(filled(live, labelled), budget=3)
    assert planned[0] == "t00103"
    (notice,) = result["notices"]
    assert notice["code"] == "confidence_missing"
    assert notice["message"].startswith("1 of 30 unlabelled examples could not be scored: a prompt leaves")


def test_a_plan_fails_where_no_row_can_be_scored(tmp_path: Path):
    labelled = [{**row, "outputs": "Z"} for row in LABELLED]
    with running(tmp_path, scorer=ClosedFormScorer(), scorer_url=URL) as live:
        plan = ended(live, ask(filled(live, labelled), budget=3).json()["id"])
    assert (plan["state"], plan["error"]["code"]) == ("failed", "invalid_input")
    assert "the model rules out every answer" in plan["error"]["detail"]


def test_a_scorer_that_dies_fails_the_plan_and_what_it_gave_is_kept(scoring: Live, scorer: ClosedFormScorer):
    pool = filled(scoring, rows=MORE)
    scorer.error, scorer.after_batches = ScorerUnavailable("nobody answers"), 2
    plan = ended(scoring, ask(pool, budget=3).json()["id"])
    assert (plan["state"], plan["error"]) == (
        "failed",
        {"code": "scorer_unavailable", "detail": "nobody answers"},
    )
    scorer.error = None
    before = len(scorer.pairs)
    assert made(pool, budget=3)[1] == least_sure({row["id"]: by_label(row, LABELLED) for row in MORE}, 3)
    # The second batch was answered, but the scorer was gone before its model was confirmed: asked again.
    assert (before, len(scorer.pairs) - before) == (2 * 64 * 5, (64 + 22) * 5)


def test_a_plan_can_be_stopped_while_the_scorer_is_at_work(tmp_path: Path):
    class Gated(ClosedFormScorer):
        cancelled = False
        waits = False

        async def score_batch(self, pairs, options=_DEFAULTS):
            self.waits = True
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                self.cancelled = True
                raise

    scorer = Gated()
    with running(tmp_path, scorer=scorer, scorer_url=URL) as live:
        pool = filled(live)
        plan_id = ask(pool, budget=3).json()["id"]
        wait_until(lambda: scorer.waits, "the first request")
        wait_until(lambda: plan_of(live, plan_id)["phase"] == "scoring", "the phase")
        live.http.delete(f"/v1/plans/{plan_id}").raise_for_status()
        wait_until(lambda: scorer.cancelled, "the end of the request")
        assert ended(live, plan_id)["state"] == "cancelled"


def test_a_stopped_server_takes_up_a_plan_where_its_scores_end(tmp_path: Path):
    class Slow(ClosedFormScorer):
        stuck = False

        async def score_batch(self, pairs, options=_DEFAULTS):
            if len(self.pairs) == 2 * 64 * 5:
                self.stuck = True
                await asyncio.Event().wait()
            return await super().score_batch(pairs, options)

    slow, fast = Slow(), ClosedFormScorer()
    with running(tmp_path, scorer=slow, scorer_url=URL) as live:
        plan_id = ask(filled(live, rows=MORE), budget=4).json()["id"]
        wait_until(lambda: slow.stuck, "the third batch")
    with running(tmp_path, scorer=fast, scorer_url=URL) as live:
        assert ended(live, plan_id)["state"] == "succeeded"
        page = live.http.get(f"/v1/plans/{plan_id}/items").json()
    assert [item["id"] for item in page["data"]] == least_sure(
        {row["id"]: by_label(row, LABELLED) for row in MORE}, 4
    )
    assert (len(slow.pairs), len(fast.pairs)) == (2 * 64 * 5, 22 * 5)


def test_what_cannot_be_asked_is_refused_at_once(scoring: Live, live: Live):
    pool = filled(scoring)
    assert pointers(the_problem(ask(pool, budget=1, method="k_center"))) == ["/confidence"]
    both = ask(pool, budget=1, confidence_field="metadata.sure")
    assert "at most one of confidence and confidence_field" in the_problem(both)["detail"]
    assert pointers(the_problem(ask(pool, budget=1, confidence="oracle"))) == ["/confidence"]
    bare = scoring.create("bare")
    bare.add(OPEN)
    assert pointers(the_problem(ask(bare, budget=1))) == ["/confidence"]
    without = live.create("without")
    without.add([*LABELLED, *OPEN])
    problem = the_problem(ask(without, budget=1), 503)
    assert problem["code"] == "scorer_unavailable"
    assert "--scorer-url" in problem["detail"]


def test_the_nearest_stands_last_and_the_first_of_equals_is_nearer():
    vectors = np.array([[1, 0], [0, 1], [1, 0], [0.6, 0.8]], np.float32)
    assert nearest_last(vectors, np.array([1, 0], np.float32), 3).tolist() == [3, 2, 0]
    assert nearest_last(vectors, np.array([1, 0], np.float32), 9).tolist() == [1, 3, 2, 0]


def test_the_surest_answer_is_that_of_the_largest_mean():
    assert surest([-4.0, -3.0], [4, 2]) == -1.0
    assert surest([-np.inf, -3.0], [1, 2]) == -1.5
    assert np.isnan(surest([-np.inf], [1]))
    assert np.isnan(surest([], []))
