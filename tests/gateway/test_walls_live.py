"""Walls in real workers and between connections: a message, request or time-out that fails is no other's affair."""

import asyncio
import os
import socket
from pathlib import Path
from typing import Any

import msgspec
import pytest

from essaim.gateway.http.client import Client
from essaim.gateway.protocol.messages import (
    Applied,
    Channel,
    Faulty,
    FromWorker,
    Listen,
    Message,
    PortPlan,
    PutService,
    ServicePlan,
    ToWorker,
    Version,
)
from essaim.gateway.protocol.options import ServiceOptions
from essaim.gateway.protocol.routes import RoutePort, RouteService
from essaim.gateway.routing import labels as labels_module
from essaim.gateway.runtime.deadlines import NEVER, Deadlines
from essaim.gateway.upstream.backend import Backend
from essaim.gateway.worker.worker import Worker
from tests.ports import free_port

from .conftest import Backends, endpoint, entry_points, exchange, gateway_with, http_get, service, table, until
from .hostile import GROUPS, VALUES, all_of
from .plane import Plane

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"


def labelled(name: str, labels: dict[str, str], target: int) -> RouteService:
    ports = [RoutePort(protocol="tcp", target_port=80, published_port=0, endpoints=[endpoint(f"{name}.1", target)])]
    return RouteService(id=f"id-{name}", name=name, labels=labels, ports=ports)


