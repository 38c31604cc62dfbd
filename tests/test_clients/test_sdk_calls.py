"""What each call sends, and what it refuses to send."""

import json
from datetime import UTC, date, datetime
from typing import Any

import numpy as np
import pytest

from kshot.clients.sdk.calls import (
    examples,
    operations,
    outcomes,
    policies,
    pools,
    prompts,
    scoring,
    selections,
)
from kshot.clients.sdk.calls.base import Call, encode, path_of
from kshot.clients.sdk.selection import Selection
from kshot.errors import InvalidInput, PoolNotFound
from kshot.schemas.examples import ExampleIn
from kshot.schemas.selections import SelectRequest
from kshot.schemas.tuning import TuneRequest
from tests.test_clients import replies


def body_of(call: Call[Any]) -> Any:
    assert call.body is not None
    return json.loads(call.body)


@pytest.mark.parametrize(
    ("call", "method", "path"),
    [
        (pools.create_pool("a", embedder=None, settings={}), "POST", "/v1/pools"),
        (pools.get_pool("a"), "GET", "/v1/pools/a"),
        (pools.list_pools().page(None), "GET", "/v1/pools"),
        (pools.update_pool("a", token_layer=4), "PATCH", "/v1/pools/a"),
        (pools.delete_pool("a"), "DELETE", "/v1/pools/a"),
        (pools.pool_stats("a"), "GET", "/v1/pools/a/stats"),
        (pools.gaps("a").page(None), "GET", "/v1/pools/a/gaps"),
        (pools.tune_pool("a"), "POST", "/v1/pools/a/tune"),
        (pools.measure_difficulty("a"), "POST", "/v1/pools/a/difficulty"),
        (examples.upsert_batch("a", [b"{}"], "none"), "POST", "/v1/pools/a/examples"),
        (examples.get_example("a", "x"), "GET", "/v1/pools/a/examples/x"),
        (examples.list_examples("a").page(None), "GET", "/v1/pools/a/examples"),
        (examples.patch_example("a", "x"), "PATCH", "/v1/pools/a/examples/x"),
        (examples.delete_example("a", "x"), "DELETE", "/v1/pools/a/examples/x"),
        (examples.delete_examples("a", ["x"]), "POST", "/v1/pools/a/examples:delete"),
        (selections.select("a", "q"), "POST", "/v1/pools/a/select"),
        (selections.select_batch("a", ["q"]), "POST", "/v1/pools/a/select:batch"),
        (selections.search("a", "q"), "POST", "/v1/pools/a/search"),
        (selections.render("a", "q"), "POST", "/v1/pools/a/render"),
        (selections.get_selection("s"), "GET", "/v1/selections/s"),
        (selections.selectors(), "GET", "/v1/selectors"),
        (scoring.score("c", ["a"]), "POST", "/v1/score"),
        (scoring.scorer(), "GET", "/v1/scorer"),
        (prompts.create_prompt("p", "x"), "POST", "/v1/prompts"),
        (prompts.add_prompt_version("p", "x"), "POST", "/v1/prompts/p/versions"),
        (prompts.get_prompt("p"), "GET", "/v1/prompts/p/versions/latest"),
        (prompts.get_prompt("p", 3), "GET", "/v1/prompts/p/versions/3"),
        (prompts.list_prompts().page(None), "GET", "/v1/prompts"),
        (prompts.list_prompt_versions("p").page(None), "GET", "/v1/prompts/p/versions"),
        (prompts.label_prompt("p", "production", 2), "PUT", "/v1/prompts/p/labels/production"),
        (prompts.delete_prompt("p"), "DELETE", "/v1/prompts/p"),
        (prompts.render_prompt("p"), "POST", "/v1/prompts/p/render"),
        (policies.algorithms(), "GET", "/v1/algorithms"),
        (policies.create_policy("p", ["a"]), "POST", "/v1/policies"),
        (policies.get_policy("p"), "GET", "/v1/policies/p"),
        (policies.list_policies().page(None), "GET", "/v1/policies"),
        (policies.update_policy("p", mode="frozen"), "PATCH", "/v1/policies/p"),
        (policies.delete_policy("p"), "DELETE", "/v1/policies/p"),
        (policies.add_variant("p", "b"), "POST", "/v1/policies/p/variants"),
        (policies.update_variant("p", "b", status="paused"), "PATCH", "/v1/policies/p/variants/b"),
        (policies.decide("p", "q"), "POST", "/v1/policies/p/decide"),
        (policies.get_decision("d"), "GET", "/v1/decisions/d"),
        (policies.activate("d"), "POST", "/v1/decisions/d/activate"),
        (policies.cancel_decision("d"), "POST", "/v1/decisions/d/cancel"),
        (policies.report_served("d", "a"), "POST", "/v1/decisions/d/served"),
        (policies.delete_decisions("s"), "POST", "/v1/decisions:delete"),
        (policies.policy_report("p"), "GET", "/v1/policies/p/report"),
        (policies.evaluate_policy("p"), "POST", "/v1/policies/p/evaluate"),
        (outcomes.feedback(1.0, decision_id="d"), "POST", "/v1/feedback"),
        (outcomes.feedback_batch([]), "POST", "/v1/feedback:batch"),
        (outcomes.declare_metric("m"), "POST", "/v1/metrics"),
        (outcomes.list_metrics().page(None), "GET", "/v1/metrics"),
        (outcomes.utilities("a").page(None), "GET", "/v1/pools/a/utilities"),
        (operations.get_job("j"), "GET", "/v1/jobs/j"),
        (operations.list_jobs().page(None), "GET", "/v1/jobs"),
        (operations.cancel_job("j"), "DELETE", "/v1/jobs/j"),
        (operations.version(), "GET", "/version"),
        (operations.ready(), "GET", "/readyz"),
    ],
)
def test_every_call_goes_to_its_place(call, method, path):
    assert (call.method, call.path) == (method, path)


