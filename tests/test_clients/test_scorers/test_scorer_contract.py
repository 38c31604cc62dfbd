"""What every scorer over a real model keeps: SmolLM2 by transformers in float32, and by vLLM in bfloat16.

vLLM is a server, or an engine in this process: that one has to be of vLLM's environment.

Tolerances are per token and those that the scorer itself states (`Capabilities.tolerance_nats`).
"""

import asyncio
import math
from collections.abc import AsyncIterator, Iterator

import numpy as np
import pytest

from kshot.clients.scorers.base import (
    Boundary,
    Chat,
    Message,
    Pair,
    Parts,
    Scored,
    Scorer,
    ScoringMode,
    ScoringOptions,
)
from kshot.clients.scorers.launcher import VllmServer
from kshot.clients.scorers.transformers_scorer import TransformersScorer
from kshot.clients.scorers.vllm_http import VllmHttpScorer
from kshot.errors import InvalidInput, InvalidParameter, PayloadTooLarge
from tests.real_models import WINDOW, offline_scorer, smollm2, vllm_server
from tests.test_clients.test_scorers.real import FACTS, PROMPTS, pairs, scored, shuffled

PER_TOKEN = ScoringOptions(per_token=True)


@pytest.fixture(scope="module")
def server() -> Iterator[VllmServer]:
    with vllm_server() as running:
        yield running


@pytest.fixture(scope="module")
def local() -> Iterator[Scorer]:
    scorer = TransformersScorer(str(smollm2()), max_model_tokens=WINDOW)
    yield scorer
    asyncio.run(scorer.close())


@pytest.fixture(scope="module")
def offline() -> Iterator[Scorer]:
    scorer = offline_scorer()
    yield scorer
    asyncio.run(scorer.close())


@pytest.fixture(
    params=[
        pytest.param("transformers", marks=pytest.mark.component),
        pytest.param("vllm", marks=pytest.mark.vllm),
        pytest.param("vllm_offline", marks=pytest.mark.vllm_offline),
    ]
)
async def scorer(request) -> AsyncIterator[Scorer]:
    if request.param == "transformers":
        yield request.getfixturevalue("local")
    elif request.param == "vllm_offline":
        yield request.getfixturevalue("offline")
    else:
        remote = VllmHttpScorer(request.getfixturevalue("server").url)
        yield remote
        await remote.close()


async def tolerance(scorer: Scorer) -> float:
    return (await scorer.capabilities()).tolerance_nats


async def test_the_model_is_known_and_trusted(scorer):
    known = await scorer.capabilities()
    assert known.max_model_tokens == WINDOW
    assert {ScoringMode.ECHO, ScoringMode.LABEL} <= set(known.modes)
    assert known.fingerprint
    assert 0 < known.tolerance_nats <= 0.1
    assert (await scorer.capabilities()) == known


async def test_a_likely_word_beats_an_absurd_one(scorer):
    asked = [Pair(context=fact, completion=word) for fact, *words in FACTS for word in words]
    results = await scored(scorer, asked)
    for good, bad in zip(results[::2], results[1::2], strict=True):
        assert good.sum_nats > bad.sum_nats + 2


async def test_a_text_is_as_likely_as_its_parts_one_after_the_other(scorer):
    front, middle, end = (504, 3575, 282, 4649, 314), (7042, 28, 284), (260, 3575, 282)
    whole, first, second = await scored(
        scorer,
        [
            Pair(context=front, completion=middle + end),
            Pair(context=front, completion=middle),
            Pair(context=front + middle, completion=end),
        ],
        PER_TOKEN,
    )
    assert first.per_token is not None
    assert second.per_token is not None
    within = await tolerance(scorer)
    assert whole.per_token == pytest.approx(first.per_token + second.per_token, abs=within)
    assert whole.sum_nats == pytest.approx(first.sum_nats + second.sum_nats, abs=6 * within)
    assert whole.tokens == first.tokens + second.tokens == 6


