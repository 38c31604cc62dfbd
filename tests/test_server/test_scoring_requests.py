"""Contexts of parts and chats, labels of several forms: over the real service and a scorer in closed form."""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from kshot.clients.scorers.base import Chat, Message, Parts
from kshot.server.services.scoring.items import log_sum_exp
from tests.test_server.closed_form import ClosedFormScorer, path_nats
from tests.test_server.live import Live, pointers, running, the_problem

URL = "http://127.0.0.1:9/v1"
CHAT = {"messages": [{"role": "system", "content": "s"}, {"role": "user", "content": "u"}]}


@pytest.fixture
def scorer() -> ClosedFormScorer:
    return ClosedFormScorer(max_model_tokens=30)


@pytest.fixture
def scoring(tmp_path: Path, scorer: ClosedFormScorer) -> Iterator[Live]:
    with running(tmp_path, scorer=scorer, scorer_url=URL) as made:
        yield made


def ask(live: Live, **body: Any) -> Any:
    response = live.http.post("/v1/score", json=body)
    assert response.status_code == 200, response.text
    return response.json()


def added(*nats: float) -> Any:
    return pytest.approx(math.log(sum(map(math.exp, nats))), abs=1e-12)


def test_demonstrations_are_dropped_on_request_and_it_is_said(scoring: Live):
    parts = {"instruction": "i:", "demonstrations": ["first;", "second;", "third;"], "query": "q:"}
    whole = "i:first;second;third;q:"
    (fits,) = ask(scoring, context=parts, options=["a"])["results"]
    assert (fits["sum_nats"], fits["truncated"]) == (sum(path_nats(whole, "a")), False)
    (refused,) = ask(scoring, context=parts, options=["a" * 8])["results"]
    assert refused["error"]["code"] == "payload_too_large"
    (one,) = ask(scoring, context=parts, options=["a" * 8], on_overflow="drop_demos")["results"]
    assert one["sum_nats"] == sum(path_nats("i:second;third;q:", "a" * 8))
    assert (one["truncated"], one["dropped"], one["dropped_demonstrations"]) == (True, 6, 1)
    (again,) = ask(scoring, context=parts, options=["a" * 8], on_overflow="drop_demos")["results"]
    assert again == one | {"cached": True}
    (left,) = ask(scoring, context=parts, options=["a" * 8], on_overflow="left")["results"]
    assert (left["dropped"], left["dropped_demonstrations"], left["truncated"]) == (2, 0, True)


def test_parts_that_lose_nothing_score_as_their_text(scoring: Live):
    parts = {"demonstrations": ["x", "y"], "query": "q"}
    first = ask(scoring, context="xyq", options=["a"])["results"]
    second = ask(scoring, context=parts, options=["a"])["results"]
    assert second == [first[0] | {"cached": True}]


def test_a_chat_reaches_the_scorer_as_it_is(scoring: Live, scorer: ClosedFormScorer):
    switches = {"style": "short", "strict": True}
    context = {**CHAT, "template_switches": switches}
    reply = ask(scoring, pairs=[{"context": context, "completion": "a"}])
    messages = (Message(role="system", content="s"), Message(role="user", content="u"))
    expected = Chat(messages=messages, template_switches='{"strict": true, "style": "short"}')
    assert [pair.context for pair in scorer.pairs] == [expected]  # type: ignore[attr-defined]
    assert reply["results"][0]["sum_nats"] == path_nats(expected, "a")[0]


def test_the_unconditional_context_may_be_of_any_kind(scoring: Live):
    reply = ask(
        scoring, context="c", options=["a"], normalisation="pmi", unconditional_context={"query": "none"}
    )
    expected = path_nats("c", "a")[0] - path_nats(Parts(query="none"), "a")[0]
    assert reply["results"][0]["score"] == expected


def test_the_forms_of_a_label_add_up(scoring: Live):
    options = [{"forms": ["yes", "Yes", [121]]}, "no", {"forms": ["b"]}]
    reply = ask(scoring, context="c", options=options, per_token=True)
    forms = [sum(path_nats("c", one)) for one in ("yes", "Yes", "y")]
    label, plain, single = reply["results"]
    assert label["score"] == label["sum_nats"] == added(*forms)
    assert [one["sum_nats"] for one in label["forms"]] == forms
    assert [one["tokens"] for one in label["forms"]] == [3, 3, 1]
    assert label["forms"][0]["per_token_nats"] == path_nats("c", "yes")
    assert (label["tokens"], label["mean_token_nats"], label["boundary"]) == (None, None, None)
    assert plain["forms"] is None
    assert single["score"] == path_nats("c", "b")[0]
    scores = [one["score"] for one in reply["results"]]
    assert reply["best"] == scores.index(max(scores))