@pytest.mark.parametrize(
    ("segment", "encoded"),
    [
        ("a/b?c#d%", "a%2Fb%3Fc%23d%25"),
        ("..", "%2E%2E"),
        (".", "%2E"),
        ("v1.2", "v1.2"),
        ("ü 1", "%C3%BC%201"),
        ("q:1", "q:1"),
    ],
)
def test_a_path_segment_stays_one_segment(segment, encoded):
    assert path_of("pools", segment) == f"/v1/pools/{encoded}"


@pytest.mark.parametrize("segment", ["", None, 7, "\ud800"])
def test_a_name_that_addresses_something_else_is_refused(segment):
    with pytest.raises(InvalidInput, match="name or id"):
        path_of("pools", segment)


def test_a_select_sends_only_what_was_given():
    assert body_of(selections.select("a", "q")) == {
        "inputs": "q",
        "seed": 0,
        "explain": False,
        "exact": False,
        "durable": False,
    }


def test_a_select_sends_every_option_in_the_form_of_the_interface():
    call = selections.select(
        "a",
        {"title": "t"},
        k=3,
        max_tokens=500,
        method={"type": "mmr", "diversity": 0.2},
        filter={"field": "split", "eq": "train"},
        exclude={"same_content": True},
        min_score=0.1,
        order={"type": "random", "seed": 7},
        stable=2,
        seed=5,
        vector=(1, 0),
        explain=True,
        durable=True,
        packing="prefix_skip",
    )
    sent = body_of(call)
    assert sent["stable"] == {"k": 2}
    assert sent["vector"] == [1.0, 0.0]
    assert SelectRequest.model_validate(sent).model_dump(exclude_unset=True)["k"] == 3


def test_a_batch_query_goes_before_the_common_options():
    own = SelectRequest.model_validate(
        {"inputs": "special", "k": 1, "filter": {"field": "metadata.n", "in": [1]}}
    )
    sent = body_of(selections.select_batch("a", ["plain", {"title": "t"}, own], k=4, seed=9))
    assert sent["queries"][0] == {"k": 4, "seed": 9, "inputs": "plain"}
    assert sent["queries"][1]["inputs"] == {"title": "t"}
    assert sent["queries"][2] == {
        "k": 1,
        "seed": 9,
        "inputs": "special",
        "filter": {"field": "metadata.n", "in": [1]},
    }


def test_a_batch_answers_bad_queries_with_their_errors():
    detail = {"type": "", "title": "", "status": 404, "code": "pool_not_found", "detail": "gone"}
    body = {"results": [{"selection": replies.selection()}, {"error": detail}]}
    good, bad = selections.select_batch("a", ["q", "r"]).read(json.dumps(body).encode())
    assert isinstance(good, Selection)
    assert good.query == "q"
    assert type(bad) is PoolNotFound
    assert bad.message == "gone"


