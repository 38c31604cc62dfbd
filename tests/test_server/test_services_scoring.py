"""Likelihoods over the real service: what is answered, remembered, refused, and shown of the scorer."""

import math
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from kshot.clients.scorers.base import AuditReport, Canary
from kshot.errors import MissingDependency, ScorerUnavailable
from kshot.server.app import create_app
from kshot.server.metrics import Metrics
from kshot.server.services import Services
from kshot.server.services.scoring import service
from kshot.server.services.scoring.service import ScoringService
from kshot.server.settings import Settings
from tests.test_server.closed_form import ClosedFormScorer, path_nats
from tests.test_server.live import Live, pointers, running, served, the_problem, wait_until

URL = "http://127.0.0.1:9/v1"


@pytest.fixture
def scorer() -> ClosedFormScorer:
    return ClosedFormScorer()


@pytest.fixture
def scoring(tmp_path: Path, scorer: ClosedFormScorer) -> Iterator[Live]:
    with running(tmp_path, scorer=scorer, scorer_url=URL) as made:
        yield made


def ask(live: Live, **body: Any) -> Any:
    response = live.http.post("/v1/score", json=body)
    assert response.status_code == 200, response.text
    return response.json()


def refused(live: Live, status: int = 422, **body: Any) -> Any:
    return the_problem(live.http.post("/v1/score", json=body), status)


def test_pairs_get_the_sum_of_their_tokens_and_what_follows_from_it(scoring: Live):
    pairs = [{"context": "the sky is", "completion": " blé"}, {"context": [1, 2], "completion": [3, 4]}]
    reply = ask(scoring, pairs=pairs, per_token=True, boundary="separate")
    first, second = reply["results"]
    values = path_nats("the sky is", " blé")
    # " blé" is four characters, five bytes, and of this model as many tokens.
    assert first["sum_nats"] == first["score"] == sum(values)
    assert first["mean_token_nats"] == first["per_byte_nats"] == sum(values) / 5
    assert first["per_character_nats"] == sum(values) / 4
    assert (first["tokens"], first["bytes"], first["characters"]) == (5, 5, 4)
    assert first["per_token_nats"] == values
    assert (first["boundary"], first["mode"], first["cached"]) == ("separate", "trie", False)
    assert first["pmi_nats"] is None
    assert first["error"] is None
    assert second["sum_nats"] == sum(path_nats([1, 2], [3, 4]))
    assert reply["best"] is None
    assert (reply["backend"], reply["model"], reply["fingerprint"]) == ("closed-form", "bytes", "bytes-1")


@pytest.mark.parametrize("normalisation", ["sum", "mean_token", "per_byte", "per_character", "pmi"])
def test_options_are_compared_by_the_normalisation(scoring: Live, normalisation: str):
    options = ["a", "ab", "héh", "bbbbbbb"]
    reply = ask(
        scoring,
        context="c",
        options=options,
        normalisation=normalisation,
        unconditional_context="x",
    )
    expected = []
    for option in options:
        nats = sum(path_nats("c", option))
        lengths = {
            "sum": 1,
            "mean_token": len(option.encode()),
            "per_byte": len(option.encode()),
            "per_character": len(option),
        }
        pmi = nats - sum(path_nats("x", option))
        expected.append(pmi if normalisation == "pmi" else nats / lengths[normalisation])
    assert [one["score"] for one in reply["results"]] == expected
    assert reply["best"] == expected.index(max(expected))
    assert reply["normalisation"] == normalisation


def test_a_terminator_is_part_of_every_completion(scoring: Live):
    reply = ask(scoring, context="c", options=["a", "ab"], terminator="newline")
    assert [one["sum_nats"] for one in reply["results"]] == [
        sum(path_nats("c", "a\n")),
        sum(path_nats("c", "ab\n")),
    ]
    assert reply["results"][0]["tokens"] == 2


