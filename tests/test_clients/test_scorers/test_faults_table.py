"""Every switch of the toy server is caught by its canary or handled per item; none is missing here."""

import dataclasses
import math
import random

import pytest

from kshot.clients.scorers.base import NotScored, Pair, Scored, ScoringMode
from kshot.errors import ScorerUnavailable
from kshot.testing import BigramModel, Faults, ToyCompletionServer
from tests.test_clients.test_scorers.toy import IDS, exact_nats, random_ids, ready, scorer_of

CANARY: dict[str, tuple[object, str]] = {
    "null_prompt_logprobs": (True, "C1"),
    "shifted_prompt_logprobs": (True, "C1"),
    "double_bos": (True, "C1"),
    "fails_at_block_edges": (True, "C2"),
    "corrupt_prompt_logprobs": (True, "C3"),
    "processed_logprobs": (True, "C4"),
    "inflated_nats": (0.9, "C5"),
    "noise_nats": (0.5, "C6"),
    "constant_nats": (-3.0, "C7"),
    "ignores_logprob_token_ids": (True, "C8"),
    "ignores_prompt_logprobs": (True, "C8"),
    "ignores_token_id_names": (True, "C8"),
}
"""By switch: how it is turned, and the canary that dies of it."""
PASSES: dict[str, object] = {
    "too_many": 3,
    "unavailable": 3,
    "internal": 1,
    "truncated_json": 1,
    "shuffled_choices": True,
    "refuses_no_tokens": True,
    "max_logprobs": 0,
    "delay_s": 0.01,
    "no_render": True,
    "no_chat_template": True,
}
"""Turned after the canaries have passed: every score is right all the same."""
ALONE: dict[str, object] = {"poison_token": 199}
"""Spoils the items that it is about."""
NOTHING: dict[str, object] = {"down": True, "no_tokenizer": True}
"""Nothing can be asked, and that is said."""


def test_every_switch_has_its_place():
    named = [*CANARY, *PASSES, *ALONE, *NOTHING]
    assert sorted(named) == sorted(switch.name for switch in dataclasses.fields(Faults))
    assert {canary for _, canary in CANARY.values()} == {f"C{i}" for i in range(1, 9)}


def turned(server, name, value):
    setattr(server.faults, name, value)
    return server


@pytest.mark.parametrize("name", CANARY)
async def test_its_canary_dies(name):
    value, canary = CANARY[name]
    async with scorer_of(turned(ToyCompletionServer(), name, value)) as scorer:
        known = await scorer.capabilities()
    failed = [one.name for one in known.canaries if not one.passed]
    assert canary in failed
    # What is allowed all the same was not what failed.
    assert ScoringMode.ECHO not in known.modes or canary in {"C4", "C6", "C8"}


def pairs_of(number=12):
    rng = random.Random(7)
    context = tuple(19 + token % 170 for token in random_ids(rng, 30, 30))
    return [Pair(context=(*context, 20 + i), completion=(30 + i, 40 + i)) for i in range(number)]


def exact(server, pairs):
    return [exact_nats(server, pair.context, pair.completion) for pair in pairs]


@pytest.mark.parametrize("mode", [ScoringMode.ECHO, ScoringMode.TRIE])
@pytest.mark.parametrize("name", PASSES)
async def test_scores_are_right_all_the_same(name, mode):
    server, pairs = ToyCompletionServer(), pairs_of()
    async with scorer_of(server) as scorer:
        await ready(scorer, server)
        if name == "max_logprobs":
            # One is what every form asks for; the canaries want more.
            server.faults.max_logprobs = 1
        else:
            turned(server, name, PASSES[name])
        results = await scorer.score_batch(pairs, IDS[mode])
    assert [one.sum_nats for one in results] == pytest.approx(exact(server, pairs), abs=1e-9)


@pytest.mark.parametrize("mode", [ScoringMode.ECHO, ScoringMode.TRIE])
async def test_what_is_poisoned_fails_alone(mode):
    server, pairs = ToyCompletionServer(), pairs_of()
    poisoned = Pair(context=(*pairs[0].context, 199), completion=(30, 40))
    async with scorer_of(server) as scorer:
        await ready(scorer, server)
        turned(server, "poison_token", 199)
        bad, *good = await scorer.score_batch([poisoned, *pairs], IDS[mode])
    assert isinstance(bad, NotScored)
    assert [one.sum_nats for one in good] == pytest.approx(exact(server, pairs), abs=1e-9)


@pytest.mark.parametrize("name", NOTHING)
async def test_nothing_is_scored_and_it_is_said(name):
    async with scorer_of(turned(ToyCompletionServer(), name, NOTHING[name])) as scorer:
        with pytest.raises(ScorerUnavailable):
            await scorer.score_batch(pairs_of())


async def test_the_least_value_of_the_wire_is_minus_infinity():
    server = ToyCompletionServer(BigramModel(impossible=[(50, 60)]))
    async with scorer_of(server) as scorer:
        for mode in ScoringMode:
            (one,) = await scorer.score_batch([Pair(context=(19, 50), completion=(60,))], IDS[mode])
            assert isinstance(one, Scored)
            assert one.sum_nats == -math.inf


async def test_a_slice_to_the_end_would_hold_one_term_too_many():
    """What is generated after an echoed prompt is not the completion's: with it a sum has one more term."""
    server = turned(ToyCompletionServer(), "ignores_prompt_logprobs", True)
    turned(server, "refuses_no_tokens", True)
    context, completion = (19, 30, 41), (50, 60)
    async with scorer_of(server) as scorer:
        (one,) = await scorer.score_batch(
            [Pair(context=context, completion=completion)], IDS[ScoringMode.ECHO]
        )
        answer = await scorer._endpoint.post("/v1/completions", server.ledger.bodies[-1])
    values = answer["choices"][0]["logprobs"]["token_logprobs"]
    right, wrong = sum(values[len(context) : -1]), sum(values[len(context) :])
    assert one.sum_nats == pytest.approx(right, abs=1e-12)
    extra = max(server.model.log_probs((*context, *completion)))
    assert wrong - right == pytest.approx(extra, abs=1e-12)
