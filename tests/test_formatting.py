"""The default prompt text, character by character."""

from kshot.formatting import Prompt, QueryTurn, Turn, content_text, estimated_tokens

TWO = [Turn.of("1+1", "2"), Turn.of("2+2", "4")]


def test_text_stays_as_it_is():
    assert content_text("  a\nb ") == "  a\nb "


def test_fields_become_lines_in_their_order():
    assert content_text({"title": "Lamp", "body": "does not\nshine"}) == "title: Lamp\nbody: does not\nshine"


def test_values_that_are_no_text_are_written_as_json_and_none_is_left_out():
    fields = {"n": 2, "ok": True, "x": 0.5, "gone": None, "tags": ["ä", "b"], "at": {"y": 1}}
    assert content_text(fields) == 'n: 2\nok: true\nx: 0.5\ntags: ["ä", "b"]\nat: {"y": 1}'


def test_absent_content_is_the_empty_text():
    assert content_text(None) == ""


def test_estimated_tokens_are_characters_by_three_and_a_half_rounded_up():
    assert [estimated_tokens("x" * n) for n in (0, 1, 7, 8)] == [0, 1, 2, 3]


def test_an_inline_prompt_ends_where_the_model_goes_on():
    prompt = Prompt(TWO, QueryTurn.of("3+3"))
    assert prompt.text() == "Input: 1+1\nOutput: 2\n\nInput: 2+2\nOutput: 4\n\nInput: 3+3\nOutput:"


def test_turns_alternate_and_the_query_comes_last():
    assert Prompt(TWO, QueryTurn.of("3+3")).messages() == [
        {"role": "user", "content": "1+1"},
        {"role": "assistant", "content": "2"},
        {"role": "user", "content": "2+2"},
        {"role": "assistant", "content": "4"},
        {"role": "user", "content": "3+3"},
    ]


def test_inline_style_is_one_user_message():
    prompt = Prompt(TWO, QueryTurn.of("3+3"))
    assert prompt.messages("inline") == [{"role": "user", "content": prompt.text()}]


def test_the_system_part_is_the_first_message_and_the_head_of_the_text():
    prompt = Prompt(TWO[:1], QueryTurn.of("3+3"), system="Add.", separator="\n--\n")
    assert prompt.messages("inline") == [
        {"role": "system", "content": "Add."},
        {"role": "user", "content": "Input: 1+1\nOutput: 2\n--\nInput: 3+3\nOutput:"},
    ]
    assert prompt.text() == "Add.\n--\nInput: 1+1\nOutput: 2\n--\nInput: 3+3\nOutput:"
    assert prompt.conversation()[0] == {"role": "user", "content": "1+1"}


def test_without_a_query_the_demonstrations_stand_alone():
    assert Prompt(TWO).text() == "Input: 1+1\nOutput: 2\n\nInput: 2+2\nOutput: 4"
    assert Prompt([]).messages("inline") == []
