"""Whoever stops reading (a terminal on hold, an agent, a connection that is gone) holds up nobody else."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager

import pytest

from essaim.cluster import wire
from essaim.cluster.wire import LogChunk, LogCredit, LogRequest, ToAgent
from essaim.scheduler.dispatch import log_readers
from essaim.scheduler.dispatch.log_readers import BEHIND, UNASKED, WINDOW, LogReaders
from essaim.scheduler.dispatch.session import DIRECT
from tests.scheduler.agents import Manager, SimulatedAgent, description, until
from tests.scheduler.test_dispatcher import Bench, bench, make_task, messages

__all__ = ["bench"]

LINE = b"x" * 1000


class CarefulAgent(SimulatedAgent):
    """Sends output only within the credit that it is given, as fast as that allows."""

    def __init__(self, node_id: str, bench: Bench) -> None:
        super().__init__(node_id, bench.manager.dispatcher)
        self.sent = 0
        self._credit: dict[int, int] = {}

    async def _receive(self, message: ToAgent) -> None:
        if isinstance(message, LogRequest):
            self._credit[message.request] = message.credit
            await self._write(message.request)
        elif isinstance(message, LogCredit):
            self._credit[message.request] += message.bytes
            await self._write(message.request)
        else:
            await super()._receive(message)

    async def _write(self, request: int) -> None:
        while self._credit[request] > 0:
            chunk = LogChunk(request, "t1", line=LINE)
            self._credit[request] -= chunk.cost
            self.sent += 1
            await self.send(chunk)


async def test_reader_that_pauses_pauses_its_stream_and_nothing_else(bench: Bench) -> None:
    """A followed log is read once and then no more: heartbeats are heard and other tasks are told of."""
    agent = await bench.stack.enter_async_context(CarefulAgent("n1", bench))
    await bench.put("tasks", make_task("t1", "n1"))
    await until(lambda: "t1" in agent.tasks)
    async with aclosing(bench.manager.dispatcher.logs.read(LogRequest(0, "t1", follow=True))) as chunks:
        assert (await anext(chunks)).line == LINE
        await until(lambda: agent.sent * (len(LINE) + wire.CHUNK_COST) >= WINDOW)
        before = len(messages(agent, wire.HeartbeatAck))
        await bench.put("tasks", make_task("t2", "n1"))
        await until(lambda: "t2" in agent.tasks and len(messages(agent, wire.HeartbeatAck)) > before + 6)
        assert agent.sent * len(LINE) < WINDOW + 2 * len(LINE), "more came than the reader asked for"
        stored = bench.manager.store.nodes.get("n1")
        assert stored is not None
        assert stored.is_ready
        for _ in range(500):
            await anext(chunks)
        assert agent.sent >= 500, "a reader that goes on is sent more"


async def test_reader_of_a_node_without_credit_is_cut_off_with_the_reason() -> None:
    sent: list[ToAgent] = []
    readers = LogReaders(sent.append, version=0)
    number, reader = readers.open(LogRequest(0, "t1", follow=True))
    for _ in range((WINDOW + UNASKED) // len(LINE) + 100):
        readers.deliver(LogChunk(number, "t1", line=LINE))
    lines = 0
    while not (chunk := await reader.next()).end:
        lines += 1
    assert chunk.error == BEHIND
    assert lines * (len(LINE) + wire.CHUNK_COST) <= WINDOW + UNASKED + 2 * len(LINE)
    assert not any(isinstance(message, LogCredit) for message in sent)
    assert any(isinstance(message, wire.LogCancel) for message in sent)


async def test_reader_opened_after_the_session_has_ended_is_told_so() -> None:
    readers = LogReaders(lambda message: None, version=1)
    readers.close()
    _, reader = readers.open(LogRequest(0, "t1"))
    chunk = await reader.next()
    assert (chunk.end, chunk.lost, chunk.error) == (True, True, log_readers.LOST)


class Stuck:
    """A session whose agent sends, and never reads: what is sent to it waits until `let_go`, and so does the end."""

    def __init__(self) -> None:
        self.let_go = asyncio.Event()
        self._incoming: asyncio.Queue[bytes] = asyncio.Queue()

    def say(self, message: wire.FromAgent) -> None:
        self._incoming.put_nowait(wire.encode(message))

    @property
    def is_heard(self) -> bool:
        return self._incoming.empty()

    async def receive(self) -> bytes | None:
        return await self._incoming.get()

    async def send(self, data: bytes) -> None:
        await self.let_go.wait()

    async def close(self) -> None:
        await self.let_go.wait()


@asynccontextmanager
async def stuck_session(manager: Manager, node_id: str) -> AsyncIterator[Stuck]:
    stuck = Stuck()
    serving = asyncio.create_task(manager.dispatcher.serve(stuck, node_id))
    stuck.say(wire.Hello(node_id, description(node_id), wire.SESSION))
    try:
        await until(lambda: node_id in manager.dispatcher.sessions.connected)
        yield stuck
    finally:
        stuck.let_go.set()
        serving.cancel()
        await asyncio.gather(serving, return_exceptions=True)


async def test_agent_that_does_not_read_holds_up_no_other(bench: Bench) -> None:
    async with stuck_session(bench.manager, "n2"):
        agent = await bench.agent("n1")
        for number in range(50):
            await bench.put("tasks", make_task(f"t{number}", "n1"))
        await until(lambda: len(agent.tasks) == 50)


async def test_agent_that_comes_back_does_not_wait_for_its_old_session_to_close(bench: Bench) -> None:
    async with stuck_session(bench.manager, "n1"):
        agent = await bench.agent("n1")
        await until(lambda: bool(messages(agent, wire.Welcome)))


async def test_leader_that_steps_down_does_not_wait_for_agents_that_do_not_read(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("essaim.scheduler.dispatch.sessions.CLOSE_SECONDS", 0.1)
    async with stuck_session(bench.manager, "n1"), asyncio.timeout(5):
        await bench.manager.dispatcher.stop()


async def test_requests_that_an_agent_leaves_unread_are_bounded_and_end_its_session(bench: Bench) -> None:
    async with stuck_session(bench.manager, "n1"):
        for number in range(DIRECT + 1):
            bench.manager.dispatcher.ask_tunnel("n1", str(number))
        await until(lambda: "n1" not in bench.manager.dispatcher.sessions.connected)


async def test_heartbeats_of_an_agent_that_does_not_read_gather_no_answers(bench: Bench) -> None:
    async with stuck_session(bench.manager, "n1") as stuck:
        for _ in range(3 * DIRECT):
            stuck.say(wire.Heartbeat())
        await until(lambda: stuck.is_heard)
        assert "n1" in bench.manager.dispatcher.sessions.connected, "answers to heartbeats were queued one by one"