async def test_gateway_serves_the_healthy_service_beside_every_group_of_hostile_labels(
    tmp_path: Path, backends: Backends
) -> None:
    replica, port, web = await backends.web("good"), free_port(), free_port()
    good = service("healthy", port, [endpoint("t", replica)], "http")
    hostile = [
        labelled(f"bad{n}", all_of(group, VALUES[(7 * n + step) % len(VALUES)]), replica)
        for n, group in enumerate(GROUPS)
        for step in (0, 31)
    ]
    async with gateway_with(tmp_path, entry_points({"web": web})) as running:
        await running.apply(table(1, good))
        pids = [worker["pid"] for worker in (await running.status())["workers"]]
        over = asyncio.Event()

        async def load() -> list[int]:
            seen = []
            while not over.is_set():
                seen.append((await http_get(port))[0])
            return seen

        asking = asyncio.create_task(load())
        for version in range(2, 6):
            part = hostile[: len(hostile) * (version - 1) // 4]
            assert await running.apply(table(version, good, *part)) == version
        over.set()
        assert set(await asking) == {200}
        status = await running.status()
        assert [worker["pid"] for worker in status["workers"]] == pids
        assert len(status["services"]) == 1 + len(hostile)


async def test_worker_router_that_it_cannot_make_is_the_services_fault_in_the_status(
    tmp_path: Path, backends: Backends, monkeypatch: pytest.MonkeyPatch
) -> None:
    replica, web = await backends.web("r"), free_port()
    rule, other = "traefik.http.routers.bad.rule", "traefik.http.routers.other.rule"
    good = labelled("good", {"traefik.http.routers.good.rule": "Host(`good`)"}, replica)
    async with gateway_with(tmp_path, entry_points({"web": web})) as running:

        async def ask(host: str) -> bytes:
            return (await exchange(web, f"GET / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode()))[:12]

        with monkeypatch.context() as patched:
            # The daemon takes it, the worker cannot.
            patched.setattr(labels_module, "parse_rule", lambda text: None)
            labels = {rule: "Host(`bad`) &&", other: "Host(`other`)"}
            patched.setattr("essaim.gateway.control.plan.tls_conflicts", lambda plans: {})
            await running.apply(table(1, good, labelled("bad", labels, replica)))
        bad = (await running.status())["services"][1]
        assert bad["fault"].startswith("router bad is not served: the gateway cannot read this service (BadRule")
        assert (await running.status())["services"][0]["fault"] is None
        assert [await ask("good"), await ask("other"), await ask("bad")] == [
            b"HTTP/1.1 200", b"HTTP/1.1 200", b"HTTP/1.1 404",
        ]  # fmt: skip
        assert await running.apply(table(2, good, labelled("bad", {rule: "Host(`bad`)"}, replica))) == 2
        assert (await running.status())["services"][1]["fault"] is None
        assert await ask("bad") == b"HTTP/1.1 200"


async def test_gateway_table_that_cannot_be_planned_leaves_the_last_one_and_is_reported(
    tmp_path: Path, backends: Backends, monkeypatch: pytest.MonkeyPatch
) -> None:
    port, other = free_port(), free_port()
    replicas = [endpoint("t", await backends.web("t"))]
    async with gateway_with(tmp_path, {}) as running:
        await running.apply(table(1, service("web", port, replicas, "http")))
        with monkeypatch.context() as patched:

            def broken(*_: Any) -> Any:
                raise RuntimeError("a fault that nobody knows")

            patched.setattr("essaim.gateway.control.plan.Planner._bind", broken)
            assert await running.apply(table(2, service("web", other, replicas, "http"))) == 1
        assert (await http_get(port))[0] == 200
        status = await running.status()
        assert status["version"] == 1
        assert status["warnings"] == [
            "table 2 cannot be taken in, table 1 is served: RuntimeError('a fault that nobody knows')"
        ]
        assert await running.apply(table(3, service("web", other, replicas, "http"))) == 3
        assert (await http_get(other))[0] == 200
        assert (await running.status())["warnings"] == []


@pytest.mark.parametrize("host_ip", ["\x00", "no address", "a" * 300, "::%", "300.1.1.1"])
async def test_gateway_port_that_no_system_can_bind_is_reported_and_the_others_are_served(
    tmp_path: Path, backends: Backends, host_ip: str
) -> None:
    port = free_port()
    replicas = [endpoint("t", await backends.web("t"))]
    good = service("web", port, replicas, "http")
    bad = service("bad", free_port(), replicas)
    bad = msgspec.structs.replace(bad, ports=[msgspec.structs.replace(bad.ports[0], host_ip=host_ip)])
    async with gateway_with(tmp_path, {}) as running:
        assert await running.apply(table(1, bad, good)) == 1
        assert (await http_get(port))[0] == 200
        assert [one["bound"] for one in (await running.status())["listeners"]].count(False) == 1


class Ends:
    """Both ends of a worker's control connection, in this process."""

    def __enter__(self) -> "Ends":
        self.heard: list[Message] = []
        self.socket, theirs = socket.socketpair()
        self.worker = Worker(theirs, 100)
        self.worker._deadlines.start()
        self.worker._channel.start()
        self.channel = Channel(self.socket, FromWorker, lambda message, take: self.heard.append(message), lambda: None)
        self.channel.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.channel.close()
        self.worker._channel.close()
        self.worker._deadlines.stop()


def plan(name: str) -> PutService:
    port = PortPlan(f"{name}/80", "http", 0, 80, [])
    return PutService(ServicePlan(id=name, name=name, options=ServiceOptions(), ports=[port]))


async def test_worker_service_that_it_cannot_take_in_is_reported_and_taken_out_whole(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    update = Backend.update

    def broken(self: Backend, service: ServicePlan, *rest: Any) -> None:
        if service.id == "bad" and service.ports[0].published_port == 80:
            raise ZeroDivisionError("by nothing")
        update(self, service, *rest)

    monkeypatch.setattr(Backend, "update", broken)
    with Ends() as ends:
        for message in (plan("good"), plan("bad"), plan("late"), Version(3)):
            ends.channel.send(message)
        await until(lambda: Applied(3) in ends.heard)
        faults = [one for one in ends.heard if isinstance(one, Faulty)]
        assert [(one.service, "ZeroDivisionError: by nothing" in one.reason) for one in faults] == [("bad", True)]
        assert set(ends.worker._services) == {"good", "late"}
        assert "bad/80" not in ends.worker._backends
        mended = plan("bad").service
        ports = [msgspec.structs.replace(mended.ports[0], published_port=81)]
        ends.channel.send(PutService(msgspec.structs.replace(mended, ports=ports)))
        await until(lambda: Faulty("bad", "") in ends.heard)


async def test_worker_bytes_that_are_no_message_cost_that_message_and_no_descriptor() -> None:
    heard: list[tuple[Message, int]] = []
    faults: list[tuple[Message | None, Exception]] = []

    def take(message: Message, take_fd: Any) -> None:
        if isinstance(message, Listen):
            fd = take_fd()
            heard.append((message, os.fstat(fd).st_ino))
            os.close(fd)
        else:
            heard.append((message, 0))
            raise KeyError("unknown")

    near, far = socket.socketpair()
    sender = Channel(near, FromWorker, lambda message, take_fd: None, lambda: None)
    receiver = Channel(far, ToWorker, take, lambda: None, lambda message, error: faults.append((message, error)))
    sender.start()
    receiver.start()
    with open("/dev/null") as first, open("/dev/zero") as second:  # devices
        sender.send(msgspec.Raw(b"\xc1garbage"), first.fileno())  # type: ignore[arg-type]
        sender.send(Version(1))
        sender.send(Listen("k", "p", has_socket=True), second.fileno())
        await until(lambda: len(heard) == 2)
        assert heard == [(Version(1), 0), (Listen("k", "p", has_socket=True), os.fstat(second.fileno()).st_ino)]
    assert [(message, type(error)) for message, error in faults] == [
        (None, msgspec.DecodeError), (Version(1), KeyError),
    ]  # fmt: skip
    assert not receiver._fds
    sender.close()
    receiver.close()


async def test_request_that_breaks_the_gateway_is_answered_and_its_connection_ends(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    broken, whole = Plane(), Plane()

    def raises(self: Client, request: Any) -> bytes:
        raise LookupError("a fault that nobody knows")

    reported: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: reported.append(context))
    with monkeypatch.context() as patched:
        patched.setattr(Client, "head", raises)
        broken.ask(GET)
    assert broken.near.written.startswith(b"HTTP/1.1 500 ")
    assert b"nobody knows" not in broken.near.written
    assert [str(one["exception"]) for one in reported] == ["a fault that nobody knows"]
    whole.ask(GET)
    whole.answer(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
    assert whole.near.written.startswith(b"HTTP/1.1 200 ")


class Late:
    deadline = 0.0

    def __init__(self, *, breaks: bool) -> None:
        self.breaks, self.times = breaks, 0

    def expire(self) -> None:
        self.times += 1
        if self.breaks:
            raise LookupError("a fault")
        self.deadline = NEVER

    def endpoint_ready(self) -> None:
        self.expire()

    def refuse_waiting(self, reason: str) -> None:
        pass


async def test_sweeper_time_out_that_fails_is_not_asked_again_and_stops_no_other() -> None:
    reported: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: reported.append(context))
    deadlines = Deadlines()
    deadlines.start()
    members = [Late(breaks=number == 1) for number in range(3)]
    for member in members:
        deadlines.add(member)
    deadlines._tick()
    deadlines._tick()
    deadlines.stop()
    assert [member.times for member in members] == [1, 1, 1]
    assert len(reported) == 1


async def test_backend_waiter_that_fails_keeps_no_other_waiting() -> None:
    reported: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: reported.append(context))
    backend = Plane().backend
    waiters = [Late(breaks=number == 0) for number in range(3)]
    for waiter in waiters:
        backend.wait(waiter, 0.0)
    backend.wake()
    assert [waiter.times for waiter in waiters] == [1, 1, 1]
    assert len(reported) == 1
