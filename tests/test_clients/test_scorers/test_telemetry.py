"""What a scorer tells about its work, what it sends with every request, and how much at once."""

import math
import random

import pytest

from kshot.clients.scorers.audit import Audit
from kshot.clients.scorers.base import AuditReport, Pair, Scored, ScoringMode
from kshot.clients.scorers.endpoint import Limits
from kshot.clients.scorers.telemetry import Telemetry
from kshot.clients.scorers.vllm_http import VllmHttpScorer
from kshot.errors import InvalidParameter
from kshot.testing import ToyCompletionServer
from tests.test_clients.test_scorers.toy import IDS, random_ids, ready, scorer_of


class Log:
    def __init__(self):
        self.requests: list[tuple[str, int]] = []
        self.differences: list[float] = []
        self.alarms = 0

    def telemetry(self):
        return Telemetry(
            requested=lambda outcome, tokens: self.requests.append((outcome, tokens)),
            audited=self.differences.append,
            alarmed=self._alarmed,
        )

    def _alarmed(self):
        self.alarms += 1


async def test_every_attempt_is_told_with_its_tokens():
    server, log = ToyCompletionServer(), Log()
    pairs = [Pair(context=(19, 30, 41), completion=(50, 60))]
    async with scorer_of(server, telemetry=log.telemetry()) as scorer:
        await ready(scorer, server)
        # More log-probabilities than a server lists are asked for once, to see.
        assert [one for one in log.requests if one[0] != "ok"] == [("refused", 4)]
        log.requests.clear()
        server.faults.too_many, server.faults.internal = 1, 0
        await scorer.score_batch(pairs, IDS[ScoringMode.ECHO])
        assert [one for one in log.requests if one[1]] == [("overloaded", 5), ("ok", 5)]
        log.requests.clear()
        server.faults.poison_token = 60
        await scorer.score_batch(pairs, IDS[ScoringMode.ECHO])
        # Alone it is tried again, as it may have been a passing fault.
        assert {one for one in log.requests if one[1]} == {("broken", 5)}
        log.requests.clear()
        server.faults.down = True
        with pytest.raises(Exception, match="scorer"):
            await scorer.score_batch(pairs, IDS[ScoringMode.ECHO])
        # The transport refuses before anything is sent.
        assert {outcome for outcome, _ in log.requests} == {"lost"}


async def test_differences_are_told_and_an_alarm_is_shown_until_they_are_small_again():
    server, log = ToyCompletionServer(), Log()
    async with scorer_of(server, audit_share=1.0, telemetry=log.telemetry()) as scorer:
        assert (await scorer.capabilities()).audit == AuditReport()

        async def score(start, stop):
            for i in range(start, stop):
                pairs = [Pair(context=(19 + i % 100, 30, 41 + i // 100), completion=(50,))]
                await scorer.score_batch(pairs, IDS[ScoringMode.LABEL])
                while scorer._background:
                    await next(iter(scorer._background))

        await score(0, 5)
        found = (await scorer.capabilities()).audit
        assert (found.checked, found.alarms, found.alarm_nats) == (5, 0, None)
        assert found.p99_nats == max(log.differences) < 1e-9
        server.faults.corrupt_prompt_logprobs = True
        while not log.alarms:
            await score(scorer.audit.report().checked, scorer.audit.report().checked + 1)
        server.faults.corrupt_prompt_logprobs = False
        found = (await scorer.capabilities()).audit
        assert (found.alarms, found.p99_nats) == (1, None)
        assert found.alarm_nats > 0.2
        assert found.checked == len(log.differences)
        await score(100, 119)
        assert scorer.audit.report().alarm_nats == found.alarm_nats
        await score(119, 120)
        assert scorer.audit.report().alarm_nats is None
        assert scorer.audit.report().alarms == log.alarms == 1


def test_differences_without_end_alarm_as_well():
    audit = Audit(1.0, random.Random(0))
    for _ in range(20):
        audit.record(math.inf)
    assert audit.alarming
    audit.start_over()
    assert audit.report().alarm_nats == math.inf


async def test_prompts_under_another_salt_share_no_cache():
    server = ToyCompletionServer()
    context = random_ids(random.Random(1), 64, 64)
    pairs = [Pair(context=context, completion=(50,))]
    cached: dict[str | None, list[int]] = {}
    for salt in ("one", "two", "one", None):
        async with scorer_of(server, cache_salt=salt) as scorer:
            await ready(scorer, server)
            await scorer.score_batch(pairs, IDS[ScoringMode.LABEL])
        ((_, cached_tokens),) = server.ledger.prompts
        cached.setdefault(salt, []).append(cached_tokens)
        assert {body.get("cache_salt") for body in server.ledger.bodies} == {salt}
    assert cached == {"one": [0, 48], "two": [0], None: [0]}


async def test_every_request_has_the_priority_that_was_set():
    server = ToyCompletionServer(priorities=True)
    async with scorer_of(server, priority=7) as scorer:
        (one,) = await scorer.score_batch([Pair(context=(19, 30), completion=(50,))])
    assert isinstance(one, Scored)
    assert {body["priority"] for body in server.ledger.bodies} == {7}


async def test_a_priority_that_the_server_does_not_know_refuses_it():
    async with scorer_of(ToyCompletionServer(), priority=7, cache_salt="pepper") as scorer:
        known = await scorer.capabilities()
    assert known.modes == ()
    assert all("status 400 (Error), asked with cache_salt, priority" in one for one in known.refusals)
    assert "pepper" not in repr(known)


def test_an_empty_salt_is_none():
    with pytest.raises(InvalidParameter):
        VllmHttpScorer("http://127.0.0.1:1", cache_salt="")
    assert "pepper" not in repr(VllmHttpScorer("http://127.0.0.1:1", cache_salt="pepper"))


async def test_what_is_read_in_one_request_is_bounded_whatever_the_limits():
    server = ToyCompletionServer(max_model_tokens=20_000)
    rng = random.Random(2)
    pairs = [Pair(context=random_ids(rng, 4000, 4000), completion=(50,)) for _ in range(20)]
    limits = Limits(requests=64, read_tokens=1_000_000, prompts_per_call=64)
    async with scorer_of(server, limits=limits) as scorer:
        await ready(scorer, server)
        await scorer.score_batch(pairs, IDS[ScoringMode.ECHO])
    sizes = [sum(map(len, body["prompt"])) for body in server.ledger.bodies]
    assert sum(sizes) == 20 * 4001
    assert max(sizes) == 8 * 4001 <= 32_768
