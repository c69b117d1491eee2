"""Workers that hang, for real: stopped, in an endless loop, busy; and healthy ones whose supervisor hangs."""

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path

import pytest

from essaim.gateway.control.supervisor import Gateway
from tests.ports import free_port

from .conftest import Backends, endpoint, http_get, service, table, until

ON_SIGNALS = """
import signal, time
def loop(*_):
    while True:
        pass
def busy(*_):
    end = time.thread_time() + 1.0
    while time.thread_time() < end:
        pass
signal.signal(signal.SIGUSR1, loop)
signal.signal(signal.SIGUSR2, busy)
"""
"""Python runs it as it starts (`sitecustomize`), in the workers, too: an endless loop, or a second of CPU."""


@pytest.fixture
async def obedient(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Gateway]:
    """A gateway whose two workers do so at these signals."""
    (tmp_path / "sitecustomize.py").write_text(ON_SIGNALS)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    running = Gateway(mesh_addr="127.0.0.1", state_dir=tmp_path, node_id="n1", workers=2)
    await running.start()
    yield running
    await running.stop(grace=0.2)


async def pids(gateway: Gateway) -> list[int]:
    return [worker["pid"] for worker in (await gateway.status())["workers"]]


def ended(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


async def asked(port: int, seconds: float) -> bool:
    """Whether a new connection's request is answered with 200 in time."""
    with contextlib.suppress(OSError, TimeoutError, IndexError):
        async with asyncio.timeout(seconds):
            return (await http_get(port))[0] == 200
    return False


@contextlib.contextmanager
def burners(count: int) -> Iterator[None]:
    """Programs that want a processor each, all the time."""
    running = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(count)]
    try:
        yield
    finally:
        for one in running:
            one.kill()
            one.wait()


async def replaced(gateway: Gateway, port: int, pid: int) -> float:
    """Seconds until the worker is replaced and its share of new connections served; none fails from then on."""
    loop = asyncio.get_running_loop()
    start = loop.time()
    held = [await asyncio.open_connection("127.0.0.1", port) for _ in range(8)]
    await until(lambda: ended(pid))
    async with asyncio.timeout(20):
        while len(now := await pids(gateway)) < 2 or pid in now:
            await asyncio.sleep(0.01)
    whole = loop.time() - start
    answers = await asyncio.gather(*(asked(port, 10.0) for _ in range(200)))
    assert answers.count(False) == 0
    for _, writer in held:
        writer.transport.abort()
    return whole


async def test_gateway_stopped_worker_under_load_is_replaced_and_its_share_served(
    gateway: Gateway, backends: Backends
) -> None:
    port = free_port()
    await gateway.apply(table(1, service("web", port, [endpoint("t", await backends.web("t"))], "http")))
    stop, answers = asyncio.Event(), list[bool]()

    async def load() -> None:
        while not stop.is_set():
            answers.append(await asked(port, 10.0))

    clients = [asyncio.create_task(load()) for _ in range(4)]
    stuck = (await pids(gateway))[0]
    os.kill(stuck, signal.SIGSTOP)
    assert await replaced(gateway, port, stuck) < 20.0
    stop.set()
    await asyncio.gather(*clients)
    # What was queued at the hung sockets is served by the next one, and what it had taken is reset: of each client one.
    assert answers.count(False) <= len(clients)
    assert 'essaim_gateway_workers_replaced_total{why="hung"} 1.0\n' in (text := await gateway.metrics())
    assert "essaim_gateway_workers 2.0\n" in text
    status = await gateway.status()
    assert status["workers_replaced"] == {"hung": 1}
    assert status["warnings"] == ["gateway workers that hung and were replaced since the daemon's start: 1"]


