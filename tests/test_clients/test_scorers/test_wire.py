"""Requests as the server wants them, and answers that do not say what was asked."""

import copy
import math

import httpx
import pytest

from kshot.clients.scorers import wire
from kshot.testing import ToyCompletionServer

PROMPT = (0, 30, 41, 52)
CONTEXT = 2
PROMPT_FORM = wire.Dialect()
ECHO = wire.Dialect(prompt_form=False)
ECHO_ALONE = wire.Dialect(prompt_form=False, no_tokens=True)


def part_after(read, context_tokens):
    return read.completion(context_tokens).nats


def all_nats(reads):
    return [list(read.nats) for read in reads]


async def answer(server, body):
    async with httpx.AsyncClient(transport=server.transport(), base_url="http://toy") as client:
        response = await client.post("/v1/completions", json=body)
    assert response.status_code == 200, response.text
    return response.json()


def test_bodies_are_those_of_the_format():
    common = {"model": "m", "n": 1, "temperature": 0.0, "seed": 0, "skip_special_tokens": False}
    common["prompt"] = [list(PROMPT)]
    named = {"return_tokens_as_token_ids": True}
    assert wire.reading_request("m", [PROMPT], PROMPT_FORM) == {
        **common,
        "max_tokens": 1,
        "prompt_logprobs": 0,
    }
    echo = {**common, **named, "echo": True, "logprobs": 1}
    assert wire.reading_request("m", [PROMPT], ECHO) == {**echo, "max_tokens": 1}
    assert wire.reading_request("m", [PROMPT], ECHO_ALONE) == {**echo, "max_tokens": 0}
    assert wire.label_request("m", [PROMPT], [3, 4]) == {
        **common,
        **named,
        "max_tokens": 1,
        "logprobs": 1,
        "logprob_token_ids": [3, 4],
    }
    assert wire.forced_request("m", [PROMPT], 3) == {
        **common,
        **named,
        "max_tokens": 1,
        "logprobs": 0,
        "allowed_token_ids": [3],
    }


@pytest.mark.parametrize("dialect", [PROMPT_FORM, ECHO, ECHO_ALONE])
async def test_the_part_after_the_context_is_the_completions(dialect):
    server = ToyCompletionServer()
    told = await answer(server, wire.reading_request("toy", [PROMPT], dialect))
    (read,), model = wire.parse_reading(told, [PROMPT], dialect)
    assert model == "toy"
    exact = server.model.token_nats(PROMPT[:CONTEXT], PROMPT[CONTEXT:])
    assert part_after(read, CONTEXT) == pytest.approx(exact, abs=1e-12)


async def test_the_generated_token_is_one_term_too_many():
    server = ToyCompletionServer()
    told = await answer(server, wire.reading_request("toy", [PROMPT], ECHO))
    values = told["choices"][0]["logprobs"]["token_logprobs"]
    exact = server.model.token_nats(PROMPT[:CONTEXT], PROMPT[CONTEXT:])
    extra = float(server.model.log_probs(PROMPT).max())
    assert sum(values[CONTEXT:]) == pytest.approx(sum(exact) + extra, abs=1e-12)
    # Whoever expects none, or one where there is none, is told so.
    (read,), _ = wire.parse_reading(told, [PROMPT], ECHO_ALONE)
    assert isinstance(read, wire.Malformed)
    alone = await answer(server, wire.reading_request("toy", [PROMPT], ECHO_ALONE))
    (read,), _ = wire.parse_reading(alone, [PROMPT], ECHO)
    assert isinstance(read, wire.Malformed)


async def test_choices_are_sorted_by_their_index():
    server = ToyCompletionServer()
    server.faults.shuffled_choices = True
    prompts = [PROMPT, (0, 99), (0, 98)]
    told = await answer(server, wire.reading_request("toy", prompts, PROMPT_FORM))
    assert [choice["index"] for choice in told["choices"]] == [2, 1, 0]
    reads, _ = wire.parse_reading(told, prompts, PROMPT_FORM)
    exact = [server.model.token_nats(prompt[:1], prompt[1:]) for prompt in prompts]
    assert all_nats(reads) == exact


def spoiled(told, path, value):
    told = copy.deepcopy(told)
    place = told["choices"][0]
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = value
    return told


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("prompt_logprobs",), None),
        (("prompt_logprobs",), [None]),
        (("prompt_logprobs", 0), {}),
        (("prompt_logprobs", 2), None),
        (("prompt_logprobs", 2), {"42": {"logprob": -1.0, "rank": 1}}),
        (("prompt_logprobs", 2), {"41": {"logprob": math.nan, "rank": 1}}),
        (("prompt_logprobs", 2), {"41": {"logprob": 0.1, "rank": 1}}),
        (("prompt_logprobs", 2), {"41": {"logprob": "-1", "rank": 1}}),
        (("prompt_logprobs", 2), {"41": {"logprob": True, "rank": 1}}),
        (("prompt_logprobs", 2), {"41": {"rank": 1}}),
        (("prompt_logprobs",), 3),
    ],
)
async def test_a_spoiled_choice_spoils_itself_only(path, value):
    server = ToyCompletionServer()
    prompts = [PROMPT, PROMPT]
    told = await answer(server, wire.reading_request("toy", prompts, PROMPT_FORM))
    (bad, good), _ = wire.parse_reading(spoiled(told, path, value), prompts, PROMPT_FORM)
    assert isinstance(bad, wire.Malformed)
    assert isinstance(good, wire.Read)


@pytest.mark.parametrize(
    "told",
    [
        None,
        [],
        {},
        {"choices": None, "model": "m"},
        {"choices": [], "model": "m"},
        {"choices": [{"index": 1}], "model": "m"},
        {"choices": [{}], "model": "m"},
        {"choices": [{"index": 0}], "model": None},
    ],
)
def test_an_answer_without_its_choices_is_none(told):
    with pytest.raises(wire.Malformed):
        wire.parse_reading(told, [PROMPT], PROMPT_FORM)


def test_minus_9999_is_minus_infinity_and_rounding_above_zero_is_allowed():
    entries = [None, {"30": {"logprob": -9999.0, "rank": 9}}, {"41": {"logprob": 5e-4, "rank": 1}}]
    told = {"model": "m", "choices": [{"index": 0, "prompt_logprobs": entries}]}
    (read,), _ = wire.parse_reading(told, [(0, 30, 41)], PROMPT_FORM)
    assert read == wire.Read((-math.inf, 5e-4), (False, True))


def test_tokens_named_by_their_text_are_not_guessed():
    logprobs = {"tokens": [" a"], "token_logprobs": [-1.0], "top_logprobs": [{" a": -1.0}]}
    told = {"model": "m", "choices": [{"index": 0, "logprobs": logprobs}]}
    (read,), _ = wire.parse_next(told, [PROMPT])
    assert isinstance(read, wire.Malformed)
