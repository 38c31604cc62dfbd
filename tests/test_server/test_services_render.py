"""`render`, `search` and batches over the real service."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kshot.formatting import QueryTurn, Turn, estimated_tokens
from kshot.schemas.pools import PoolSettings, PromptTemplate
from kshot.server.services.templates import PoolTemplates
from tests.test_server.live import Live, LivePool, codes, ids, pointers, the_problem, tickets

QUERY = "the invoice was charged twice"
CUSTOM = {
    "system": "{{ pool }}: one of {{ labels|join(', ') }}.",
    "input": "[{{ inputs.channel }}] {{ inputs.text }}",
    "output": "{{ outputs.label|upper }}",
    "demonstration": "Q {{ input }} ({{ metadata.lang|default('?') }})\nA {{ output }}",
    "query": "Q {{ input }}\nA",
    "separator": "\n---\n",
}


DEFAULT = PoolTemplates(PoolSettings())
# Another separator, so that the same texts go through the template engine.
SPELT_OUT = PoolTemplates(PoolSettings(prompt=PromptTemplate(separator="|")))


@pytest.fixture(scope="module")
def plain(live: Live) -> LivePool:
    pool = live.create("plain")
    pool.add(tickets(20))
    return pool


@pytest.fixture(scope="module")
def custom(live: Live) -> LivePool:
    pool = live.create("custom", prompt=CUSTOM, label_field="outputs.label")
    rows = [
        {
            "id": row["id"],
            "inputs": {"channel": "chat", "text": row["inputs"]},
            "outputs": {"label": row["outputs"], "why": "because"},
            "metadata": row["metadata"] if i else {},
        }
        for i, row in enumerate(tickets(10))
    ]
    assert pool.add(rows)["accepted"] == 10
    return pool


def render(pool: LivePool, inputs=QUERY, **options):
    response = pool.request("POST", "/render", {"inputs": inputs, **options})
    assert response.status_code == 200, response.text
    return response.json()


def test_text_is_the_demonstrations_and_the_open_query(plain: LivePool):
    reply = render(plain, k=2, format="text")
    shown = [
        f"Input: {one['inputs']}\nOutput: {one['outputs']}" for one in reply["selection"]["demonstrations"]
    ]
    assert len(shown) == 2
    assert reply["text"] == "\n\n".join([*shown, f"Input: {QUERY}\nOutput:"])
    assert (reply["messages"], reply["system"]) == (None, None)
    assert (reply["tokens"], reply["estimated"]) == (estimated_tokens(reply["text"]), True)


@pytest.mark.parametrize("form", ["messages", "anthropic"])
def test_turns_alternate_and_end_with_the_query(form: str, plain: LivePool):
    reply = render(plain, k=2, format=form)
    first, second = reply["selection"]["demonstrations"]
    assert reply["messages"] == [
        {"role": "user", "content": first["inputs"]},
        {"role": "assistant", "content": first["outputs"]},
        {"role": "user", "content": second["inputs"]},
        {"role": "assistant", "content": second["outputs"]},
        {"role": "user", "content": QUERY},
    ]
    assert (reply["text"], reply["system"]) == (None, None)


def test_inline_is_one_user_message(plain: LivePool):
    text = render(plain, k=2, format="text")["text"]
    reply = render(plain, k=2, style="inline")
    assert reply["messages"] == [{"role": "user", "content": text}]


def test_without_demonstrations_the_query_stands_alone(plain: LivePool):
    reply = render(plain, min_score=0.999)
    assert reply["selection"]["abstained"]
    assert reply["messages"] == [{"role": "user", "content": QUERY}]


def test_a_pools_own_templates_shape_every_part(custom: LivePool):
    inputs = {"channel": "mail", "text": "my invoice"}
    reply = render(custom, inputs, k=2, format="text", stable={"k": 1})
    selection = reply["selection"]
    system = "custom: one of billing, delivery, login, returns, setup."
    parts = [one["rendered"]["text"] for one in selection["demonstrations"]]
    assert reply["text"] == "\n---\n".join([system, *parts, "Q [mail] my invoice\nA"])
    for one in selection["demonstrations"]:
        language = one["metadata"].get("lang", "?")
        shown, answer = f"[chat] {one['inputs']['text']}", one["outputs"]["label"].upper()
        assert one["rendered"] == {
            "input": shown,
            "output": answer,
            "text": f"Q {shown} ({language})\nA {answer}",
        }
        assert one["label"] == one["outputs"]["label"]
    assert selection["frame"] == {
        "system": system,
        "separator": "\n---\n",
        "query_input": "[mail] my invoice",
        "query_text": "Q [mail] my invoice\nA",
    }


def test_the_system_part_stands_where_the_format_wants_it(custom: LivePool):
    inputs = {"channel": "mail", "text": "my invoice"}
    openai = render(custom, inputs, k=1)
    anthropic = render(custom, inputs, k=1, format="anthropic")
    assert openai["messages"][0]["role"] == "system"
    assert openai["system"] is None
    assert anthropic["system"] == openai["messages"][0]["content"]
    assert anthropic["messages"] == openai["messages"][1:]
    inline = render(custom, inputs, k=1, style="inline")
    assert [one["role"] for one in inline["messages"]] == ["system", "user"]
    assert inline["messages"][1]["content"].endswith("Q [mail] my invoice\nA")


def test_a_query_that_does_not_fit_the_template_is_refused(custom: LivePool):
    problem = custom.problem("/render", {"inputs": "just text"})
    assert problem["code"] == "invalid_template"
    assert pointers(problem) == ["/settings/prompt/input"]


def test_a_prompt_needs_a_query(plain: LivePool):
    assert pointers(plain.problem("/render", {"k": 2})) == ["/inputs"]
    assert pointers(plain.problem("/render", {"inputs": "a", "format": "gemini"})) == ["/format"]


def test_the_rendered_selection_is_recorded(plain: LivePool, live: Live):
    reply = render(plain, k=2)
    stored = live.http.get(f"/v1/selections/{reply['selection']['selection_id']}").json()
    assert [one["id"] for one in stored["demonstrations"]] == ids(reply["selection"])


@given(
    inputs=st.one_of(
        st.text(max_size=40), st.dictionaries(st.text(max_size=5), st.integers() | st.text(max_size=9))
    ),
    outputs=st.one_of(st.text(max_size=40), st.dictionaries(st.text(max_size=5), st.booleans() | st.none())),
)
def test_the_default_template_is_the_default_formatting(inputs: object, outputs: object):
    assert DEFAULT.is_default
    assert not SPELT_OUT.is_default
    for templates in (DEFAULT, SPELT_OUT):
        assert templates.turn(inputs, outputs, {"a": 1}) == Turn.of(inputs, outputs)  # type: ignore[arg-type]  # drawn to fit
        assert templates.query(inputs) == QueryTurn.of(inputs)  # type: ignore[arg-type]  # drawn to fit
        assert templates.system("pool", ["a"]) is None


# --- search ---


def test_search_gives_the_nearest_first(plain: LivePool):
    reply = plain.request("POST", "/search", {"inputs": QUERY, "k": 20}).json()
    similarities = [one["similarity"] for one in reply["hits"]]
    assert similarities == sorted(similarities, reverse=True)
    assert len(reply["hits"]) == 20
    selected = plain.select(QUERY, k=20, method="similarity", order="nearest_first")["demonstrations"]
    assert [one["id"] for one in reply["hits"]] == [one["id"] for one in selected]
    assert similarities == pytest.approx([one["similarity"] for one in selected], abs=1e-6)
    first = reply["hits"][0]
    row = next(row for row in tickets(20) if row["id"] == first["id"])
    assert (first["inputs"], first["outputs"], first["metadata"], first["label"]) == (
        row["inputs"],
        row["outputs"],
        row["metadata"],
        row["outputs"],
    )
    assert reply["pool_version"] == 1
    assert set(reply["timing_ms"]) == {"embed", "total"}


def test_search_keeps_to_filter_and_exclusions(plain: LivePool):
    body = {
        "inputs": QUERY,
        "k": 100,
        "filter": {"all": [{"field": "label", "eq": "billing"}, {"field": "metadata.x", "exists": False}]},
        "exclude": {"ids": ["t00005"]},
    }
    reply = plain.request("POST", "/search", body).json()
    assert {one["id"] for one in reply["hits"]} == {"t00000", "t00010", "t00015"}
    assert codes(reply) == ["field_unseen"]


def test_search_knows_no_method(plain: LivePool):
    problem = plain.problem("/search", {"inputs": QUERY, "method": "mmr"})
    assert pointers(problem) == ["/method"]


# --- batches ---


def test_a_bad_query_of_a_batch_fails_alone(plain: LivePool):
    queries = [
        {"inputs": QUERY, "k": 2},
        {"inputs": ""},
        {"inputs": QUERY, "method": "nearest"},
        {"inputs": QUERY, "method": {"type": "mmr", "diversity": 7}},
        3,
        {"inputs": QUERY, "filter": {"field": "colour", "eq": 1}},
        {"inputs": "my parcel", "k": 1},
    ]
    results = plain.request("POST", "/select:batch", {"queries": queries}).json()["results"]
    assert [one["error"]["code"] if one["error"] else "ok" for one in results] == [
        "ok",
        "invalid_input",
        "unknown_selector",
        "invalid_parameter",
        "invalid_input",
        "invalid_filter",
        "ok",
    ]
    assert [one["error"]["errors"][0]["pointer"] for one in results if one["error"]] == [
        "/inputs",
        "/method",
        "/method/diversity",
        "",
        "/filter/field",
    ]
    assert ids(results[0]["selection"]) == ids(plain.select(QUERY, k=2))
    assert ids(results[6]["selection"]) == ids(plain.select("my parcel", k=1))


def test_a_long_batch_is_answered_in_order(plain: LivePool):
    rows = tickets(20)
    queries = [{"inputs": rows[i % 20]["inputs"], "k": 1, "method": "similarity"} for i in range(200)]
    results = plain.request("POST", "/select:batch", {"queries": queries}).json()["results"]
    assert [ids(one["selection"])[0] for one in results] == [rows[i % 20]["id"] for i in range(200)]


@pytest.mark.parametrize("queries", [[], {}, "a", [{}] * 1001])
def test_what_is_no_batch_is_refused(queries: object, plain: LivePool):
    assert pointers(the_problem(plain.request("POST", "/select:batch", {"queries": queries}))) == ["/queries"]
