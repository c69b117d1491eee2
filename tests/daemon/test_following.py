"""Output that is followed goes on where it was when the way to it broke: nothing twice, nothing left out."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from essaim.agent.runtime.process.logs import seconds
from essaim.cluster.errors import Unavailable
from essaim.cluster.wire import LogChunk, LogRequest
from essaim.daemon.following import OVERLAP, PATIENCE, followed

BASE = 1_700_000_000


def stamp(at: int) -> str:
    """`at` in tenths of a second."""
    return f"2023-11-14T22:{13 + (20 + at // 10) // 60:02d}:{(20 + at // 10) % 60:02d}.{at % 10}00000000Z"


@dataclass
class Source:
    """A task's output; each reading of it breaks after so many lines, by a lost session or a lost leader."""

    lines: list[tuple[int, int, bytes]]
    breaks: list[tuple[int, bool]]
    requests: list[LogRequest] = field(default_factory=list)

    def open(self, request: LogRequest) -> AsyncIterator[LogChunk]:
        self.requests.append(request)
        return self._read(request, *(self.breaks.pop(0) if self.breaks else (len(self.lines) + 1, False)))

    async def _read(self, request: LogRequest, count: int, by_leader: bool) -> AsyncGenerator[LogChunk, None]:
        wanted = [line for line in self.lines if not request.since or seconds(stamp(line[1])) >= request.since]
        for stream, at, text in wanted[:count]:
            yield LogChunk(0, "t1", stream, stamp(at), text)
        if count >= len(wanted) + 1 or (not self.breaks and count > len(wanted)):
            yield LogChunk(0, "t1", end=True)
        elif by_leader:
            raise Unavailable("the leader is gone")
        else:
            yield LogChunk(0, "t1", end=True, lost=True, error="the connection to the node was lost")


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.now += seconds
        await asyncio.sleep(0)


async def read(source: Source, *, is_there: bool = True) -> list[LogChunk]:
    clock = Clock()
    request = LogRequest(0, "t1", follow=True)
    stream = followed(source.open, request, lambda: is_there, monotonic=clock, sleep=clock.sleep)
    return [chunk async for chunk in stream]


LINES = st.lists(st.tuples(st.integers(1, 2), st.integers(0, 3)), max_size=12)


@given(LINES, st.lists(st.tuples(st.integers(0, 12), st.booleans()), max_size=4))
def test_followed_output_has_every_line_once_wherever_it_broke(
    steps: list[tuple[int, int]], breaks: list[tuple[int, bool]]
) -> None:
    """Many lines have the same time stamp, as with a clock that is coarser than the program is fast."""
    at, lines = 0, []
    for number, (stream, step) in enumerate(steps):
        at += step
        lines.append((stream, at, b"%d" % number))
    chunks = asyncio.run(read(Source(lines, breaks)))
    assert [chunk.line for chunk in chunks if not chunk.end] == [line for _, _, line in lines]
    assert chunks[-1].end
    assert not chunks[-1].error


async def test_followed_output_is_not_read_again_from_its_beginning() -> None:
    lines = [(1, at, b"%d" % at) for at in range(300)]
    source = Source(lines, [(200, False)])
    assert len(await read(source)) == 301
    assert source.requests[1].tail == -1
    assert source.requests[1].since == pytest.approx(seconds(stamp(199)) - OVERLAP)


async def test_followed_output_of_a_clock_that_was_set_back_leaves_nothing_out() -> None:
    """It may say again what is stamped later than the last line."""
    lines = [(1, 50, b"a"), (1, 20, b"b"), (1, 21, b"c"), (1, 60, b"d")]
    chunks = await read(Source(lines, [(2, False)]))
    said = [c.line for c in chunks if not c.end]
    assert said[:2] == [b"a", b"b"]
    assert said[-2:] == [b"c", b"d"]


async def test_followed_output_of_a_node_that_is_down_ends_with_the_reason() -> None:
    (chunk,) = await read(Source([(1, 0, b"a")], [(0, False)]), is_there=False)
    assert chunk.error == "the connection to the node was lost"


async def test_followed_output_of_a_node_that_went_down_with_the_leader_ends_with_the_reason() -> None:
    """As one task's end, and not as an error that would end what is followed of other tasks too."""
    chunks = await read(Source([(1, 0, b"a")], [(0, True)]), is_there=False)
    assert chunks[-1].end
    assert "is down (the leader is gone)" in chunks[-1].error


async def test_followed_output_is_given_up_after_a_while_without_a_leader() -> None:
    source = Source([(1, 0, b"a")], [(0, True)] * 1000)
    with pytest.raises(Unavailable, match="the leader is gone"):
        await read(source)
    assert len(source.requests) >= PATIENCE


async def test_followed_output_that_its_reader_leaves_is_closed() -> None:
    closed = asyncio.Event()

    async def open_(request: LogRequest) -> AsyncGenerator[LogChunk, None]:
        try:
            yield LogChunk(0, "t1", 1, stamp(0), b"a")
            await asyncio.Event().wait()
        finally:
            closed.set()

    stream = followed(open_, LogRequest(0, "t1", follow=True), lambda: True, monotonic=Clock())
    await anext(stream)
    await stream.aclose()
    assert closed.is_set()