def test_what_the_model_rules_out_is_null_and_said_so(scoring: Live):
    reply = ask(scoring, context="c", options=["Z", "aZ", "a"], per_token=True)
    first, second, third = reply["results"]
    assert (first["sum_nats"], first["score"], first["ruled_out"], first["error"]) == (None, None, True, None)
    assert second["per_token_nats"] == [path_nats("c", "a")[0], None]
    assert not third["ruled_out"]
    assert reply["best"] == 2
    everything = ask(scoring, context="c", options=["Z"], normalisation="pmi", unconditional_context="x")
    # Of two infinities there is no difference.
    assert (everything["results"][0]["score"], everything["best"]) == (None, 0)


def test_the_first_of_equals_is_the_best(scoring: Live):
    assert ask(scoring, context="c", options=["b", "a", "a"])["best"] == (
        0 if path_nats("c", "b") >= path_nats("c", "a") else 1
    )
    assert ask(scoring, context="c", options=["Z", "Z"])["best"] == 0


def test_an_item_that_cannot_be_scored_stops_no_other(scoring: Live):
    good = {"context": "c", "completion": "a"}
    pairs = [
        good,
        {"context": "c"},
        {"context": "c", "completion": ""},
        7,
        {"context": [-1], "completion": "a"},
        {"context": "c", "completion": "a", "weight": 1},
        good,
    ]
    results = ask(scoring, pairs=pairs)["results"]
    assert [one["error"] is None for one in results] == [True, False, False, False, False, False, True]
    assert results[0] == results[6]
    assert results[2]["error"] == {"code": "invalid_input", "message": "the completion has no tokens"}
    assert {one["error"]["code"] for one in results if one["error"]} == {"invalid_input"}
    assert all(one["sum_nats"] is None for one in results if one["error"])
    options = ask(scoring, context="c", options=["", "a", None])
    assert [one["error"] is None for one in options["results"]] == [False, True, False]
    assert options["best"] == 1
    assert ask(scoring, context="c", options=[""])["best"] is None


def test_contexts_that_are_too_long_fail_or_are_cut_as_asked(tmp_path: Path):
    with running(tmp_path, scorer=ClosedFormScorer(max_model_tokens=8), scorer_url=URL) as live:
        (one,) = ask(live, context="0123456789", options=["ab"])["results"]
        assert one["error"]["code"] == "payload_too_large"
        (two,) = ask(live, context="0123456789", options=["ab"], on_overflow="left")["results"]
        assert (two["dropped"], two["sum_nats"]) == (5, sum(path_nats("56789", "ab")))
        # The unconditional context is what does not fit.
        body = {"context": "c", "options": ["ab"], "unconditional_context": "0123456789"}
        (three,) = ask(live, **body)["results"]
        assert (three["pmi_nats"], three["error"]) == (None, None)
        (four,) = ask(live, **body, normalisation="pmi")["results"]
        assert four["error"]["message"] == "given the unconditional context: the context is too long"


def test_a_score_is_computed_once_also_over_a_restart(tmp_path: Path, scorer: ClosedFormScorer):
    body = {"context": "c", "options": ["a", "b", "a"]}
    with running(tmp_path, scorer=scorer, scorer_url=URL) as live:
        first = ask(live, **body)
        again = ask(live, **body)
        assert [one["cached"] for one in again["results"]] == [True, True, True]
        text = live.http.get("/metrics").text
        assert 'kshot_score_cache_total{outcome="memory"} 2.0' in text
        assert 'kshot_score_cache_total{outcome="miss"} 2.0' in text
    with running(tmp_path, scorer=scorer, scorer_url=URL) as live:
        later = ask(live, **body)
        assert 'kshot_score_cache_total{outcome="store"} 2.0' in live.http.get("/metrics").text
    assert later == again
    assert [one["score"] for one in later["results"]] == [one["score"] for one in first["results"]]
    assert len(scorer.pairs) == 2
    assert scorer.closed == 2