async def test_gateway_hung_workers_connections_are_reset(gateway: Gateway, backends: Backends) -> None:
    port = free_port()
    await gateway.apply(table(1, service("web", port, [endpoint("t", await backends.echo("t"))])))
    connections = [await asyncio.open_connection("127.0.0.1", port) for _ in range(20)]
    assert [await reader.readline() for reader, _ in connections] == [b"t\n"] * 20
    os.kill((await pids(gateway))[1], signal.SIGSTOP)

    async def is_cut(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        writer.write(b"still there\n")
        try:
            return not await reader.readline()
        except ConnectionError:
            return True

    async with asyncio.timeout(15):
        cut = await asyncio.gather(*(is_cut(*one) for one in connections))
    # The other worker's go on.
    assert 0 < sum(cut) < 20
    for _, writer in connections:
        writer.transport.abort()


async def test_gateway_worker_in_an_endless_loop_is_replaced(obedient: Gateway, backends: Backends) -> None:
    port = free_port()
    await obedient.apply(table(1, service("web", port, [endpoint("t", await backends.web("t"))], "http")))
    stuck = (await pids(obedient))[0]
    os.kill(stuck, signal.SIGUSR1)
    assert await replaced(obedient, port, stuck) < 20.0


async def test_gateway_worker_busy_for_a_second_on_a_busy_host_stays(obedient: Gateway, backends: Backends) -> None:
    """A second of CPU, which takes two or three where all processors are wanted twice."""
    port = free_port()
    await obedient.apply(table(1, service("web", port, [endpoint("t", await backends.web("t"))], "http")))
    before = await pids(obedient)
    with burners(2 * (os.cpu_count() or 1)):
        for pid in before:
            os.kill(pid, signal.SIGUSR2)
        # Answered when the workers' loops turn again.
        assert all(await asyncio.gather(*(asked(port, 30.0) for _ in range(20))))
    assert await pids(obedient) == before
    assert (await obedient.status())["workers_replaced"] == {}


SUPERVISOR = """
import asyncio, sys
from pathlib import Path
from essaim.gateway.control.supervisor import Gateway
async def main():
    gateway = Gateway(mesh_addr="127.0.0.1", state_dir=Path(sys.argv[1]), node_id="n1", workers=2)
    await gateway.start()
    loop = asyncio.get_running_loop()
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        status = await gateway.status()
        print(*[worker["pid"] for worker in status["workers"]], dict(gateway._fleet.replaced), flush=True)
    await gateway.stop(grace=0.2)
asyncio.run(main())
"""


async def test_supervisor_that_was_stopped_keeps_its_healthy_workers(tmp_path: Path) -> None:
    program = await asyncio.create_subprocess_exec(
        sys.executable, "-c", SUPERVISOR, str(tmp_path), stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )

    async def workers() -> bytes:
        assert program.stdin is not None
        assert program.stdout is not None
        program.stdin.write(b"?\n")
        return await asyncio.wait_for(program.stdout.readline(), 30)

    before = await workers()
    program.send_signal(signal.SIGSTOP)
    await asyncio.sleep(4.0)
    program.send_signal(signal.SIGCONT)
    for _ in range(8):
        await asyncio.sleep(0.25)
        assert await workers() == before
    assert before.endswith(b"{}\n")
    assert program.stdin is not None
    program.stdin.close()
    await program.wait()


async def lingering(folder: Path, backends: Backends) -> tuple[int, list[int], Callable[[], Awaitable[Gateway]]]:
    """The port and the workers of a daemon that is gone, and what starts the next one."""
    port, replica = free_port(), await backends.web("t")
    first = Gateway(mesh_addr="127.0.0.1", state_dir=folder, node_id="n1", workers=2, linger=30.0)
    await first.start()
    await first.apply(table(1, service("web", port, [endpoint("t", replica)], "http")))
    found = await pids(first)
    await first.stop(leave_workers=True)

    async def follow() -> Gateway:
        second = Gateway(mesh_addr="127.0.0.1", state_dir=folder, node_id="n1", workers=2)
        await second.start()
        await second.apply(table(2, service("web", port, [endpoint("t", replica)], "http")))
        return second

    return port, found, follow


async def test_worker_without_a_supervisor_goes_on(tmp_path: Path, backends: Backends) -> None:
    port, old, follow = await lingering(tmp_path, backends)
    for _ in range(12):
        await asyncio.sleep(0.25)
        assert await asked(port, 5.0)
    assert not any(ended(pid) for pid in old)
    second = await follow()
    assert await asked(port, 5.0)
    await until(lambda: all(ended(pid) for pid in old))
    assert not list((tmp_path / "gateway").glob("*.sock"))
    await second.stop(grace=0.2)


async def test_gateway_worker_that_hangs_while_it_lingers_is_ended_by_the_next_daemon(
    tmp_path: Path, backends: Backends
) -> None:
    port, old, follow = await lingering(tmp_path, backends)
    os.kill(old[0], signal.SIGSTOP)
    second = await follow()
    await until(lambda: ended(old[0]))
    answers = await asyncio.gather(*(asked(port, 5.0) for _ in range(100)))
    assert answers.count(False) == 0
    await second.stop(grace=0.2)
