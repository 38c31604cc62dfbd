"""How much goes out at once, and when nothing does."""

import asyncio

import pytest

from kshot.clients.scorers.breaker import CircuitBreaker
from kshot.clients.scorers.limits import AdaptiveLimit
from kshot.errors import InvalidParameter, ScorerUnavailable
from tests.test_clients.test_scorers.toy import Clock


async def hold(limit, weight, log, name, done):
    async with limit.hold(weight):
        log.append(name)
        await done.wait()


async def settle():
    for _ in range(5):
        await asyncio.sleep(0)


async def test_those_that_wait_go_in_their_order():
    limit = AdaptiveLimit(10)
    log: list[str] = []
    events = {name: asyncio.Event() for name in "abc"}
    tasks = [
        asyncio.create_task(hold(limit, weight, log, name, events[name]))
        for name, weight in (("a", 6), ("b", 6), ("c", 1))
    ]
    await settle()
    # c would fit, but b was there before.
    assert log == ["a"]
    events["a"].set()
    await settle()
    assert log == ["a", "b", "c"]
    assert limit.in_flight == 7
    for event in events.values():
        event.set()
    await asyncio.gather(*tasks)
    assert limit.in_flight == 0


async def test_what_is_heavier_than_the_bound_goes_alone():
    limit, done = AdaptiveLimit(4), asyncio.Event()
    log: list[str] = []
    done.set()
    await hold(limit, 9, log, "heavy", done)
    assert log == ["heavy"]


async def test_those_who_give_up_waiting_make_room():
    limit = AdaptiveLimit(1)
    log: list[str] = []
    first, never, third = asyncio.Event(), asyncio.Event(), asyncio.Event()
    one = asyncio.create_task(hold(limit, 1, log, "one", first))
    await settle()
    two = asyncio.create_task(hold(limit, 1, log, "two", never))
    three = asyncio.create_task(hold(limit, 1, log, "three", third))
    await settle()
    two.cancel()
    await settle()
    first.set()
    await settle()
    assert log == ["one", "three"]
    third.set()
    await asyncio.gather(one, three)
    assert limit.in_flight == 0


def test_an_overload_halves_and_successes_restore():
    limit = AdaptiveLimit(32)
    limit.overloaded()
    limit.overloaded()
    assert limit.bound == 8
    # One more per round of 8 successes: the bound passes 9 after eight or nine of them.
    for _ in range(9):
        limit.succeeded()
    assert 9 <= limit.bound < 9.2
    for _ in range(1000):
        limit.succeeded()
    assert limit.bound == 32
    for _ in range(20):
        limit.overloaded()
    assert limit.bound == 1
    with pytest.raises(InvalidParameter):
        AdaptiveLimit(0)


def test_five_failures_open_and_one_success_closes():
    clock = Clock()
    breaker = CircuitBreaker(clock)
    for _ in range(4):
        breaker.failed()
        breaker.check()
    breaker.failed()
    assert [breaker.is_open] == [True]
    with pytest.raises(ScorerUnavailable):
        breaker.check()
    clock.now_s = 10.0
    # Half-open: one may try, the next has to wait for what it finds.
    breaker.check()
    with pytest.raises(ScorerUnavailable):
        breaker.check()
    breaker.succeeded()
    assert [breaker.is_open] == [False]
    breaker.check()
    for _ in range(4):
        breaker.failed()
    breaker.check()
