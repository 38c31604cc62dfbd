"""One suite, three clients: demonstrations are selected, explained and turned into prompts."""

import uuid
from typing import Any

import pytest

import kshot
from kshot.clients.sdk.selection import Selection
from kshot.errors import InvalidFilter, InvalidInput, InvalidParameter, PoolNotFound, UnknownSelector
from tests.test_clients.sdk_tickets import ids_of


def test_a_selection_holds_the_nearest_examples_nearest_last(client, pool):
    chosen = client.select(pool, "where is my parcel please", k=2, method="similarity")
    assert ids_of(chosen) == ["t2", "t1"]
    assert [shown.rank for shown in chosen] == [0, 1]
    assert chosen.demonstrations[0].similarity < chosen.demonstrations[1].similarity
    assert not chosen.is_fallback
    assert chosen.usage.eligible == 5
    assert chosen.explain is None


def test_a_selection_becomes_a_prompt_that_the_server_would_render_alike(client, pool):
    options = {"k": 3, "method": "similarity"}
    chosen = client.select(pool, "where is my parcel", **options)
    as_text = client.render(pool, "where is my parcel", format="text", **options)
    as_turns = client.render(pool, "where is my parcel", format="messages", **options)
    inline = client.render(pool, "where is my parcel", format="anthropic", style="inline", **options)
    assert chosen.text() == as_text.text
    assert chosen.messages() == [message.model_dump() for message in as_turns.messages]
    assert chosen.messages(format="anthropic", style="inline") == {
        "messages": [message.model_dump() for message in inline.messages]
    }


def test_fields_are_written_alike_by_client_and_server(client, empty_pool):
    rows = [({"subject": "Lamp", "n": 2, "tags": ["a"]}, {"intent": "broken", "sure": True})]
    client.upsert(empty_pool, rows)
    query: dict[str, Any] = {"subject": "Plug", "n": None, "tags": []}
    chosen = client.select(empty_pool, query)
    assert chosen.text() == client.render(empty_pool, query, format="text").text
    assert chosen.text().startswith(
        'Input: subject: Lamp\nn: 2\ntags: ["a"]\nOutput: intent: broken\nsure: true'
    )


def test_the_pools_own_template_reaches_the_client(client, pool):
    prompt = {
        "system": "One of: {{ labels | join(', ') }}",
        "input": "<{{ inputs }}>",
        "separator": "\n---\n",
    }
    client.update_pool(pool, prompt=prompt)
    chosen = client.select(pool, "where is it", k=2, method="similarity")
    assert chosen.text() == client.render(pool, "where is it", format="text", k=2, method="similarity").text
    assert chosen.messages()[0] == {"role": "system", "content": "One of: crash, order_status, refund"}
    assert chosen.messages()[-1] == {"role": "user", "content": "<where is it>"}
    with pytest.raises(InvalidParameter, match="template"):
        chosen.text("another query")


def test_filters_and_exclusions_hold(client, pool):
    english = {"field": "metadata.lang", "eq": "en"}
    chosen = client.select(pool, "parcel", k=5, filter=english, exclude={"ids": ["t1"]})
    assert sorted(ids_of(chosen)) == ["t2", "t3", "t5"]
    same = client.select(pool, "where is my parcel", k=5, exclude={"same_content": True})
    assert "t1" not in ids_of(same)


def test_the_same_seed_gives_the_same_random_selection(client, pool):
    picks = [ids_of(client.select(pool, "parcel", k=3, method="random", seed=seed)) for seed in (1, 1, 2, 3)]
    assert picks[0] == picks[1]
    assert len({tuple(one) for one in picks}) > 1


def test_a_budget_of_tokens_is_kept(client, pool):
    chosen = client.select(pool, "parcel", k=5, max_tokens=30)
    assert 0 < chosen.usage.tokens <= 30
    assert len(chosen) < 5


def test_nothing_above_the_least_similarity_is_an_abstention(client, pool):
    chosen = client.select(pool, "parcel", min_score=1.0)
    assert (len(chosen), chosen.abstained) == (0, True)


def test_a_stable_core_stands_first(client, pool):
    chosen = client.select(pool, "parcel", k=4, stable=2)
    other = client.select(pool, "money", k=4, stable=2)
    assert [shown.part for shown in chosen] == ["stable", "stable", "dynamic", "dynamic"]
    assert ids_of(chosen)[:2] == ids_of(other)[:2]
    assert chosen.reply.prefix_hash == other.reply.prefix_hash is not None


