"""One Raft member as a process, with a small protocol for clients: for benches and tests with real processes.

Clients send frames (four bytes of length, MessagePack `[number, operation, payload]`) and get `[number, ok, value]`:
`write` adds a command to a journal (or, with `--values`, replaces a key's value) and answers how many there were
before and with it, `read` answers their number after a read barrier,
`dump` the local journal from a place on (or the values), `status` who leads, `change` carries out a membership change.
"""

import argparse
import asyncio
import contextlib
import functools
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import msgspec
import uvloop
from aiohttp import web
from raft_secure import secured

from essaim.daemon.collector import tune_collector
from essaim.raft.disk.codec import PLAIN
from essaim.raft.interface import LogError
from essaim.raft.member.found import AlreadyFounded, found_cluster
from essaim.raft.member.node import Options, RaftLog
from essaim.raft.member.policy import SnapshotPolicy
from essaim.raft.transport.streams import Access

LENGTH = struct.Struct("<I")
PIECE = 5000  # commands serialised at once: a millisecond or so
encode = msgspec.msgpack.Encoder().encode
decode = msgspec.msgpack.Decoder().decode


def frame(message: Any) -> bytes:
    body = encode(message)
    return LENGTH.pack(len(body)) + body


class Frames:
    """Cuts a stream of bytes into decoded frames."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> list[Any]:
        self._buffer += data
        found, start = [], 0
        while len(self._buffer) - start >= 4:
            end = start + 4 + LENGTH.unpack_from(self._buffer, start)[0]
            if end > len(self._buffer):
                break
            found.append(decode(self._buffer[start + 4 : end]))
            start = end
        del self._buffer[:start]
        return found


class Journal:
    """The state machine: every command, in order."""

    def __init__(self) -> None:
        self.commands: list[bytes] = []

    def apply(self, index: int, command: bytes) -> int:
        self.commands.append(command)
        return len(self.commands)

    def snapshot(self) -> Callable[[], bytes]:
        frozen = list(self.commands)
        return lambda: b"".join(frame(frozen[at : at + PIECE]) for at in range(0, len(frozen), PIECE))

    def restore(self, index: int, data: bytes) -> None:
        self.commands = [command for piece in Frames().feed(data) for command in piece]

    @property
    def applied(self) -> int:
        return len(self.commands)

    def dump(self, start: int) -> list[bytes]:
        return self.commands[start:]


class Values:
    """The state machine: the newest value of each key; a command is a key, a zero byte and the value."""

    def __init__(self) -> None:
        self.applied = 0
        self.values: dict[bytes, bytes] = {}

    def apply(self, index: int, command: bytes) -> int:
        key, _, value = command.partition(b"\0")
        self.values[key] = value
        self.applied += 1
        return self.applied

    def snapshot(self) -> Callable[[], bytes]:
        applied, items = self.applied, list(self.values.items())
        pieces = (items[at : at + PIECE] for at in range(0, len(items), PIECE))
        return lambda: frame(applied) + b"".join(map(frame, pieces))

    def restore(self, index: int, data: bytes) -> None:
        self.applied, *pieces = Frames().feed(data)
        self.values = {key: value for piece in pieces for key, value in piece}

    def dump(self, start: int) -> list[bytes]:
        return list(self.values.values())[start:]


class ClientConnection(asyncio.Protocol):
    """Answers in whatever order the log does; answers of one turn of the loop leave together."""

    def __init__(self, log: RaftLog, machine: Journal | Values) -> None:
        self._log, self._machine = log, machine
        self._frames = Frames()
        self._transport: asyncio.Transport | None = None
        self._answers: list[bytes] = []
        self._tasks: set[asyncio.Task[None]] = set()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's are none by class

    def data_received(self, data: bytes) -> None:
        for number, operation, payload in self._frames.feed(data):
            if operation == "write":
                self._write(number, payload)
                continue
            task = asyncio.create_task(self._handle(number, operation, payload))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    def connection_lost(self, error: Exception | None) -> None:
        for task in self._tasks:
            task.cancel()

    async def _handle(self, number: int, operation: str, payload: Any) -> None:
        try:
            value = await getattr(self, "_" + operation)(payload)
        except LogError as error:
            self._refuse(number, error)
        else:
            self._answer([number, True, value])

    def _write(self, number: int, command: bytes) -> None:
        try:
            answer = self._log.submit(command, timeout=10)
        except LogError as error:
            self._refuse(number, error)
        else:
            answer.add_done_callback(functools.partial(self._written, number))

    def _written(self, number: int, answer: "asyncio.Future[int]") -> None:
        error = answer.exception()
        if error is None:
            self._answer([number, True, answer.result()])
        else:
            self._refuse(number, error)

    def _refuse(self, number: int, error: BaseException) -> None:
        self._answer([number, False, f"{type(error).__name__}: {error}"])

    async def _read(self, _: Any) -> int:
        await self._log.read_barrier(timeout=10)
        return self._machine.applied

    async def _dump(self, start: int) -> list[bytes]:
        return self._machine.dump(start)

    async def _status(self, _: Any) -> list[Any]:
        view = self._log.leadership
        return [view.term, view.leader_id, view.is_local, self._machine.applied]

    async def _change(self, payload: list[Any]) -> None:
        operation, *arguments = payload
        await getattr(self._log, operation)(*arguments, timeout=20)

    def _answer(self, message: list[Any]) -> None:
        if not self._answers:
            asyncio.get_running_loop().call_soon(self._flush)
        self._answers.append(frame(message))

    def _flush(self) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(b"".join(self._answers))
        self._answers = []


async def serve(options: argparse.Namespace) -> None:
    access, codecs, context = secured(options.secure, options.id) if options.secure else (Access(), PLAIN, None)
    members = {int(i): address for i, _, address in (each.partition("=") for each in options.members.split(","))}
    if options.found:
        with contextlib.suppress(AlreadyFounded):
            await asyncio.to_thread(found_cluster, options.dir, members, codecs)
    machine = Values() if options.values else Journal()
    policy = lambda: SnapshotPolicy(entries=options.snapshot_entries)  # noqa: E731
    log = RaftLog(
        options.dir,
        machine,
        member_id=options.id,
        address=members[options.id],
        options=Options(policy=policy, access=access, codecs=codecs),
    )
    application = web.Application()
    application.add_routes(log.routes())
    await log.start()
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    host, _, port = members[options.id].rpartition(":")
    await web.TCPSite(runner, host, int(port), ssl_context=context).start()
    server = await asyncio.get_running_loop().create_server(
        lambda: ClientConnection(log, machine), "127.0.0.1", options.client_port
    )
    print("ready", flush=True)
    try:
        await asyncio.Event().wait()
    finally:
        server.close()
        await log.stop()
        await runner.cleanup()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dir", type=Path, required=True)
    parser.add_argument("--id", type=int, required=True)
    parser.add_argument("--members", required=True, help="1=host:port,2=host:port,...")
    parser.add_argument("--client-port", type=int, required=True)
    parser.add_argument("--found", action="store_true", help="found the cluster if the directory is empty")
    parser.add_argument("--snapshot-entries", type=int, default=50_000)
    parser.add_argument("--values", action="store_true", help="keep the newest value of each key, not a journal")
    parser.add_argument("--secure", type=Path, help="talk over TLS and encrypt the log, by the authority in this file")
    options = parser.parse_args()
    tune_collector()
    with contextlib.suppress(KeyboardInterrupt):
        uvloop.run(serve(options))


if __name__ == "__main__":
    main()