def test_an_embedder_may_be_a_name():
    sent = body_of(pools.create_pool("a", embedder="hashing", settings={"retention_days": 3}))
    assert sent == {"name": "a", "settings": {"retention_days": 3, "embedder": {"type": "hashing"}}}
    assert body_of(pools.update_pool("a", embedder="minilm")) == {
        "settings": {"embedder": {"type": "minilm"}}
    }


def test_a_patch_sends_nulls_because_they_clear_fields():
    assert body_of(examples.patch_example("a", "x", group=None)) == {"group": None}


def test_ids_must_not_be_one_text():
    with pytest.raises(InvalidInput, match="'abc'"):
        examples.delete_examples("a", "abc")


def test_a_filter_of_a_listing_travels_as_json_on_every_page():
    pages = examples.list_examples("a", {"field": "split", "eq": "train"})
    for cursor in (None, "c2"):
        assert json.loads(pages.page(cursor).params["filter"]) == {"field": "split", "eq": "train"}


def test_arrays_dates_and_models_are_written_as_json():
    value = {
        "vector": np.array([0.5, 1.0], dtype=np.float32),
        "n": np.int64(3),
        "on": date(2026, 1, 2),
        "at": datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC),
        "row": ExampleIn(inputs="a"),
    }
    assert json.loads(encode(value)) == {
        "vector": [0.5, 1.0],
        "n": 3,
        "on": "2026-01-02",
        "at": "2026-01-02T03:04:05+00:00",
        "row": {"inputs": "a"},
    }


@pytest.mark.parametrize("value", [float("nan"), float("inf"), object(), {1, 2}, b"bytes"])
def test_what_is_no_json_is_refused_before_it_is_sent(value):
    with pytest.raises(InvalidInput, match="JSON"):
        encode({"inputs": value})


def test_a_selection_without_an_id_was_never_stored():
    with pytest.raises(InvalidInput, match="fallback"):
        selections.get_selection("")


@pytest.mark.parametrize("place", [(), ("settings",), ("settings", "select"), ("settings", "embedder")])
def test_what_a_newer_server_adds_to_a_pool_is_passed_over(place):
    settings = {"embedder": {"type": "hashing"}, "select": {"k": 3}}
    described = replies.pool("a", settings=settings)
    part: Any = described
    for name in place:
        part = part[name]
    part["from_the_future"] = {"a": 1}
    assert pools.get_pool("a").read(json.dumps(described).encode()).settings.select.k == 3
    listed, _ = (
        pools.list_pools().page(None).read(json.dumps({"data": [described], "next_cursor": None}).encode())
    )
    assert [pool.name for pool in listed] == ["a"]


@pytest.mark.parametrize(
    ("options", "sent"),
    [
        ({"stable": 3}, {"stable": {"k": 3}}),
        ({"stable": {"k": 3, "block_tokens": 16}}, {"stable": {"k": 3, "block_tokens": 16}}),
        ({"sticky": 8}, {"sticky": {"clusters": 8}}),
        ({"distinct": 0.9}, {"distinct": {"similarity": 0.9}}),
        ({"distinct": {"content": False}}, {"distinct": {"content": False}}),
        ({"adaptive": 0.01}, {"adaptive": {"min_gain_per_token": 0.01}}),
        ({"exact": True, "deadline_ms": 40}, {"exact": True, "deadline_ms": 40}),
    ],
)
def test_a_number_stands_for_the_one_field_that_matters(options, sent):
    body = body_of(selections.select("a", "q", **options))
    assert {name: body[name] for name in sent} == sent
    SelectRequest.model_validate_json(json.dumps(body))


@pytest.mark.parametrize(
    ("options", "body"),
    [
        ({}, {"apply": False}),
        ({"layers": ()}, {"apply": False, "layers": []}),
        (
            {"apply": True, "queries": 60, "k": 4, "layers": range(2), "exclude_splits": ["dev"], "seed": 3},
            {"apply": True, "queries": 60, "k": 4, "layers": [0, 1], "exclude_splits": ["dev"], "seed": 3},
        ),
    ],
)
def test_tuning_sends_only_what_was_given(options, body):
    call = pools.tune_pool("a", **options)
    assert body_of(call) == body
    assert call.creates
    TuneRequest.model_validate_json(json.dumps(body))
    with pytest.raises(InvalidInput, match="wanted a list"):
        pools.tune_pool("a", exclude_splits="test")