@pytest.mark.parametrize(
    ("body", "place"),
    [
        ({}, ""),
        ({"pairs": []}, "/pairs"),
        ({"context": "c"}, ""),
        ({"options": ["a"]}, ""),
        ({"pairs": [{}], "context": "c", "options": ["a"]}, ""),
        ({"context": "c", "options": ["a"], "normalisation": "pmi"}, ""),
        ({"context": "c", "options": ["a"], "normalisation": "max"}, "/normalisation"),
        ({"context": "c", "options": ["a"] * 10_001}, "/options"),
        ({"context": "c" * 262_145, "options": ["a"]}, "/context"),
        ({"context": "c", "options": ["a"], "boundary": "left"}, "/boundary"),
        ({"context": "c", "options": ["a"], "temperature": 1}, "/temperature"),
    ],
)
def test_a_request_that_makes_no_sense_is_refused_as_a_whole(scoring: Live, body: Any, place: str):
    problem = refused(scoring, **body)
    assert pointers(problem) == [place]


def test_ten_thousand_options_are_scored(scoring: Live):
    options = [f"{i:05d}" for i in range(10_000)]
    reply = ask(scoring, context="c", options=options)
    expected = [sum(path_nats("c", option)) for option in options]
    assert [one["score"] for one in reply["results"]] == expected
    assert reply["best"] == expected.index(max(expected))


def test_without_a_scorer_everything_else_works_and_scoring_says_how_to_get_one(live: Live):
    problem = refused(live, 503, context="c", options=["a"])
    assert problem["code"] == "scorer_unavailable"
    assert "--scorer-url" in problem["detail"]
    ready = live.http.get("/readyz")
    assert ready.status_code == 200
    assert "scorer" not in ready.json()["checks"]
    info = live.http.get("/v1/scorer").json()
    assert (info["kind"], info["state"], info["modes"]) == ("none", "none", [])
    assert "--scorer-url" in info["detail"]


def test_a_scorer_shows_what_it_can_do(scoring: Live):
    info = scoring.http.get("/v1/scorer").json()
    assert info == {
        "kind": "vllm",
        "state": "ok",
        "detail": None,
        "required": False,
        "backend": "closed-form",
        "model": "bytes",
        "fingerprint": "bytes-1",
        "max_model_tokens": 100_000,
        "modes": ["echo", "trie"],
        "tolerance_nats": 0.0,
        "refusals": [],
        "nondeterministic": False,
        "canaries": [],
        "audit": None,
    }
    assert scoring.http.get("/readyz").json() == {"ready": True, "checks": {"store": "ok", "scorer": "ok"}}


@pytest.mark.parametrize("alarm_nats", [None, 0.3, math.inf])
def test_an_alarm_of_the_audit_is_shown_and_hinders_nothing(tmp_path: Path, alarm_nats: float | None):
    scorer = ClosedFormScorer()
    report = AuditReport(checked=40, p99_nats=0.01, alarms=1, alarm_nats=alarm_nats)
    canaries = (Canary(name="C6", passed=False, detail="alone and in a batch: differ"),)
    scorer.known = replace(scorer.known, audit=report, canaries=canaries, nondeterministic=True)
    with running(tmp_path, scorer=scorer, scorer_url=URL, scorer_required=True) as live:
        info = live.http.get("/v1/scorer").json()
        shown = 9999.0 if alarm_nats == math.inf else alarm_nats
        assert info["audit"] == {"checked": 40, "p99_nats": 0.01, "alarms": 1, "alarm_nats": shown}
        assert info["canaries"] == [{"name": "C6", "passed": False, "detail": "alone and in a batch: differ"}]
        assert info["nondeterministic"]
        ready = live.http.get("/readyz")
        assert ready.status_code == 200
        said = ready.json()["checks"]["scorer"]
        assert said == "ok" if alarm_nats is None else said.startswith("ok; alarm: two ways to score differ")


