"""A proxy before a Docker Engine's Unix socket that makes the faults of `engine_faults`, for tests and by hand.

    python -m tools.engine_proxy --engine /run/docker.sock --listen /tmp/faulty.sock
    echo '{"rules": [{"action": "refuse", "path": "/containers/.*/stop"}]}' | nc -U -q1 /tmp/faulty.sock.control

- Every call has a connection of its own to the Engine. Bytes are passed on as they come, never decoded: streams
  (logs, events, pulls) are not delayed, and what is hijacked (attach, exec) is passed both ways, half-closes too.
- A request's body is passed on whole before the answer is looked for, unless the request asks for an upgrade.
- The control socket (`LISTEN.control`) takes a line of JSON and answers with one: `{"rules": [...]}` replaces the rules
  (what hangs by one that is gone is dropped), `{"gate": "open" | "deaf" | "closed"}` lets connections in, takes them
  without reading (a stuck Engine; what came meanwhile is carried out once it is open), or refuses them (a stopped
  one); `{}` only asks. `{"forget": true}` forgets the calls. The answer has `rules`, `gate` and `calls`.

In a test with an event loop use `EngineProxy`, in any other `ProxyProcess` (engine_proxy_process.py).
"""

import argparse
import asyncio
import contextlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Self

from .engine_faults import BEFORE_THE_ENGINE, Call, Plan, Rule, plain_path, rules_of, shown
from .engine_wire import (
    HEAD_MOST,
    PIECE,
    Client,
    Gone,
    copy_all,
    copy_body,
    field,
    head_of,
    last_head,
    status_of,
    unless_ended,
)

GATES = ("open", "deaf", "closed")