async def test_the_order_of_a_batch_and_what_is_in_it_do_not_matter(scorer):
    asked = pairs()
    results = await scored(scorer, asked)
    within = await tolerance(scorer)
    order = shuffled(len(asked), seed=1)
    again = await scored(scorer, [asked[i] for i in order])
    for i, one in zip(order, again, strict=True):
        assert one.sum_nats == pytest.approx(results[i].sum_nats, abs=within * one.tokens)
        assert (one.tokens, one.boundary, one.bytes) == (
            results[i].tokens,
            results[i].boundary,
            results[i].bytes,
        )
    for i in (0, 5, len(asked) - 1):
        (alone,) = await scored(scorer, [asked[i]])
        assert alone.sum_nats == pytest.approx(results[i].sum_nats, abs=within * alone.tokens)


async def test_what_is_asked_twice_is_answered_twice_alike(scorer):
    asked = [Pair(context=PROMPTS[0], completion=" positive")] * 3
    first, second, third = await scored(scorer, asked)
    assert first == second == third


async def test_texts_score_as_their_token_ids(scorer):
    # As the vocabulary has it: "The capital of France is" and " Paris".
    ids = Pair(context=(504, 3575, 282, 4649, 314), completion=(7042,))
    text = Pair(context="The capital of France is", completion=" Paris")
    by_text, by_ids = await scored(scorer, [text, ids])
    assert by_text.sum_nats == pytest.approx(by_ids.sum_nats, abs=await tolerance(scorer))
    assert (by_text.boundary, by_ids.boundary) == (Boundary.JOINT, Boundary.IDS)
    assert by_text.tokens == by_ids.tokens == 1
    assert by_text.bytes == by_text.characters == 6


async def test_labels_score_as_completions_of_one_token(scorer):
    labels = (2731, 3524, 7042, 30)
    by_label = await scorer.label_logprobs(PROMPTS, labels)
    assert by_label.shape == (3, 4)
    assert by_label.dtype == np.float64
    asked = [Pair(context=prompt, completion=(label,)) for prompt in PROMPTS for label in labels]
    results = await scored(scorer, asked)
    within = await tolerance(scorer)
    assert [one.sum_nats for one in results] == pytest.approx(by_label.ravel().tolist(), abs=within)
    echoed = await scored(scorer, asked, ScoringOptions(mode=ScoringMode.ECHO))
    assert [one.sum_nats for one in echoed] == pytest.approx(by_label.ravel().tolist(), abs=within)
    assert all(one.mode is ScoringMode.ECHO for one in echoed)


async def test_greedy_answers_are_likely_and_known_to_be_greedy(scorer):
    answers = await scorer.greedy(["The capital of France is", *PROMPTS], 8)
    assert answers[0].text.startswith(" Paris")
    for answer in answers:
        assert 1 <= answer.tokens <= 8
        assert "\n" not in answer.text
        assert -3 < answer.mean_nats < 0
    (paris, banana) = await scored(
        scorer,
        [
            Pair(context="The capital of France is", completion=" Paris"),
            Pair(context="The capital of France is", completion=" banana"),
        ],
    )
    assert paris.greedy is True
    assert banana.greedy is False
    # Its tokens, the line break that ended it among them, are together as likely as the completion is.
    (again,) = await scored(
        scorer, [Pair(context="The capital of France is", completion=answers[0].text + "\n")]
    )
    assert again.tokens == answers[0].tokens
    assert again.sum_nats / again.tokens == pytest.approx(answers[0].mean_nats, abs=await tolerance(scorer))


async def test_what_cannot_be_scored_stops_no_other(scorer):
    asked = [
        Pair(context="The capital of France is", completion=""),
        Pair(context=(504,), completion=()),
        Pair(context="\ud800", completion="b"),
        Pair(context=(504,) * 2040, completion=(30,) * 20),
        Pair(context=(504, 49152), completion=(30,)),
        Pair(context="The capital of France is", completion=" Paris"),
    ]
    results = await scorer.score_batch(asked)
    codes = [getattr(one, "code", None) for one in results]
    assert codes == [
        "invalid_input",
        "invalid_input",
        "invalid_input",
        "payload_too_large",
        "invalid_input",
        None,
    ]
    assert isinstance(results[-1], Scored)
    assert -5 < results[-1].sum_nats < 0


async def test_an_empty_context_is_a_start(scorer):
    first, second = await scored(
        scorer, [Pair(context="", completion="The capital"), Pair(context=(), completion=(504, 3575))]
    )
    assert first.sum_nats == pytest.approx(second.sum_nats, abs=2 * await tolerance(scorer))
    assert math.isfinite(first.sum_nats)


