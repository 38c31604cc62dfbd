"""Selections that the scorer decides: what they may cost, and what holds where it does not answer."""

import asyncio
import math
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from kshot.clients.scorers.base import ScoringOptions
from kshot.errors import InvalidInput, ScorerUnavailable
from tests.test_server.closed_form import ClosedFormScorer
from tests.test_server.live import Live, LivePool, ids, pointers, running, the_problem, wait_until
from tests.test_server.live_mdl import (
    QUERY,
    ROWS,
    URL,
    filled,
    laid_out,
    named,
    prompt_of,
)

_DEFAULTS = ScoringOptions()


@pytest.fixture
def scorer() -> ClosedFormScorer:
    return ClosedFormScorer()


@pytest.fixture
def scoring(tmp_path: Path, scorer: ClosedFormScorer) -> Iterator[Live]:
    with running(tmp_path, scorer=scorer, scorer_url=URL) as made:
        yield made


@pytest.fixture
def pool(scoring: Live) -> LivePool:
    return filled(scoring)


# --- cost ---


def test_what_would_cost_too_much_is_refused_with_the_estimate(tmp_path: Path):
    scorer = ClosedFormScorer()
    with running(tmp_path, scorer=scorer, scorer_url=URL, scorer_query_tokens=2_000) as live:
        pool = filled(live)
        problem = the_problem(pool.request("POST", "/select", {"inputs": QUERY, "method": "mdl", "k": 4}))
        assert (problem["code"], pointers(problem)) == ("too_costly", ["/method"])
        tokens = sum(math.ceil(len(prompt_of(rows)) / 3.5) for rows in laid_out(4)) * 5
        assert f"50 prompts of {tokens:,} tokens together (10 organisations x 5 labels)" in problem["detail"]
        assert "allowed 2,000 tokens" in problem["detail"]
        assert "KSHOT_SCORER_QUERY_TOKENS" in problem["detail"]
        assert scorer.pairs == []
        problem = the_problem(
            pool.request("POST", "/select", {"inputs": QUERY, "k": 4, "method": "similarity", "order": "mdl"})
        )
        assert (problem["code"], pointers(problem)) == ("too_costly", ["/order"])
        cheaper = {"type": "mdl", "organisations": 2}
        assert not pool.select(QUERY, k=2, method=cheaper)["degraded"]


def test_labels_of_one_token_cost_one_prompt_an_organisation(tmp_path: Path):
    from tokenizers import Tokenizer, models, pre_tokenizers  # noqa: PLC0415  only here

    words = Tokenizer(models.WordLevel({"[UNK]": 0}, unk_token="[UNK]"))
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    path = tmp_path / "tokenizer.json"
    words.save(str(path))
    with running(tmp_path / "data", scorer=ClosedFormScorer(), scorer_url=URL) as live:
        chosen = filled(live, tokenizer=str(path)).select(QUERY, k=3, method="mdl", explain=True)
        facts = chosen["explain"]["diagnostics"]
        assert facts["scorer_prompts"] == 10
        assert facts["scorer_tokens"] == sum(len(prompt_of(rows).split()) for rows in laid_out(3))


# --- without the scorer ---


def test_where_none_is_configured_the_error_says_so(live: Live):
    pool = filled(live)
    for body in ({"method": "mdl"}, {"order": "mdl"}):
        problem = the_problem(pool.request("POST", "/select", {"inputs": QUERY, **body}), 503)
        assert problem["code"] == "scorer_unavailable"
        assert "--scorer-url" in problem["detail"]


@pytest.mark.parametrize(
    "error", [ScorerUnavailable("nobody answers"), InvalidInput("the scorer cannot read this")]
)
def test_where_it_fails_the_plain_top_k_answers_and_says_why(
    pool: LivePool, scorer: ClosedFormScorer, error: Exception
):
    plain = pool.select(QUERY, k=4, method="similarity")
    scorer.error = error
    chosen = pool.select(QUERY, k=4, method="mdl", explain=True)
    assert ids(chosen) == ids(plain)
    assert chosen["degraded"]
    (warning,) = chosen["warnings"]
    assert warning["code"] == "degraded"
    assert str(error) in warning["message"]
    assert chosen["explain"]["diagnostics"]["organisation"] == 0
    metrics = pool.live.http.get("/metrics").text
    assert 'kshot_select_total{outcome="degraded",pool="tickets"} 1.0' in metrics


def test_a_scorer_that_is_refused_is_as_good_as_down(pool: LivePool, scorer: ClosedFormScorer):
    scorer.refuse("C1 failed")
    chosen = pool.select(QUERY, k=4, method="mdl")
    assert chosen["degraded"]
    assert ids(chosen) == ids(pool.select(QUERY, k=4, method="similarity"))