class EngineProxy:
    """`engine` is the Engine's socket, `listen` where the proxy's is made. Use it with `async with`."""

    def __init__(self, engine: Path | str, listen: Path | str) -> None:
        self.engine = Path(str(engine).removeprefix("unix://"))
        self.listen = Path(listen)
        self.control = self.listen.with_name(self.listen.name + ".control")
        self.plan = Plan()
        self.gate = "closed"
        self._server: asyncio.Server | None = None
        self._control: asyncio.Server | None = None
        self._clients: set[asyncio.Task[None]] = set()
        self._turned = asyncio.Event()

    @property
    def url(self) -> str:
        return f"unix://{self.listen}"

    async def __aenter__(self) -> Self:
        self._control = await asyncio.start_unix_server(self._obey, str(self.control))
        await self.set_gate("open")
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.set_gate("closed")
        if self._control is not None:
            self._control.close()
        self.control.unlink(missing_ok=True)

    def rules(self, *rules: Rule) -> None:
        """Replace the rules; without any, everything passes."""
        self.plan.replace(rules)
        self._turn()

    async def set_gate(self, gate: str) -> None:
        """`open`, `deaf` or `closed`; connections that are there are cut unless the gate is opened."""
        if gate not in GATES:
            raise ValueError(f"unknown gate {gate!r}; there are {', '.join(GATES)}")
        self.gate = gate
        if gate == "closed" and self._server is not None:
            self._server.close()
            self._server = None
            self.listen.unlink(missing_ok=True)
        if gate != "open":
            await self._cut_all()
        if gate != "closed" and self._server is None:
            self.listen.unlink(missing_ok=True)
            loop = asyncio.get_running_loop()
            self._server = await loop.create_unix_server(self._protocol, str(self.listen))
        self._turn()

    def _protocol(self) -> asyncio.StreamReaderProtocol:
        return asyncio.StreamReaderProtocol(Client(), self._accept)

    async def _cut_all(self) -> None:
        await asyncio.sleep(0)  # a connection made in this turn of the loop has no task yet
        clients = list(self._clients)
        for client in clients:
            client.cancel()
        await asyncio.gather(*clients, return_exceptions=True)

    def _turn(self) -> None:
        self._turned.set()
        self._turned = asyncio.Event()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One client's connection, call after call."""
        me = asyncio.current_task()
        assert me is not None
        assert isinstance(reader, Client)
        self._clients.add(me)
        try:
            while self.gate == "deaf":
                await self._turned.wait()
            while await self._call(reader, writer):
                pass
        except (Gone, OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            pass
        except asyncio.CancelledError:
            writer.transport.abort()
        finally:
            self._clients.discard(me)
            writer.close()

    async def _call(self, reader: Client, writer: asyncio.StreamWriter) -> bool:
        """Carry one call; whether another may follow on this connection."""
        head = await head_of(reader)
        method, target = head.split(b" ", 2)[:2]
        call = Call(method.decode(), plain_path(target.decode()))
        self.plan.calls.append(call)
        rule = self.plan.decide(call.method, call.path)
        call.met = rule.action if rule else ""
        if rule is not None and rule.action in BEFORE_THE_ENGINE:
            await copy_body(reader, None, head)
            return await self._without_the_engine(rule, call, reader, writer)
        if rule is not None and rule.action == "delay":
            await asyncio.sleep(rule.seconds)
        # An Engine that is away looks to the client as if the connection broke.
        engine, to_engine = await asyncio.open_unix_connection(str(self.engine), limit=HEAD_MOST)
        try:
            to_engine.write(head)
            if field(head, "upgrade"):
                return await self._hijack(rule, call, reader, writer, engine, to_engine)
            await copy_body(reader, to_engine, head)
            answer = asyncio.ensure_future(self._answer(rule, call, engine, writer))
            return await unless_ended(reader, answer)
        finally:
            to_engine.transport.abort()

    async def _without_the_engine(self, rule: Rule, call: Call, reader: Client, writer: asyncio.StreamWriter) -> bool:
        if rule.action == "refuse":
            await self._refuse(rule, call, writer)
            return True
        if rule.action == "hang":
            await unless_ended(reader, asyncio.ensure_future(self._while_in_force(rule)))
        raise Gone

    @staticmethod
    async def _refuse(rule: Rule, call: Call, writer: asyncio.StreamWriter) -> None:
        body = json.dumps({"message": rule.message}).encode() + b"\n"
        call.status = rule.status
        head = (
            f"HTTP/1.1 {rule.status} Refused\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        writer.write(head.encode() + body)
        await writer.drain()

    async def _while_in_force(self, rule: Rule) -> None:
        while rule in self.plan.rules:
            await self._turned.wait()

    async def _answer(
        self, rule: Rule | None, call: Call, engine: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> bool:
        """Pass the Engine's answer on, or what the rule makes of it."""
        head = await last_head(engine)
        action = rule.action if rule else ""
        if rule is not None and action in ("refuse-after", "drop-after", "hang-after"):
            await copy_body(engine, None, head, method=call.method)
            if action == "refuse-after":
                await self._refuse(rule, call, writer)
                return True
            if action == "hang-after":
                await self._while_in_force(rule)
            raise Gone
        if rule is not None and action == "delay-answer":
            await asyncio.sleep(rule.seconds)
        call.status = status_of(head)
        writer.write(head)
        if rule is not None and action in ("cut", "mute"):
            await self._part_of_body(rule, engine, writer)
            raise Gone
        return await copy_body(engine, writer, head, method=call.method)

    async def _part_of_body(self, rule: Rule, engine: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        left = rule.bytes if rule.action == "cut" else 0
        while left and (data := await engine.read(min(left, PIECE))):
            left -= len(data)
            writer.write(data)
        await writer.drain()
        if rule.action == "mute":
            await self._while_in_force(rule)

    async def _hijack(
        self,
        rule: Rule | None,
        call: Call,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        engine: asyncio.StreamReader,
        to_engine: asyncio.StreamWriter,
    ) -> bool:
        """A request that asks for an upgrade: both sides may write at any time, until the Engine has closed."""
        upwards = asyncio.ensure_future(copy_all(reader, to_engine))
        try:
            await self._answer(rule, call, engine, writer)
        finally:
            upwards.cancel()
            await asyncio.gather(upwards, return_exceptions=True)
        return False

    # Control

    async def _obey(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while line := await reader.readline():
                writer.write(json.dumps(await self._order(line)).encode() + b"\n")
                await writer.drain()
        except OSError:
            pass
        finally:
            writer.close()

    async def _order(self, line: bytes) -> dict[str, Any]:
        try:
            order = json.loads(line)
            if "rules" in order:
                self.rules(*rules_of(json.dumps(order["rules"])))
            if "gate" in order:
                await self.set_gate(order["gate"])
        except ValueError as error:
            return {"error": str(error)}
        answer = {"rules": shown(self.plan.rules), "gate": self.gate, "calls": shown(self.plan.calls)}
        if order.get("forget"):
            self.plan.calls.clear()
        return answer


async def _serve(proxy: EngineProxy, rules: Iterable[Rule]) -> None:
    async with proxy:
        proxy.rules(*rules)
        print(f"passing calls at {proxy.listen} on to {proxy.engine}; control: {proxy.control}", flush=True)
        await asyncio.Event().wait()


def main() -> None:
    parser = argparse.ArgumentParser(prog="engine_proxy", description="a Docker Engine with faults", allow_abbrev=False)
    parser.add_argument("--engine", default="/run/docker.sock", help="the Engine's socket")
    parser.add_argument("--listen", required=True, help="the socket to make")
    parser.add_argument("--rules", default="[]", type=rules_of, help="JSON: the rules to begin with")
    chosen = parser.parse_args()
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(_serve(EngineProxy(chosen.engine, chosen.listen), chosen.rules))


if __name__ == "__main__":
    main()