def test_an_explanation_names_method_and_runners_up(client, pool):
    chosen = client.select(pool, "parcel", k=2, method={"type": "mmr", "diversity": 0.3}, explain=True)
    assert chosen.explain.method == "mmr"
    assert chosen.explain.params["diversity"] == 0.3
    assert {row.id for row in chosen.explain.rejected}.isdisjoint(ids_of(chosen))


@pytest.mark.parametrize("method", ["similarity", "bm25", "fused", "mmr", "set_bsr", "label_balanced"])
def test_every_method_answers_in_the_same_form(client, pool, method):
    chosen = client.select(pool, "where is my parcel", k=3, method=method)
    assert chosen.method == method
    assert len(set(ids_of(chosen))) == 3


def test_bad_requests_raise_the_class_that_says_why(client, pool):
    with pytest.raises(UnknownSelector, match="similarity"):
        client.select(pool, "parcel", method="nearest")
    with pytest.raises(InvalidParameter, match="diversity"):
        client.select(pool, "parcel", method={"type": "mmr", "diversity": 7})
    with pytest.raises(InvalidFilter):
        client.select(pool, "parcel", filter={"field": "metadata.lang", "like": "en"})
    with pytest.raises(InvalidInput) as caught:
        client.select(pool, "parcel", k=0)
    assert [error.pointer for error in caught.value.errors] == ["/k"]
    with pytest.raises(PoolNotFound):
        client.select("absent", "parcel")
    with pytest.raises(InvalidInput):
        client.select(pool)


def test_a_fallback_does_not_hide_a_mistake(client):
    with pytest.raises(PoolNotFound):
        client.select("absent", "parcel", fallback=[{"inputs": "a", "outputs": "b"}])


def test_an_explanation_says_which_words_each_demonstration_covers(client, pool):
    chosen = client.select(pool, "my parcel", k=2, method="similarity", explain=True)
    found = chosen.explain.coverage
    assert [token.text for token in found.tokens] == ["my", "parcel"]
    assert [one.id for one in found.demonstrations] == ids_of(chosen)
    assert all(len(one.scores) == 2 for one in found.demonstrations)
    assert [(token.similarity, token.covered) for token in found.tokens] == [(1.0, True), (1.0, True)]


def test_a_batch_answers_in_order_and_a_bad_query_fails_alone(client, pool):
    bad = kshot.SelectRequest(inputs="money", method="nearest")
    special = kshot.SelectRequest(inputs="app", k=1, method="similarity")
    first, second, third = client.select_batch(pool, ["parcel", bad, special], k=2)
    assert isinstance(first, Selection)
    assert len(first) == 2
    assert type(second) is UnknownSelector
    assert ids_of(third) == ["t5"]


def test_search_returns_neighbours_nearest_first(client, pool):
    reply = client.search(pool, "where is my parcel", k=3)
    assert reply.hits[0].id == "t1"
    similarities = [hit.similarity for hit in reply.hits]
    assert similarities == sorted(similarities, reverse=True)


def test_the_callers_own_vectors_work_without_any_model(client):
    name = f"p{uuid.uuid4().hex[:8]}"
    client.create_pool(name, embedder={"type": "external", "dimension": 2})
    client.upsert(
        name,
        [
            {"id": "x", "inputs": "right", "outputs": "r", "vector": [1.0, 0.0]},
            {"id": "y", "inputs": "up", "outputs": "u", "vector": [0.0, 1.0]},
        ],
    )
    assert [hit.id for hit in client.search(name, vector=[0.9, 0.1]).hits] == ["x", "y"]
    chosen = client.select(name, vector=(0.0, 2.0), k=1, method="similarity")
    assert ids_of(chosen) == ["y"]
    assert [message["role"] for message in chosen.messages()] == ["user", "assistant"]
    client.delete_pool(name)


def test_methods_are_listed_with_their_parameters(client):
    infos = {info.name: info for info in client.selectors()}
    assert {"similarity", "mmr", "fused", "set_bsr"} <= set(infos)
    assert "diversity" in infos["mmr"].parameters["properties"]
    assert sorted(infos) == sorted(client.version().selectors)
