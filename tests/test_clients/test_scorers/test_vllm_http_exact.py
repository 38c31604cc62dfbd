"""Whatever the mode and the batch, scores are those of the model's closed form."""

import math
import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kshot.clients.scorers.base import NotScored, Pair, Scored, ScoringMode, ScoringOptions, Text
from kshot.clients.scorers.endpoint import Limits
from kshot.errors import InvalidInput, PayloadTooLarge
from kshot.testing import BigramModel, ToyCompletionServer
from tests.test_clients.test_scorers.toy import IDS, exact_nats, random_group, random_ids, ready, scorer_of


@pytest.mark.slow
@pytest.mark.parametrize(
    "faults",
    [{}, {"ignores_prompt_logprobs": True}, {"ignores_prompt_logprobs": True, "refuses_no_tokens": True}],
    ids=["prompt form", "echo without a token", "echo with a token"],
)
async def test_a_thousand_contexts_score_as_in_closed_form_in_every_mode(faults):
    rng = random.Random(1)
    server = ToyCompletionServer()
    for name, value in faults.items():
        setattr(server.faults, name, value)
    # Half of them with single-token completions, for label mode.
    groups = [random_group(rng, context=(1, 20), lengths=(1, 1 + 3 * (i % 2))) for i in range(1000)]
    async with scorer_of(server) as scorer:
        for mode in ScoringMode:
            chosen = [g for g in groups if mode is not ScoringMode.LABEL or len(g[0].completion) == 1]
            if faults and mode is not ScoringMode.ECHO:
                continue
            pairs = [
                pair
                for group in chosen
                for pair in group
                if mode is not ScoringMode.LABEL or all(len(one.completion) == 1 for one in group)
            ]
            assert len(pairs) > 1000
            for pair, scored in zip(pairs, await scorer.score_batch(pairs, IDS[mode]), strict=True):
                exact = server.model.token_nats(pair.context, pair.completion)
                assert scored.mode is mode
                assert scored.tokens == len(pair.completion)
                assert scored.per_token == pytest.approx(exact, abs=1e-9)
                assert scored.sum_nats == pytest.approx(sum(exact), abs=1e-9)


async def test_forced_tokens_score_as_in_closed_form():
    rng = random.Random(2)
    server = ToyCompletionServer()
    server.faults.ignores_logprob_token_ids = True
    pairs = [pair for _ in range(100) for pair in random_group(rng)]
    async with scorer_of(server) as scorer:
        for pair, scored in zip(pairs, await scorer.score_batch(pairs, IDS[ScoringMode.TRIE]), strict=True):
            exact = exact_nats(server, pair.context, pair.completion)
            assert scored.sum_nats == pytest.approx(exact, abs=1e-9)
            assert scored.greedy is None
    assert any("allowed_token_ids" in body for body in server.ledger.bodies)


async def test_greedy_says_whether_every_token_was_the_likeliest():
    server = ToyCompletionServer()
    context = (19, 42, 77)
    best: list[int] = []
    for _ in range(3):
        best.append(int(server.model.log_probs([*context, *best]).argmax()))
    other = (*best[:2], best[2] + 1 if best[2] < 199 else 19)
    pairs = [Pair(context=context, completion=tuple(best)), Pair(context=context, completion=other)]
    async with scorer_of(server) as scorer:
        for mode in (ScoringMode.ECHO, ScoringMode.TRIE):
            assert [one.greedy for one in await scorer.score_batch(pairs, IDS[mode])] == [True, False]


