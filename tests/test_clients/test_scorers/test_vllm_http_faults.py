"""What goes wrong between canaries is handled per item, and nothing turns into zero."""

import asyncio
import random

import pytest

from kshot.clients.scorers.base import NotScored, Pair, Scored, ScoringMode
from kshot.clients.scorers.endpoint import Limits
from kshot.clients.scorers.vllm_http import VllmHttpScorer
from kshot.errors import InvalidParameter, ScorerUnavailable
from kshot.testing import BigramModel, ToyCompletionServer
from tests.test_clients.test_scorers.toy import IDS, Clock, exact_nats, random_ids, ready, scorer_of

POISON = 199


def pairs_of(rng, number=40):
    context = tuple(token for token in random_ids(rng, 30, 30) if token != POISON)
    return [Pair(context=(*context, 19 + i), completion=(30 + i, 40 + i)) for i in range(number)]


async def until(condition):
    for _ in range(10_000):
        if condition():
            return
        await asyncio.sleep(0)
    raise AssertionError("never happened")


def assert_exact(server, pairs, results):
    for pair, result in zip(pairs, results, strict=True):
        exact = exact_nats(server, pair.context, pair.completion)
        assert result.sum_nats == pytest.approx(exact, abs=1e-9)


@pytest.mark.parametrize("mode", [ScoringMode.ECHO, ScoringMode.TRIE])
@pytest.mark.parametrize(
    "faults",
    [{"shuffled_choices": True}, {"too_many": 3}, {"unavailable": 2}, {"truncated_json": 1}, {"internal": 1}],
    ids=str,
)
async def test_passing_trouble_passes(faults, mode):
    server = ToyCompletionServer()
    pairs = pairs_of(random.Random(1))
    async with scorer_of(server) as scorer:
        await ready(scorer, server)
        for name, value in faults.items():
            setattr(server.faults, name, value)
        assert_exact(server, pairs, await scorer.score_batch(pairs, IDS[mode]))


@pytest.mark.parametrize("mode", [ScoringMode.ECHO, ScoringMode.TRIE])
async def test_a_poisoned_prompt_spoils_itself_only(mode):
    server = ToyCompletionServer()
    good = pairs_of(random.Random(2))
    poisoned = Pair(context=(*good[0].context[:-1], POISON), completion=(30, 40))
    pairs = [*good[:17], poisoned, *good[17:]]
    async with scorer_of(server) as scorer:
        await ready(scorer, server)
        server.faults.poison_token = POISON
        results = await scorer.score_batch(pairs, IDS[mode])
        # Alone it is a refusal as well, not an outage.
        (alone,) = await scorer.score_batch([poisoned], IDS[mode])
    assert isinstance(results[17], NotScored)
    assert results[17].message == "the scorer fails on it: status 500"
    assert alone == results[17]
    assert_exact(server, good, [*results[:17], *results[18:]])


async def test_an_id_that_the_server_refuses_spoils_itself_only():
    server = ToyCompletionServer()
    good = pairs_of(random.Random(3))
    async with scorer_of(server) as scorer:
        results = await scorer.score_batch([Pair(context=(19, 500), completion=(30, 40)), *good])
    assert results[0].code == "invalid_input"
    assert_exact(server, good, results[1:])


async def test_labels_that_are_left_out_are_no_zeros():
    server = ToyCompletionServer()
    pairs = [Pair(context=(19, 30), completion=(label,)) for label in (50, 60, 70)]
    async with scorer_of(server) as scorer:
        await ready(scorer, server)
        # From here on only the likeliest token comes back.
        server.faults.ignores_logprob_token_ids = True
        results = await scorer.score_batch(pairs, IDS[ScoringMode.LABEL])
        with pytest.raises(ScorerUnavailable):
            await scorer.label_logprobs([(19, 30)], [50, 60])
    assert [one.message for one in results] == [
        "the scorer fails on it: the answer leaves out tokens that were asked for"
    ] * 3


async def test_lists_that_turn_short_are_refused_per_item():
    server = ToyCompletionServer()
    pairs = pairs_of(random.Random(4), 5)
    async with scorer_of(server) as scorer:
        await ready(scorer, server)
        server.faults.null_prompt_logprobs = True
        results = await scorer.score_batch(pairs, IDS[ScoringMode.ECHO])
    assert {one.code for one in results} == {"scorer_unavailable"}