def test_scores_are_counted_by_mode_and_by_what_was_wrong(scoring: Live):
    ask(scoring, context="c", options=["a", "b", ""])
    text = scoring.http.get("/metrics").text
    assert 'kshot_scores_total{outcome="trie"} 2.0' in text
    assert 'kshot_scores_total{outcome="invalid_input"} 1.0' in text


@pytest.mark.parametrize("required", [False, True])
def test_a_refused_scorer_is_shown_and_hinders_only_where_it_is_required(tmp_path: Path, required: bool):
    scorer = ClosedFormScorer()
    scorer.refuse("C7: every option scores the same")
    with running(tmp_path, scorer=scorer, scorer_url=URL, scorer_required=required) as live:
        info = live.http.get("/v1/scorer").json()
        assert (info["state"], info["detail"]) == ("refused", "C7: every option scores the same")
        ready = live.http.get("/readyz")
        assert ready.status_code == (503 if required else 200)
        assert ready.json()["checks"]["scorer"] == "refused: C7: every option scores the same"
        problem = refused(live, 503, context="c", options=["a"])
        assert problem["code"] == "scorer_unavailable"
        assert "C7: every option scores the same" in problem["detail"]
        assert live.create().info()["examples"] == 0


def test_a_scorer_that_does_not_answer_is_looked_at_again(tmp_path: Path):
    scorer = ClosedFormScorer()
    scorer.error = ScorerUnavailable("nobody answers at the scorer's address")
    with running(tmp_path, scorer=scorer, scorer_url=URL) as live:
        info = live.http.get("/v1/scorer").json()
        assert (info["state"], info["detail"]) == ("scorer_unavailable", scorer.error.message)
        assert live.http.get("/readyz").json()["checks"]["scorer"] == "scorer_unavailable"
        assert refused(live, 503, context="c", options=["a"])["detail"] == scorer.error.message
        scorer.error = None
        # A score is asked for at once; what is shown is as old as it may be.
        assert ask(live, context="c", options=["a"])["best"] == 0


async def test_old_news_of_a_scorer_are_fetched_again_without_anybody_waiting(tmp_path: Path):
    services = Services(Settings(data_dir=tmp_path, scorer_url=URL), Metrics(), make_scorer=ClosedFormScorer)
    scoring: ScoringService = services.scoring
    assert scoring.check() == "starting"
    assert (await scoring.info()).state == "ok"
    assert scoring.check() == "ok"
    scoring._looked_s = time.monotonic() - service.LOOK_EVERY_S - 1
    built = scoring._scorer
    assert built is not None
    built._scorer.refuse("C1: no list of log-probabilities")  # type: ignore[attr-defined]
    assert scoring.check() == "ok"
    assert (await scoring.info()).state == "refused"
    assert scoring.check() == "refused: C1: no list of log-probabilities"
    await scoring.close()
    services.store.close()


def test_a_scorer_that_cannot_be_built_says_why(tmp_path: Path):
    class Absent:
        calls = 0

        def __call__(self) -> Any:
            self.calls += 1
            raise MissingDependency.of("transformers", extra="embedded", purpose="the scorer")

    absent = Absent()
    app = create_app(
        Services(
            Settings(data_dir=tmp_path, scorer="transformers", scorer_model="m"),
            Metrics(),
            make_scorer=absent,
        ),
        Settings(),
    )
    with served(app) as live:
        wait_until(lambda: absent.calls, "the first try")
        problem = refused(live, 501, context="c", options=["a"])
        assert 'pip install "kshot[embedded]"' in problem["detail"]
        assert live.http.get("/v1/scorer").json()["state"] == "missing_dependency"
        assert live.http.get("/readyz").status_code == 200


def test_no_number_is_ever_infinite_on_the_wire(scoring: Live):
    text = scoring.http.post("/v1/score", json={"context": "c", "options": ["Z", "a"]}).text
    assert "Infinity" not in text
    assert "NaN" not in text
    assert math.isfinite(ask(scoring, context="c", options=["a"])["results"][0]["score"])