@given(seed=st.integers(0, 10**6), data=st.data())
@settings(max_examples=15, deadline=None)
async def test_order_repetition_and_splitting_change_nothing(seed, data):
    rng = random.Random(seed)
    groups = [random_group(rng, context=(1, 40)) for _ in range(6)]
    pairs = [pair for group in groups for pair in group]
    order = data.draw(st.permutations(range(len(pairs))))
    limits = Limits(prompts_per_call=data.draw(st.integers(1, 8)), tokens=data.draw(st.integers(1, 500)))
    async with (
        scorer_of(ToyCompletionServer()) as scorer,
        scorer_of(ToyCompletionServer(prefix_caching=False), limits=limits) as narrow,
    ):
        whole = await scorer.score_batch(pairs, IDS[None])
        permuted = await scorer.score_batch([pairs[i] for i in order], IDS[None])
        twice = await scorer.score_batch(pairs + pairs, IDS[None])
        parts = [one for group in groups for one in await scorer.score_batch(group, IDS[None])]
        small_calls = await narrow.score_batch(pairs, IDS[None])
    assert permuted == [whole[i] for i in order]
    assert twice == whole + whole
    assert parts == whole
    # Without a cache another mode may cost less.
    assert [one.per_token for one in small_calls] == [pytest.approx(one.per_token) for one in whole]
    assert [one.greedy for one in small_calls] == [one.greedy for one in whole]


async def test_text_scores_do_not_depend_on_the_order_of_options():
    context, options = "Q: who? Ans", ["wer", "were", "x", " yes", "wer no"]
    async with scorer_of(ToyCompletionServer()) as scorer:
        one = await scorer.score_batch([Pair(context=context, completion=o) for o in options])
        other = await scorer.score_batch([Pair(context=context, completion=o) for o in options[::-1]])
    assert one == other[::-1]


@pytest.mark.parametrize("overflow", ["error", "left"])
async def test_what_is_cut_is_said_and_completions_stay_whole(overflow):
    rng = random.Random(3)
    server = ToyCompletionServer(max_model_tokens=100)
    asked = [(random_ids(rng, 60, 110), random_ids(rng, 1, 30)) for _ in range(60)]
    pairs = [Pair(context=context, completion=completion) for context, completion in asked]
    options = ScoringOptions(on_overflow=overflow)
    async with scorer_of(server) as scorer:
        results = await scorer.score_batch(pairs, options)
    assert {len(context) + len(completion) <= 99 for context, completion in asked} == {True, False}
    for (context, completion), result in zip(asked, results, strict=True):
        excess = max(0, len(context) + len(completion) - 99)
        if excess and overflow == "error":
            assert result.code == "payload_too_large"
        else:
            assert (result.dropped, result.truncated) == (excess, excess > 0)
            exact = exact_nats(server, context[excess:], completion)
            assert result.sum_nats == pytest.approx(exact, abs=1e-9)


async def test_cutting_keeps_the_start_of_the_text():
    server = ToyCompletionServer(max_model_tokens=100)
    context = "x" * 200
    async with scorer_of(server) as scorer:
        (scored,) = await scorer.score_batch(
            [Pair(context=context, completion="!?")], ScoringOptions(on_overflow="left")
        )
    fed = server.tokenizer.encode("x" * 96)
    assert len(fed) + 2 == 99
    assert scored.dropped == 104
    exact = exact_nats(server, fed, server.tokenizer.encode("!?", add_special_tokens=False))
    assert scored.sum_nats == pytest.approx(exact, abs=1e-9)


async def test_what_the_model_rules_out_is_minus_infinity():
    server = ToyCompletionServer(BigramModel(impossible=[(50, 60)]))
    pairs = [Pair(context=(19, 50), completion=(60,)), Pair(context=(19, 50), completion=(61,))]
    async with scorer_of(server) as scorer:
        for mode in ScoringMode:
            ruled_out, possible = await scorer.score_batch(pairs, IDS[mode])
            assert ruled_out.sum_nats == -math.inf
            assert math.isfinite(possible.sum_nats)