async def test_a_server_that_is_down_is_unavailable_and_soon_not_asked():
    server = ToyCompletionServer()
    pairs = pairs_of(random.Random(5), 12)
    clock = Clock()
    limits = Limits(prompts_per_call=1)
    async with scorer_of(server, clock=clock, sleep=clock.sleep, limits=limits) as scorer:
        await ready(scorer, server)
        server.faults.down = True
        with pytest.raises(ScorerUnavailable):
            await scorer.score_batch(pairs, IDS[ScoringMode.ECHO])
        pauses = len(clock.pauses)
        with pytest.raises(ScorerUnavailable, match="times in a row"):
            await scorer.score_batch(pairs, IDS[ScoringMode.ECHO])
        assert len(clock.pauses) == pauses
        server.faults.down = False
        clock.now_s += 10.0
        assert_exact(server, pairs, await scorer.score_batch(pairs, IDS[ScoringMode.ECHO]))


async def test_what_was_scored_before_a_server_died_is_kept():
    server = ToyCompletionServer()
    pairs = pairs_of(random.Random(6), 12)
    limits = Limits(prompts_per_call=1, requests=1)
    async with scorer_of(server, limits=limits) as scorer:
        await ready(scorer, server)

        async def die():
            await until(lambda: server.ledger.requests >= 6)
            server.faults.down = True

        results, _ = await asyncio.gather(scorer.score_batch(pairs, IDS[ScoringMode.ECHO]), die())
    scored = [i for i, one in enumerate(results) if isinstance(one, Scored)]
    assert 0 < len(scored) < 12
    assert_exact(server, [pairs[i] for i in scored], [results[i] for i in scored])
    assert {one.code for one in results if isinstance(one, NotScored)} == {"scorer_unavailable"}


@pytest.mark.parametrize("name", ["toy", "other"])
async def test_scores_of_two_models_are_not_mixed(name):
    server = ToyCompletionServer()
    pairs = pairs_of(random.Random(7), 12)
    limits = Limits(prompts_per_call=1, requests=1)
    async with scorer_of(server, limits=limits) as scorer:
        await ready(scorer, server)

        async def restart():
            await until(lambda: server.ledger.requests >= 6)
            server.faults.down = True
            for _ in range(20):
                await asyncio.sleep(0)
            server.restart(BigramModel(seed=1), name=name)
            server.faults.down = False

        results, _ = await asyncio.gather(scorer.score_batch(pairs, IDS[ScoringMode.ECHO]), restart())
        assert (await scorer.capabilities()).model == name
    # All of the second one, also those that the first one had answered.
    assert_exact(server, pairs, results)


async def test_slow_answers_are_given_up_and_said_so():
    server = ToyCompletionServer()
    with server.running() as url:
        async with scorer_of(server, base_url=url, transport=None, shortest_read_s=0.3) as scorer:
            await ready(scorer, server)
            server.faults.delay_s = 1.0
            with pytest.raises(ScorerUnavailable, match="ReadTimeout"):
                await scorer.score_batch([Pair(context=(19,), completion=(20,))])


async def test_it_works_over_a_port_with_a_key():
    server = ToyCompletionServer()
    pairs = pairs_of(random.Random(8))
    with server.running() as url:
        async with scorer_of(server, base_url=f"{url}/v1/", transport=None, api_key="k") as scorer:
            assert_exact(server, pairs, await scorer.score_batch(pairs))
            await scorer.close()
    assert set(server.ledger.authorizations) == {"Bearer k"}


async def test_overload_lowers_what_is_asked_at_once():
    server = ToyCompletionServer()
    async with scorer_of(server) as scorer:
        await ready(scorer, server)
        server.faults.too_many = 3
        await scorer.score_batch([Pair(context=(19,), completion=(20,))])
        assert scorer._endpoint.request_bound < 32 / 7


@pytest.mark.parametrize("url", ["ftp://x", "http://", "http://u:p@x", "http://x?y=1", "no url"])
def test_bad_urls_are_refused(url):
    with pytest.raises(InvalidParameter):
        VllmHttpScorer(url)


def test_bad_settings_are_refused():
    for bad in ({"requests": 0}, {"tokens": 0}, {"prompts_per_call": 0}):
        with pytest.raises(InvalidParameter):
            Limits(**bad)
