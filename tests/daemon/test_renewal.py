import asyncio
from collections.abc import Callable

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

from essaim.cluster.errors import Unavailable
from essaim.daemon.keys.renewal import EARLIEST, LATEST, RETRY_LEAST, RETRY_MOST, Renewer, due, retry_after

LOG = structlog.get_logger()
TIMES = st.floats(0, 2e9)
LIVES = st.floats(60, 1e9)


@given(TIMES, LIVES, st.floats(0, 1))
def test_renewal_is_due_in_the_middle_of_the_certificates_life(start: float, life: float, share: float) -> None:
    moment = due(start, start + life, share)
    assert start + life * EARLIEST - 1 <= moment <= start + life * LATEST + 1


@given(TIMES, LIVES, st.integers(0, 100_000))
def test_retry_comes_soon_at_first_and_never_later_than_the_most(start: float, life: float, attempt: int) -> None:
    pause = retry_after(start, start + life, attempt)
    assert RETRY_LEAST <= pause <= RETRY_MOST
    assert attempt or pause == RETRY_LEAST
    assert pause <= retry_after(start, start + life, attempt + 1)


class Node:
    """A node with a wall clock of its own, and certificates that are good for a second."""

    def __init__(self) -> None:
        self.good = (0.0, 1000.0)
        self.renewed: list[float] = []
        self.failures = 0
        self.clock: Callable[[], float] = asyncio.get_running_loop().time
        self.renewer = Renewer(lambda: self.good, self.renew, now=lambda: self.clock(), chance=lambda: 0.0, log=LOG)

    async def renew(self) -> None:
        if self.failures:
            self.failures -= 1
            raise Unavailable("nobody is there")
        now = self.clock()
        self.renewed.append(now)
        self.good = (now, now + 1000)

    async def until(self, count: int) -> None:
        async with asyncio.timeout(10):
            while len(self.renewed) < count:
                await asyncio.sleep(0.01)


@pytest.fixture
async def node() -> Node:
    return Node()


async def test_renewer_waits_for_its_moment_and_renews_at_once_when_it_is_asked(node: Node) -> None:
    base = node.clock()
    node.good = (base, base + 1000)
    node.renewer.start()
    try:
        await asyncio.sleep(0.05)
        assert node.renewed == []
        node.renewer.ask()
        await node.until(1)
        node.renewer.ask()
        await node.until(2)
    finally:
        await node.renewer.stop()


async def test_renewer_renews_what_is_overdue_and_tries_again_after_a_failure(node: Node) -> None:
    base = node.clock()
    node.good = (base - 600, base + 400)
    node.failures = 1
    node.renewer.start()
    try:
        await node.until(1)
        assert node.renewed[0] - base >= RETRY_LEAST * 0.9
    finally:
        await node.renewer.stop()


async def test_renewer_with_a_clock_that_is_months_ahead_does_not_ask_without_a_pause(node: Node) -> None:
    calls = 0

    async def renew() -> None:
        nonlocal calls
        calls += 1

    renewer = Renewer(lambda: (0.0, 1.0), renew, now=node.clock, chance=lambda: 0.0, log=LOG)
    renewer.start()
    await asyncio.sleep(0.3)
    await renewer.stop()
    assert calls == 1
