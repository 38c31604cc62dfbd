"""Waiting for a version of a pool to become selectable."""

import asyncio
import threading

from kshot.server.services.waiting import Publications


async def test_a_version_that_is_there_needs_no_waiting():
    publications = Publications()
    assert await publications.reached(1, 0, timeout_s=0)
    publications.announce(1, 5)
    assert await publications.reached(1, 5, timeout_s=0)
    assert publications.has(1, 5)
    assert not publications.has(1, 6)
    assert not publications.has(2, 1)


async def test_waiters_go_on_with_their_own_version_alone():
    publications = Publications()
    third, fourth, other = (
        asyncio.create_task(publications.reached(pool, version, timeout_s=30))
        for pool, version in ((1, 3), (1, 4), (2, 3))
    )
    await asyncio.sleep(0)
    thread = threading.Thread(target=publications.announce, args=(1, 3))
    thread.start()
    assert await third
    thread.join()
    assert not fourth.done()
    assert not other.done()
    publications.announce(1, 4)
    publications.announce(2, 7)
    assert await fourth
    assert await other


async def test_waiting_ends_without_success():
    publications = Publications()
    assert not await publications.reached(1, 1, timeout_s=0.001)
    for give_up in (lambda: publications.give_up(1), lambda: publications.forget(1), publications.close):
        waiting = asyncio.create_task(publications.reached(1, 1, timeout_s=30))
        await asyncio.sleep(0)
        give_up()
        assert not await waiting


async def test_a_waiter_that_left_is_forgotten():
    publications = Publications()
    waiting = asyncio.create_task(publications.reached(1, 1, timeout_s=30))
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    publications.announce(1, 1)
    assert await publications.reached(1, 1, timeout_s=0)


def test_a_waiter_whose_loop_is_gone_hinders_nobody():
    publications = Publications()
    loop = asyncio.new_event_loop()
    task = loop.create_task(publications.reached(1, 1, timeout_s=30))
    loop.run_until_complete(asyncio.sleep(0))
    loop.close()
    publications.announce(1, 1)
    assert publications.has(1, 1)
    task._log_destroy_pending = False  # type: ignore[attr-defined]  # asyncio's own switch
