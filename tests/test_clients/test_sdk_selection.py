"""A selection becomes a prompt."""

from typing import Any

import pytest

from kshot.clients.sdk.selection import Selection
from kshot.errors import InvalidParameter
from kshot.schemas.selections import SelectionReply
from tests.test_clients import replies


def selection(query: Any = "q", **changes: Any) -> Selection:
    reply = replies.selection(
        replies.demonstration(0, "far", "A"), replies.demonstration(1, {"t": "near"}, {"y": 2}), **changes
    )
    return Selection(SelectionReply.model_validate(reply), query)


def framed(**changes: Any) -> Selection:
    rendered = {"input": "T(far)", "output": "=A", "text": "T(far)=A"}
    frame = {
        "system": "Sort.",
        "separator": " | ",
        "query_input": "T(q)",
        "query_text": "T(q)=",
        **changes,
    }
    reply = replies.selection(replies.demonstration(0, "far", "A", rendered=rendered), frame=frame)
    return Selection(SelectionReply.model_validate(reply), "q")


def test_a_selection_is_a_sequence_of_demonstrations():
    chosen = selection()
    assert [shown.id for shown in chosen] == ["e0", "e1"]
    assert len(chosen) == 2
    assert (chosen.selection_id, chosen.method, chosen.is_fallback) == ("s1", "fused", False)
    assert chosen.exactness == "exact"
    assert selection(exactness="approximate").exactness == "approximate"


def test_an_empty_selection_is_still_true():
    assert Selection(SelectionReply.model_validate(replies.selection(abstained=True)))


def test_its_repr_shows_ids_and_no_texts():
    assert repr(selection()) == "Selection(selection_id='s1', method='fused', ids=['e0', 'e1'])"


def test_the_default_prompt_is_inputs_and_outputs():
    assert selection().text() == "Input: far\nOutput: A\n\nInput: t: near\nOutput: y: 2\n\nInput: q\nOutput:"


def test_another_query_may_stand_in_without_a_template():
    assert selection().text("other").endswith("Input: other\nOutput:")
    assert selection().messages("other")[-1] == {"role": "user", "content": "other"}


def test_a_selection_by_vector_alone_has_no_query_turn():
    assert [message["role"] for message in selection(query=None).messages()] == ["user", "assistant"] * 2


def test_the_pools_own_template_is_used_where_there_is_one():
    assert framed().text() == "Sort. | T(far)=A | T(q)="
    assert framed().messages() == [
        {"role": "system", "content": "Sort."},
        {"role": "user", "content": "T(far)"},
        {"role": "assistant", "content": "=A"},
        {"role": "user", "content": "T(q)"},
    ]
    assert framed().messages(style="inline")[1] == {"role": "user", "content": "T(far)=A | T(q)="}
    assert framed(query_input=None, query_text=None).text() == "Sort. | T(far)=A"


def test_only_the_server_applies_a_template_to_another_query():
    assert framed().text("q") == framed().text()
    with pytest.raises(InvalidParameter, match="template"):
        framed().text("other")


def test_the_anthropic_format_keeps_the_system_text_apart():
    prompt = framed().messages(format="anthropic")
    assert prompt["system"] == "Sort."
    assert [message["role"] for message in prompt["messages"]] == ["user", "assistant", "user"]


def test_the_anthropic_format_has_no_system_key_without_a_system_text():
    assert list(selection().messages(format="anthropic")) == ["messages"]


def test_unknown_formats_and_styles_are_refused_by_name():
    with pytest.raises(InvalidParameter, match="'gemini', allowed: openai, anthropic"):
        selection().messages(format="gemini")  # type: ignore[call-overload]  # the mistake under test
    with pytest.raises(InvalidParameter, match="'both', allowed: turns, inline"):
        selection().messages(style="both")  # type: ignore[call-overload]  # the mistake under test