async def test_an_empty_batch_is_answered(scorer):
    assert await scorer.score_batch([]) == []
    assert (await scorer.label_logprobs([], [1, 2])).shape == (0, 2)
    assert await scorer.greedy([], 3) == []


async def test_a_context_too_long_is_cut_on_request(scorer):
    context = tuple(range(100, 2200))
    pair = Pair(context=context, completion=(30, 30))
    (cut,) = await scored(scorer, [pair], ScoringOptions(on_overflow="left"))
    # 2,100 + 2 tokens, and 2,047 are allowed.
    assert cut.dropped == 55
    (same,) = await scored(scorer, [Pair(context=context[55:], completion=(30, 30))])
    assert cut.sum_nats == pytest.approx(same.sum_nats, abs=2 * await tolerance(scorer))


async def test_a_chat_is_written_by_the_models_own_template(scorer):
    asked = Chat(messages=(Message(role="user", content="What is the capital of France? One word."),))
    good, bad = await scored(scorer, [Pair(context=asked, completion=word) for word in ("Paris", "banana")])
    assert good.boundary is bad.boundary is Boundary.SEPARATE
    assert good.sum_nats > bad.sum_nats + 2
    written = (
        "<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n"
        "<|im_start|>user\nWhat is the capital of France? One word.<|im_end|>\n<|im_start|>assistant\n"
    )
    (same,) = await scored(scorer, [Pair(context=written, completion="Paris")])
    assert same.tokens == good.tokens
    assert same.sum_nats == pytest.approx(good.sum_nats, abs=same.tokens * await tolerance(scorer))


async def test_whole_demonstrations_are_dropped_where_a_context_is_too_long(scorer):
    shown = tuple(f"Number {i} is even or odd: {('even', 'odd')[i % 2]}\n" for i in range(300))
    query = "Number 7 is even or odd:"
    long = Parts(instruction="Say it.\n", demonstrations=shown, query=query)
    options = ScoringOptions(on_overflow="drop_demos")
    (odd,) = await scored(scorer, [Pair(context=long, completion=" odd")], options)
    assert odd.truncated
    assert odd.dropped_demonstrations > 0
    kept = "".join(shown[odd.dropped_demonstrations :])
    (same,) = await scored(scorer, [Pair(context=f"Say it.\n{kept}{query}", completion=" odd")])
    assert not same.truncated
    assert same.sum_nats == pytest.approx(odd.sum_nats, abs=same.tokens * await tolerance(scorer))


async def test_what_a_prompt_must_be_is_said(scorer):
    with pytest.raises(PayloadTooLarge):
        await scorer.label_logprobs([(504,) * 2048], [30])
    with pytest.raises(InvalidInput):
        await scorer.label_logprobs(["\ud800"], [30])
    with pytest.raises(InvalidInput):
        await scorer.label_logprobs([(504,)], [49152])
    with pytest.raises(InvalidParameter):
        await scorer.greedy(["a"], 0)


@pytest.mark.vllm
async def test_vllm_in_bfloat16_agrees_with_transformers_in_float32(server, local):
    remote = VllmHttpScorer(server.url)
    asked = pairs()
    exact = await scored(local, asked, PER_TOKEN)
    for mode in (ScoringMode.ECHO, ScoringMode.TRIE):
        rounded = await scored(remote, asked, ScoringOptions(per_token=True, mode=mode))
        apart = []
        for one, other in zip(exact, rounded, strict=True):
            assert (one.tokens, one.boundary) == (other.tokens, other.boundary)
            assert one.per_token is not None
            assert other.per_token is not None
            apart += [abs(a - b) for a, b in zip(one.per_token, other.per_token, strict=True)]
        # bfloat16 has 8 bits: logits near 20 are right to 0.06.
        assert np.mean(apart) < 0.1
        assert max(apart) < 0.5
    labels = (2731, 3524, 7042)
    by_vllm = await remote.label_logprobs(PROMPTS, labels)
    by_transformers = await local.label_logprobs(PROMPTS, labels)
    assert np.abs(by_vllm - by_transformers).max() < 0.5
    assert (by_vllm.argmax(1) == by_transformers.argmax(1)).all()
    await remote.close()