async def test_label_logprobs_are_a_matrix_in_closed_form():
    server = ToyCompletionServer()
    prompts: list[Text] = ["Q: yes?\nA:", (19, 20, 21), ""]
    labels = [25, 190, 3]
    async with scorer_of(server) as scorer:
        matrix = await scorer.label_logprobs(prompts, labels)
        assert (await scorer.label_logprobs([], labels)).shape == (0, 3)
    fed = [server.tokenizer.encode("Q: yes?\nA:"), (19, 20, 21), server.tokenizer.encode("")]
    exact = [[server.model.log_probs(ids)[label] for label in labels] for ids in fed]
    assert np.abs(matrix - exact).max() < 1e-9


@pytest.mark.slow
async def test_ten_thousand_options_of_one_context():
    server = ToyCompletionServer()
    pairs = [Pair(context=(19, 30), completion=(19 + i // 100, 19 + i % 100)) for i in range(10_000)]
    async with scorer_of(server) as scorer:
        await ready(scorer, server)
        results = await scorer.score_batch(pairs)
    assert all(isinstance(one, Scored) for one in results)
    exact = [exact_nats(server, pair.context, pair.completion) for pair in pairs[::997]]
    assert [one.sum_nats for one in results[::997]] == pytest.approx(exact, abs=1e-9)
    # The root and a hundred nodes below it, at most 64 per request.
    assert len(server.ledger.prompts) == 101


async def test_greedy_answers_stop_and_say_how_sure_the_model_was():
    server = ToyCompletionServer()
    async with scorer_of(server) as scorer:
        (answer,) = await scorer.greedy(["yes"], 5, stop="")
        with pytest.raises(PayloadTooLarge):
            await scorer.greedy(["yes"], 5000)
        with pytest.raises(InvalidInput):
            await scorer.greedy(["\ud800"], 5)
    ids = list(server.tokenizer.encode("yes"))
    start = len(ids)
    nats = []
    for _ in range(5):
        row = server.model.log_probs(ids)
        ids.append(int(row.argmax()))
        nats.append(float(row.max()))
    assert answer.text == server.tokenizer.decode(ids[start:])
    assert (answer.tokens, answer.mean_nats) == (5, pytest.approx(sum(nats) / 5, abs=1e-9))


async def test_bad_pairs_are_refused_one_by_one():
    server = ToyCompletionServer()
    pairs = [
        Pair(context="a", completion=""),
        Pair(context="a", completion="\udc80"),
        Pair(context="\udc80", completion="a"),
        Pair(context=(1, 500), completion=(3,)),
        Pair(context=(1,), completion=(700,)),
        Pair(context=(1,), completion=(-3,)),
        Pair(context="a", completion="good"),
    ]
    async with scorer_of(server) as scorer:
        *bad, good = await scorer.score_batch(pairs)
        assert await scorer.score_batch([]) == []
    assert [(type(one), one.code) for one in bad] == [(NotScored, "invalid_input")] * 6
    assert isinstance(good, Scored)


async def test_forced_label_mode_refuses_longer_completions():
    pairs = [Pair(context=(19,), completion=(20, 21)), Pair(context=(22,), completion=(23,))]
    async with scorer_of(ToyCompletionServer()) as scorer:
        refused, scored = await scorer.score_batch(pairs, IDS[ScoringMode.LABEL])
    assert refused.code == "invalid_parameter"
    assert isinstance(scored, Scored)


async def test_prompts_too_long_to_read_are_scored_otherwise_or_refused():
    server = ToyCompletionServer()
    rng = random.Random(5)
    context = random_ids(rng, 80, 80)
    pairs = [Pair(context=context, completion=random_ids(rng, 40, 40))]
    async with scorer_of(server, limits=Limits(longest_read=100)) as scorer:
        (refused,) = await scorer.score_batch(pairs, IDS[ScoringMode.ECHO])
        (scored,) = await scorer.score_batch(pairs, IDS[None])
    assert refused.code == "payload_too_large"
    assert scored.mode is ScoringMode.TRIE
    assert scored.sum_nats == pytest.approx(exact_nats(server, context, pairs[0].completion), abs=1e-9)