def test_one_that_is_late_is_not_waited_for_beyond_the_deadline(tmp_path: Path):
    class Stuck(ClosedFormScorer):
        cancelled = 0

        async def score_batch(self, pairs, options=_DEFAULTS):
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                self.cancelled += 1
                raise

    scorer = Stuck()
    with running(tmp_path, scorer=scorer, scorer_url=URL) as live:
        pool = filled(live)
        plain = pool.select(QUERY, k=4, method="similarity")
        for options in ({"method": "mdl"}, {"method": "similarity", "order": "mdl"}):
            chosen = pool.select(QUERY, k=4, deadline_ms=600, **options)
            assert ids(chosen) == ids(plain)
            assert chosen["degraded"]
            assert "of deadline_ms, and was late" in chosen["warnings"][0]["message"]
        assert scorer.cancelled == 2
        # What the scorer took is not held against the method.
        took_ms = live.services.registry.get(pool.name).pace.expected_ms("similarity")
        assert took_ms is not None
        assert took_ms < 500


def test_others_are_served_while_selections_wait_for_the_scorer(tmp_path: Path):
    class Held(ClosedFormScorer):
        waiting = 0

        async def score_batch(self, pairs, options=_DEFAULTS):
            if not self.waiting:
                self.loop, self.opened = asyncio.get_running_loop(), asyncio.Event()
            self.waiting += 1
            await self.opened.wait()
            return await super().score_batch(pairs, options)

    scorer = Held()
    with (
        running(tmp_path, scorer=scorer, scorer_url=URL, select_concurrency=1, select_queue=1) as live,
        ThreadPoolExecutor(2) as threads,
    ):
        pool = filled(live)
        held = [threads.submit(pool.select, QUERY, k=2, method="mdl") for _ in range(2)]
        wait_until(lambda: scorer.waiting == 2, "both questions")
        assert not pool.select(QUERY, k=2, method="similarity")["degraded"]
        third = pool.request("POST", "/select", {"inputs": QUERY, "method": "mdl", "k": 2})
        assert the_problem(third, 429)["code"] == "overloaded"
        scorer.loop.call_soon_threadsafe(scorer.opened.set)
        assert [one.result()["degraded"] for one in held] == [False, False]


def test_a_prompt_that_cannot_be_scored_is_not_chosen(tmp_path: Path):
    # A byte is a token: half of the organisations fit with the longest label.
    longest = sorted(len(prompt_of(rows)) for rows in laid_out(4))[5] + len(" delivery")
    with running(tmp_path, scorer=ClosedFormScorer(longest), scorer_url=URL) as live:
        chosen = filled(live).select(QUERY, k=4, method="mdl", explain=True)
    entropies = chosen["explain"]["diagnostics"]["entropies"]
    ways = laid_out(4)
    room = [len(prompt_of(rows)) + len(" delivery") < longest for rows in ways]
    assert [one is not None for one in entropies] == room
    assert 0 < sum(room) < 10
    known = [one if one is not None else math.inf for one in entropies]
    assert ids(chosen) == named(ways[known.index(min(known))])
    assert not chosen["degraded"]


def test_where_no_prompt_can_be_scored_the_plain_top_k_answers(tmp_path: Path):
    with running(tmp_path, scorer=ClosedFormScorer(20), scorer_url=URL) as live:
        chosen = filled(live).select(QUERY, k=4, method="mdl")
    assert chosen["degraded"]
    assert "the context is too long" in chosen["warnings"][0]["message"]


# --- what cannot be asked ---


def test_what_cannot_be_asked_is_refused(scoring: Live, pool: LivePool):
    for body, pointer in (
        ({"inputs": QUERY, "method": "mdl", "sticky": {}}, "/method"),
        ({"inputs": QUERY, "order": "mdl", "sticky": {}}, "/order"),
        ({"inputs": QUERY, "method": {"type": "mdl", "objective": "entropy"}}, "/method/objective"),
        ({"inputs": QUERY, "method": {"type": "mdl", "organisations": 0}}, "/method/organisations"),
    ):
        assert pointers(the_problem(pool.request("POST", "/select", body))) == [pointer]
    own = scoring.create("own", embedder={"type": "external", "dimension": 2})
    own.add({"id": f"r{i}", "inputs": f"a{i}", "outputs": f"o{i % 2}", "vector": [1, i]} for i in range(9))
    assert pointers(own.problem("/select", {"vector": [1, 1], "method": "mdl"})) == ["/method"]
    by_vector = {"vector": [1, 1], "method": "similarity", "order": "mdl"}
    assert pointers(own.problem("/select", by_vector)) == ["/order"]
    assert not own.select("a1", vector=[1, 1], k=3, method="mdl")["degraded"]


def test_a_pool_without_labels_is_told_so(scoring: Live):
    pool = scoring.create("free", label_field="metadata.intent")
    pool.add(ROWS)
    problem = pool.problem("/select", {"inputs": QUERY, "method": "mdl"})
    assert pointers(problem) == ["/method"]
    assert "label_field" in problem["detail"]
