"""Output of tasks by credit: a reader who pauses holds up his own stream, and nothing of the session."""

import asyncio
from collections.abc import AsyncGenerator

from essaim.agent.runtime.interface import LogLine
from essaim.agent.session.log_streams import LogStreams
from essaim.cluster import wire
from essaim.cluster.wire import CHUNK_COST, FromAgent, LogChunk, LogCredit, LogRequest

from .conftest import MakeAgent
from .doubles import FakeManager, FakeRuntime, until

LINE = LogLine(1, "2026-01-01T00:00:00.000000000Z", b"x" * 936)
COST = len(LINE.line) + CHUNK_COST


class Chatty(FakeRuntime):
    """Never ends; `read` counts the lines that were taken."""

    read = 0

    async def logs(self, request: LogRequest) -> AsyncGenerator[LogLine, None]:
        while True:
            self.read += 1
            yield LINE
            await asyncio.sleep(0)


async def test_stream_sends_what_it_has_credit_for_and_then_reads_no_further() -> None:
    sent: list[FromAgent] = []

    async def send(message: FromAgent) -> None:
        sent.append(message)

    runtime = Chatty()
    streams = LogStreams(runtime, send)
    streams.open(LogRequest(1, "t1", follow=True, credit=10 * COST))
    streams.open(LogRequest(2, "t2", follow=True, credit=100 * COST))
    await until(lambda: len(sent) == 110)
    read = runtime.read
    for _ in range(100):
        await asyncio.sleep(0)
    assert (len(sent), runtime.read) == (110, read)
    streams.credit(LogCredit(1, 5 * COST))
    await until(lambda: len(sent) == 115)
    streams.credit(LogCredit(99, COST))  # a stream that has ended
    await streams.close()


async def test_stream_of_a_manager_without_credit_is_sent_as_it_comes() -> None:
    sent: list[FromAgent] = []

    async def send(message: FromAgent) -> None:
        sent.append(message)

    streams = LogStreams(Chatty(), send)
    streams.open(LogRequest(1, "t1", follow=True))
    await until(lambda: len(sent) > 500)
    await streams.close()


async def test_streams_whose_source_does_not_let_go_hold_up_nobody() -> None:
    class Stuck(FakeRuntime):
        released = asyncio.Event()

        async def logs(self, request: LogRequest) -> AsyncGenerator[LogLine, None]:
            try:
                yield LINE
                await asyncio.Event().wait()
            finally:
                await self.released.wait()

    sent: list[FromAgent] = []

    async def send(message: FromAgent) -> None:
        sent.append(message)

    runtime = Stuck()
    streams = LogStreams(runtime, send)
    streams.open(LogRequest(1, "t1", follow=True))
    await until(lambda: bool(sent))
    async with asyncio.timeout(5):
        await streams.close()
    runtime.released.set()
    await until(lambda: not streams._tasks)


async def test_session_lives_on_while_a_reader_pauses(make_agent: MakeAgent) -> None:
    manager = FakeManager(heartbeat=0.1)
    agent = make_agent(Chatty(), dial=manager.dial)
    await agent.start()
    await until(lambda: manager.hellos == 1 and agent.is_connected)
    await manager.send(LogRequest(1, "t1", follow=True, credit=3 * COST))
    await until(lambda: len(manager.of_type(LogChunk)) == 3)
    beats = len(manager.of_type(wire.Heartbeat))
    await until(lambda: len(manager.of_type(wire.Heartbeat)) > beats + 3)
    assert len(manager.of_type(LogChunk)) == 3
    assert manager.hellos == 1
    await manager.close()
