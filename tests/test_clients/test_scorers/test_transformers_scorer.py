"""A model in this process beside plain forward passes over whole sequences."""

import asyncio
import random
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from kshot.clients.scorers.base import Boundary, NotScored, Pair, Scored, ScoringMode, ScoringOptions
from kshot.clients.scorers.factory import build_scorer
from kshot.clients.scorers.transformers_scorer import TransformersScorer
from kshot.errors import InvalidInput, InvalidParameter, PayloadTooLarge, ScorerUnavailable
from tests.test_clients.test_scorers.tiny_model import CHARACTERS, VOCABULARY, Oracle, make_tiny_model

JOINT = ScoringOptions(boundary=Boundary.JOINT, per_token=True)
PER_TOKEN = ScoringOptions(per_token=True)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return make_tiny_model(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module")
def oracle(folder):
    return Oracle(folder)


@pytest.fixture
async def scorer(folder):
    scorer = TransformersScorer(str(folder))
    yield scorer
    await scorer.close()


def random_text(rng: random.Random, longest: int) -> str:
    words = rng.choices(["the", "answer", "ans", "wer", "ing", " ", *CHARACTERS], k=rng.randint(1, longest))
    return "".join(words)


def random_ids(rng: random.Random, shortest: int, longest: int) -> tuple[int, ...]:
    return tuple(rng.choices(range(1, VOCABULARY), k=rng.randint(shortest, longest)))


async def test_sums_are_those_of_a_plain_forward_pass(scorer, oracle):
    rng = random.Random(1)
    texts = [("q" + random_text(rng, 12), random_text(rng, 6)) for _ in range(48)]
    # Alone these would be "ans" + "wer" and "th" + "e"; together they are the tokens "answer" and "the".
    assert (
        oracle.encode("ans") + oracle.encode("wer")
        != oracle.encode("answer")
        == (oracle.encode("answer")[0],)
    )
    pairs = [
        Pair(context=context, completion=completion)
        for context, completion in [*texts, ("the ans", "wer"), ("a th", "e")]
    ]
    scored = await scorer.score_batch(pairs, JOINT)
    assert len(scored) == 50
    context_to_completions: dict[Any, list[Any]] = {}
    for pair in pairs:
        context_to_completions.setdefault(pair.context, []).append(pair.completion)
    for context, completions in context_to_completions.items():
        for completion, nats in zip(completions, oracle.joint(context, completions), strict=True):
            one = scored[pairs.index(Pair(context=context, completion=completion))]
            assert one.sum_nats == pytest.approx(nats, abs=1e-5)
            assert sum(one.per_token) == pytest.approx(one.sum_nats, abs=1e-9)


async def test_options_that_straddle_a_border_differ_by_the_whole_texts_likelihoods(scorer, oracle):
    options = ["wer", "we", "x"]
    scored = await scorer.score_batch([Pair(context="the ans", completion=one) for one in options], JOINT)
    assert [one.sum_nats for one in scored] == pytest.approx(oracle.joint("the ans", options), abs=1e-5)


async def test_groups_of_long_contexts_share_what_is_in_front(scorer, oracle):
    rng = random.Random(2)
    front = random_ids(rng, 60, 60)
    pairs = [
        Pair(context=front + tail, completion=completion)
        for tail in [random_ids(rng, 0, 20) for _ in range(6)]
        for completion in [random_ids(rng, 1, 6) for _ in range(5)]
    ]
    # One completion that another starts with, one that differs in its last token only, and a repetition.
    long = (*pairs[0].completion, 5, 6)
    pairs += [replace(pairs[0], completion=long), replace(pairs[0], completion=(*long[:-1], 9)), pairs[0]]
    scored = await scorer.score_batch(pairs, PER_TOKEN)
    for pair, one in zip(pairs, scored, strict=True):
        assert one.per_token == pytest.approx(oracle.token_nats(pair.context, pair.completion), abs=1e-5)
        assert one.boundary is Boundary.IDS
        assert one.mode is (ScoringMode.LABEL if len(pair.completion) == 1 else ScoringMode.ECHO)
    assert scored[-1] == scored[0]


async def test_the_order_of_a_batch_changes_no_bit(scorer):
    rng = random.Random(3)
    front = random_ids(rng, 40, 40)
    pairs = [Pair(context=front + random_ids(rng, 1, 9), completion=random_ids(rng, 1, 4)) for _ in range(40)]
    scored = await scorer.score_batch(pairs)
    for seed in range(3):
        order = list(range(len(pairs)))
        random.Random(seed).shuffle(order)
        again = await scorer.score_batch([pairs[i] for i in order])
        assert again == [scored[i] for i in order]


async def test_labels_are_next_token_log_probabilities(scorer, oracle):
    rng = random.Random(4)
    prompts = [random_ids(rng, 1, 30) for _ in range(12)]
    every = await scorer.label_logprobs(prompts, range(VOCABULARY))
    assert np.exp(every).sum(axis=1) == pytest.approx(np.ones(12), abs=1e-5)
    assert every[3, 7] == pytest.approx(oracle.token_nats(prompts[3], [7])[0], abs=1e-5)
    assert (await scorer.label_logprobs([], [1])).shape == (0, 1)
    assert (await scorer.label_logprobs(prompts, [])).shape == (12, 0)


async def test_greedy_answers_are_the_likeliest_tokens(scorer, oracle):
    rng = random.Random(5)
    prompts = [random_ids(rng, 1, 30) for _ in range(8)]
    answers = await scorer.greedy(prompts, 6, stop="")
    pairs = []
    for prompt, answer in zip(prompts, answers, strict=True):
        likeliest = oracle.greedy(prompt, 6)
        if 0 in likeliest:  # the end marker
            likeliest = likeliest[: likeliest.index(0) + 1]
        assert answer.tokens == len(likeliest)
        nats = oracle.token_nats(prompt, likeliest)
        assert answer.mean_nats == pytest.approx(sum(nats) / len(nats), abs=1e-5)
        pairs.append(Pair(context=prompt, completion=tuple(likeliest)))
    assert all(one.greedy for one in await scorer.score_batch(pairs))
    other = [replace(pair, completion=(*pair.completion[:-1], 39)) for pair in pairs]
    assert sum(one.greedy for one in await scorer.score_batch(other)) < 2


async def test_an_answer_ends_before_what_stops_it(scorer, oracle):
    prompt = oracle.encode("the answer")
    (whole,) = await scorer.greedy([prompt], 6, stop="")
    stop = whole.text[2]
    (cut,) = await scorer.greedy([prompt], 6, stop=stop)
    assert cut.text == whole.text[: whole.text.index(stop)]
    assert 1 <= cut.tokens <= whole.tokens


async def test_what_cannot_be_scored_stops_no_other(scorer):
    pairs = [
        Pair(context="a", completion=""),
        Pair(context="a\ud800", completion="b"),
        Pair(context=(1, VOCABULARY), completion=(2,)),
        Pair(context=(1,), completion=(-1,)),
        Pair(context=(1,) * 120, completion=(2,) * 8),
        Pair(context="", completion="b"),
        Pair(context="a", completion="b"),
    ]
    scored = await scorer.score_batch(pairs)
    assert [getattr(one, "code", None) for one in scored] == [
        *["invalid_input"] * 4,
        "payload_too_large",
        None,
        None,
    ]
    assert scored[-1].sum_nats < 0


async def test_a_context_that_is_too_long_is_cut_on_request_and_its_completion_never(scorer, oracle):
    context = tuple(range(1, 31)) * 5
    options = ScoringOptions(on_overflow="left")
    ((cut), (refused)) = await scorer.score_batch(
        [Pair(context=context, completion=(3, 4)), Pair(context=(1,), completion=(2,) * 128)], options
    )
    # 150 + 2 tokens, and 127 are allowed.
    assert cut.dropped == 25
    assert cut.sum_nats == pytest.approx(sum(oracle.token_nats(context[25:], (3, 4))), abs=1e-5)
    assert refused.code == "payload_too_large"


async def test_an_empty_context_starts_at_the_marker(scorer, oracle):
    (one,) = await scorer.score_batch([Pair(context="", completion="the")])
    assert one.sum_nats == pytest.approx(sum(oracle.token_nats((0,), oracle.encode("the"))), abs=1e-5)


async def test_a_terminator_is_scored_as_well(scorer, oracle):
    (one,) = await scorer.score_batch(
        [Pair(context="a", completion="b")], ScoringOptions(terminator="eot", boundary=Boundary.SEPARATE)
    )
    nats = oracle.token_nats(oracle.encode("a"), (*oracle.encode("b"), 0))
    assert one.sum_nats == pytest.approx(sum(nats), abs=1e-5)
    assert one.tokens == 2


async def test_modes_are_honoured_or_refused(scorer):
    pairs = [Pair(context=(1,), completion=(2,)), Pair(context=(1,), completion=(2, 3))]
    single, double = await scorer.score_batch(pairs, ScoringOptions(mode=ScoringMode.LABEL))
    assert isinstance(single, Scored)
    assert isinstance(double, NotScored)
    assert double.code == "invalid_parameter"
    single, double = await scorer.score_batch(pairs, ScoringOptions(mode=ScoringMode.ECHO))
    assert single.mode is double.mode is ScoringMode.ECHO
    with pytest.raises(ScorerUnavailable, match="mode 'trie' is refused"):
        await scorer.score_batch(pairs, ScoringOptions(mode=ScoringMode.TRIE))


async def test_what_a_prompt_must_be_is_said(scorer):
    with pytest.raises(PayloadTooLarge, match="128 tokens, allowed 127"):
        await scorer.label_logprobs([(1,) * 128], [1])
    with pytest.raises(PayloadTooLarge, match="100 tokens, allowed 98"):
        await scorer.greedy([(1,) * 100], 30)
    for prompts, labels in [([(1, VOCABULARY)], [1]), ([(1,)], [-1]), (["\ud800"], [1])]:
        with pytest.raises(InvalidInput):
            await scorer.label_logprobs(prompts, labels)
    with pytest.raises(InvalidParameter, match="max_tokens is 0"):
        await scorer.greedy(["a"], 0)


async def test_the_fingerprint_names_weights_and_numeric_type(folder, tmp_path):
    other = make_tiny_model(tmp_path / "other")
    (other / "config.json").write_text((other / "config.json").read_text().replace("128", "64"))
    seen = []
    cases: list[tuple[Any, Any]] = [
        (folder, "float32"),
        (folder, "float32"),
        (folder, "bfloat16"),
        (other, "float32"),
    ]
    for path, dtype in cases:
        scorer = TransformersScorer(str(path), dtype=dtype)
        known = await scorer.capabilities()
        assert known.backend == "transformers"
        assert known.model == str(path)
        seen.append((known.fingerprint, known.max_model_tokens))
        await scorer.close()
    assert seen[0] == seen[1]
    assert len({fingerprint for fingerprint, _ in seen}) == 3
    assert [tokens for _, tokens in seen] == [128, 128, 128, 64]


async def test_bfloat16_stays_near_float32(folder, oracle):
    scorer = TransformersScorer(str(folder), dtype="bfloat16")
    context, completion = tuple(range(1, 20)), (5, 6, 7)
    (one,) = await scorer.score_batch([Pair(context=context, completion=completion)])
    assert isinstance(one, Scored)
    assert one.sum_nats == pytest.approx(sum(oracle.token_nats(context, completion)), abs=0.3)
    await scorer.close()


async def test_concurrent_calls_take_turns_and_the_loop_stays_free(scorer):
    rng = random.Random(6)
    batches = [
        [Pair(context=random_ids(rng, 60, 100), completion=random_ids(rng, 5, 20)) for _ in range(30)]
        for _ in range(4)
    ]
    alone = [await scorer.score_batch(batch) for batch in batches]
    turns = 0

    async def count_turns():
        nonlocal turns
        while True:
            await asyncio.sleep(0.001)
            turns += 1

    counter = asyncio.create_task(count_turns())
    assert await asyncio.gather(*map(scorer.score_batch, batches)) == alone
    counter.cancel()
    assert turns >= 10


async def test_a_model_that_is_none_is_said_and_no_text_with_it(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    scorer = build_scorer("transformers", model=str(tmp_path))
    assert scorer is not None
    with pytest.raises(ScorerUnavailable, match=r"cannot be loaded: \w+: \w+"):
        await scorer.score_batch([Pair(context="secret", completion="b")])
    await scorer.close()


async def test_a_closed_scorer_refuses(folder):
    scorer = TransformersScorer(str(folder))
    await scorer.capabilities()
    await scorer.close()
    await scorer.close()
    with pytest.raises(ScorerUnavailable, match="closed"):
        await scorer.capabilities()


def test_an_unknown_numeric_type_is_refused():
    with pytest.raises(InvalidParameter, match="float32, bfloat16"):
        TransformersScorer("m", dtype="int3")  # type: ignore[arg-type]