def test_equal_forms_count_once(scoring: Live):
    (label,) = ask(scoring, context="c", options=[{"forms": ["a", "a"]}])["results"]
    assert label["score"] == path_nats("c", "a")[0]
    assert len(label["forms"]) == 1


def test_of_labels_the_pmi_is_that_of_their_sums(scoring: Live):
    (label,) = ask(
        scoring,
        context="c",
        options=[{"forms": ["a", "b"]}],
        normalisation="pmi",
        unconditional_context="x",
    )["results"]
    given, base = ([path_nats(context, one)[0] for one in "ab"] for context in "cx")
    expected = math.log(sum(map(math.exp, given))) - math.log(sum(map(math.exp, base)))
    assert label["score"] == label["pmi_nats"] == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("normalisation", ["mean_token", "per_byte", "per_character"])
def test_a_label_has_no_length(scoring: Live, normalisation: Any):
    options = [{"forms": ["a", "b"]}, "c"]
    label, plain = ask(scoring, context="c", options=options, normalisation=normalisation)["results"]
    assert label["error"]["code"] == "invalid_parameter"
    assert label["score"] is None
    assert plain["score"] == path_nats("c", "c")[0]


def test_a_form_without_a_score_leaves_its_label_without_one(scoring: Live):
    options = [{"forms": ["a", ""]}, {"forms": ["Z", "ZZ"]}, {"forms": ["Z", "a"]}]
    broken, ruled_out, half = ask(scoring, context="c", options=options)["results"]
    assert broken["error"] == {"code": "invalid_input", "message": "form 1: the completion has no tokens"}
    assert broken["sum_nats"] is None
    assert (ruled_out["sum_nats"], ruled_out["ruled_out"], ruled_out["error"]) == (None, True, None)
    assert half["sum_nats"] == path_nats("c", "a")[0]
    long = ask(
        scoring,
        context="c",
        options=[{"forms": ["a"]}],
        normalisation="pmi",
        unconditional_context="x" * 40,
    )
    assert long["results"][0]["error"]["code"] == "payload_too_large"


def test_labels_are_remembered_form_by_form(scoring: Live, scorer: ClosedFormScorer):
    ask(scoring, context="c", options=[{"forms": ["a", "b"]}], boundary="harness")
    reply = ask(scoring, context="c", options=[{"forms": ["b", "a"]}, "a"], boundary="harness")
    assert [one["cached"] for one in reply["results"]] == [True, True]
    assert len(scorer.pairs) == 2


@pytest.mark.parametrize(
    ("context", "place"),
    [
        ({"messages": []}, "/context/messages"),
        ({"messages": [{"role": "user"}]}, "/context/messages/0/content"),
        ({"demonstrations": "x"}, "/context/demonstrations"),
        ({"demonstrations": ["x", 5]}, "/context/demonstrations/1"),
        ({**CHAT, "template_switches": {"a": []}}, "/context/template_switches/a"),
        ({"query": "q", "shots": []}, "/context/shots"),
    ],
)
def test_contexts_that_are_none_are_refused_where_they_are_wrong(scoring: Live, context: Any, place: str):
    response = scoring.http.post("/v1/score", json={"context": context, "options": ["a"]})
    assert pointers(the_problem(response, 422)) == [place]
    (item,) = ask(scoring, pairs=[{"context": context, "completion": "a"}])["results"]
    assert item["error"]["code"] == "invalid_input"


@pytest.mark.parametrize("forms", [[], [None], "ab", ["a"] * 101])
def test_forms_that_are_none_fail_alone(scoring: Live, forms: Any):
    bad, good = ask(scoring, context="c", options=[{"forms": forms}, "a"])["results"]
    assert bad["error"]["code"] == "invalid_input"
    assert good["error"] is None


def test_forms_count_as_completions(scoring: Live):
    options = [{"forms": [str(i) for i in range(100)]}] * 101
    response = scoring.http.post("/v1/score", json={"context": "c", "options": options})
    assert pointers(the_problem(response, 422)) == [""]


def test_a_lone_surrogate_is_no_json(scoring: Live):
    body = '{"context": "c", "options": ["\\ud800", "a"]}'
    response = scoring.http.post("/v1/score", content=body, headers={"Content-Type": "application/json"})
    assert the_problem(response, 422)["errors"][0]["message"].startswith("is no JSON")


def test_an_empty_context_is_one(scoring: Live):
    (one,) = ask(scoring, context="", options=["a"])["results"]
    assert one["sum_nats"] == path_nats("", "a")[0]


def test_sums_of_likelihoods_neither_overflow_nor_vanish():
    assert log_sum_exp([-1000.0, -1000.0]) == pytest.approx(-1000 + math.log(2), abs=1e-12)
    assert log_sum_exp([-math.inf, -2.0]) == -2.0
    assert log_sum_exp([-math.inf]) == -math.inf
