"""What workers may do, as the kernel says it of real ones."""

import asyncio
import contextlib
import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from essaim.gateway.control.process import environment
from essaim.gateway.control.supervisor import Gateway
from essaim.gateway.runtime.confinement import HIGHEST, LOWEST, Identity, read_identity, workers_identity
from tests.ports import free_port

from .conftest import Backends, endpoint, entry_points, http_get, service, table, until

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="a daemon that is not root gives its workers its own user")
NOBODYS = range(LOWEST, HIGHEST + 1)


def said(pid: int) -> dict[str, list[str]]:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {name: rest.split() for name, _, rest in (line.partition(":") for line in lines)}


async def workers(gateway: Gateway) -> list[int]:
    return [worker["pid"] for worker in (await gateway.status())["workers"]]


def assert_confined(pid: int) -> None:
    status = said(pid)
    assert {int(one) for one in status["Uid"] + status["Gid"]} <= {*NOBODYS, *user_of_the_system()}
    assert status["Groups"] == []
    for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"):
        assert int(status[name][0], 16) == 0, name
    assert status["NoNewPrivs"] == ["1"]
    limits = Path(f"/proc/{pid}/limits").read_text()
    assert next(line.split()[4:6] for line in limits.splitlines() if line.startswith("Max core")) == ["0", "0"]
    # What of a process is its user's belongs to root when it may not be looked into.
    assert Path(f"/proc/{pid}/environ").stat().st_uid == 0


def user_of_the_system() -> set[int]:
    with contextlib.suppress(KeyError):
        entry = pwd.getpwnam("essaim-gateway")
        return {entry.pw_uid, entry.pw_gid}
    return set()


@needs_root
async def test_workers_of_a_root_daemon_are_nobody_and_may_nothing(gateway: Gateway, backends: Backends) -> None:
    port = free_port()
    await gateway.apply(table(1, service("web", port, [endpoint("t", await backends.web("t"))], "http")))
    assert (await http_get(port))[0] == 200
    first = await workers(gateway)
    # One that is started later, too.
    os.kill(first[0], signal.SIGKILL)
    async with asyncio.timeout(20):
        while len(found := await workers(gateway)) < 2 or found == first:
            await asyncio.sleep(0.02)
    for pid in found:
        assert_confined(pid)
    status = await gateway.status()
    assert [worker["problems"] for worker in status["workers"]] == [[], []]
    assert status["warnings"] == []


async def test_worker_knows_nothing_of_the_daemons_environment_and_descriptors(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REGISTRY_PASSWORD", "hunter2")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hunter2")
    secret = os.open(tmp_path / "secret", os.O_RDWR | os.O_CREAT)
    os.set_inheritable(secret, True)
    gateway = Gateway(mesh_addr="127.0.0.1", state_dir=tmp_path, node_id="n1", workers=1)
    await gateway.start()
    (pid,) = await workers(gateway)
    assert b"hunter2" not in Path(f"/proc/{pid}/environ").read_bytes()
    opened = {os.readlink(one) for one in Path(f"/proc/{pid}/fd").iterdir()}
    assert not any(str(tmp_path) in one for one in opened), opened
    assert os.readlink(f"/proc/{pid}/cwd") == "/"
    os.close(secret)
    await gateway.stop(grace=0.2)


def test_environment_keeps_what_python_and_openssl_need() -> None:
    kept = {"PYTHONPATH": "/p", "PATH": "/bin", "SSL_CERT_FILE": "/c.pem", "LC_ALL": "C.UTF-8"}
    assert environment(kept | {"TOKEN": "t", "LD_PRELOAD": "/x.so", "NOTIFY_SOCKET": "/run/n"}) == kept


@needs_root
def test_identity_is_the_systems_user_or_a_number_of_nobodys(monkeypatch: pytest.MonkeyPatch) -> None:
    def named(uid: int) -> Any:
        return lambda name: pwd.struct_passwd((name, "x", uid, 990, "", "/", "/bin/false"))

    def missing(name: object) -> Any:
        raise KeyError(name)

    monkeypatch.setattr(pwd, "getpwnam", named(991))
    assert workers_identity() == Identity(991, 990)
    monkeypatch.setattr(pwd, "getpwnam", named(0))
    assert workers_identity() == Identity(HIGHEST, HIGHEST)
    monkeypatch.setattr(pwd, "getpwnam", missing)
    monkeypatch.setattr(pwd, "getpwuid", lambda uid: uid if uid > HIGHEST - 2 else missing(uid))
    assert workers_identity() == Identity(HIGHEST - 2, HIGHEST - 2)
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert workers_identity() is None


def test_identity_is_read_as_it_was_written() -> None:
    assert read_identity(str(Identity(5, 7))) == Identity(5, 7)
    assert read_identity("") is None


@needs_root
async def test_worker_serves_low_ports_and_logs_where_it_cannot_enter(tmp_path: Path, backends: Backends) -> None:
    """The supervisor binds what a worker could not, below a state directory that a worker cannot enter."""
    tmp_path.chmod(0o700)
    low = next(port for port in range(1, 1024) if is_free(port))
    gateway = Gateway(
        mesh_addr="127.0.0.1", state_dir=tmp_path, node_id="n1", workers=1, entry_points=entry_points({"web": low})
    )
    await gateway.start()
    labels = {"traefik.http.routers.a.rule": "Host(`127.0.0.1`)", "essaim.accesslog": "common"}
    replica = endpoint("t", await backends.web("t"))
    await gateway.apply(table(1, service("web", free_port(), [replica], "http", labels)))
    assert (await http_get(low, "/low"))[0] == 200
    path = tmp_path / "gateway" / "access.log"
    await until(lambda: "/low" in path.read_text())
    await gateway.stop(grace=0.2)


def is_free(port: int) -> bool:
    with socket.socket() as sock, contextlib.suppress(OSError):
        sock.bind(("127.0.0.1", port))
        return True
    return False


@needs_root
async def test_gateway_takes_over_from_workers_that_are_root(tmp_path: Path, backends: Backends) -> None:
    """As after an update: the last daemon's workers gave nothing up."""
    port, replica = free_port(), await backends.web("t")
    routes = table(1, service("web", port, [endpoint("t", replica)], "http"))
    first = Gateway(
        mesh_addr="127.0.0.1", state_dir=tmp_path, node_id="n1", workers=2, linger=30.0, identity=lambda: None
    )
    await first.start()
    await first.apply(routes)
    old = await workers(first)
    assert {said(pid)["Uid"][0] for pid in old} == {"0"}
    await first.stop(leave_workers=True)
    second = Gateway(mesh_addr="127.0.0.1", state_dir=tmp_path, node_id="n1", workers=2, linger=30.0)
    await second.start()
    assert [(await http_get(port))[0] for _ in range(10)] == [200] * 10
    await second.apply(routes)
    for pid in await workers(second):
        assert_confined(pid)
    await until(lambda: not any(Path(f"/proc/{pid}/exe").exists() for pid in old))
    await second.stop(leave_workers=True)
    # And from these: they listen where they could not have made a socket.
    third = Gateway(mesh_addr="127.0.0.1", state_dir=tmp_path, node_id="n1", workers=2)
    await third.start()
    assert [(await http_get(port))[0] for _ in range(10)] == [200] * 10
    await third.apply(routes)
    assert [(await http_get(port))[0] for _ in range(10)] == [200] * 10
    await third.stop(grace=0.2)


SERVE = """
import asyncio, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from essaim.cluster.routes import RouteEndpoint, RouteGateway, RoutePort, RouteService, RouteTable
from essaim.gateway.control.supervisor import Gateway
async def main():
    gateway = Gateway(mesh_addr="127.0.0.1", state_dir=Path(sys.argv[2]), node_id="n1", workers=1)
    await gateway.start()
    replica = RouteEndpoint(task_id="t", node_id="n1", address="127.0.0.1", port=int(sys.argv[4]), task_name="t")
    labels = {"essaim.accesslog": "common"}
    port = RoutePort(protocol="tcp", target_port=80, published_port=int(sys.argv[3]), app_protocol="http",
                     endpoints=[replica])
    service = RouteService(id="s", name="s", labels=labels, ports=[port])
    gateways = [RouteGateway(node_id="n1", hostname="one", address="127.0.0.1")]
    await gateway.apply(RouteTable(version=1, services=[service], gateways=gateways))
    status = await gateway.status()
    print(status["workers"][0]["pid"], status["warnings"], flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    await gateway.stop(grace=0.2)
asyncio.run(main())
"""
ROOT = Path(__file__).parents[2]


def checkout_for_root_alone(folder: Path) -> Path:
    """The project in a folder that only root can enter."""
    package = folder / "private" / "essaim"
    package.mkdir(parents=True)
    (folder / "private").chmod(0o700)
    for room in ("gateway", "cluster", "raft"):
        shutil.copytree(ROOT / room, package / room)
    return folder / "private"


@contextlib.asynccontextmanager
async def served(command: list[str], path: Path, state: Path, replica: int, **more: Any) -> Any:
    """A gateway in a process of its own; gives the port, the worker's pid and its warnings."""
    port = free_port()
    program = await asyncio.create_subprocess_exec(
        *command, "-c", SERVE, str(path), str(state), str(port), str(replica),
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, **more,
    )  # fmt: skip
    assert program.stdin is not None
    assert program.stdout is not None
    pid, _, warnings = (await asyncio.wait_for(program.stdout.readline(), 40)).decode().strip().partition(" ")
    try:
        yield port, int(pid), warnings
    finally:
        program.stdin.close()
        await program.wait()


@needs_root
async def test_worker_of_a_checkout_that_only_root_can_read_serves(tmp_path: Path, backends: Backends) -> None:
    path = checkout_for_root_alone(tmp_path)
    environ = os.environ | {"PYTHONPATH": str(path)}
    replica = await backends.web("t")
    async with served([sys.executable], path, tmp_path, replica, env=environ) as (port, pid, warnings):
        assert_confined(pid)
        assert warnings == "[]"
        assert (await http_get(port))[0] == 200
        # What is needed late is there already.
        mapped = Path(f"/proc/{pid}/maps").read_text()
        assert "aiohttp" in mapped


@needs_root
async def test_worker_of_a_daemon_that_is_not_root_gives_up_what_it_has(tmp_path: Path, backends: Backends) -> None:
    state = tmp_path / "state"
    state.mkdir()
    os.chown(state, 65_534, 65_534)
    for parent in (tmp_path, *tmp_path.parents):
        if parent.stat().st_mode & 0o001 == 0:
            parent.chmod(parent.stat().st_mode | 0o011)
    replica = await backends.web("t")
    as_nobody = {"user": 65_534, "group": 65_534, "extra_groups": []}
    async with served([sys.executable], ROOT, state, replica, **as_nobody) as (port, pid, warnings):
        status = said(pid)
        assert status["Uid"][0] == "65534"
        assert status["NoNewPrivs"] == ["1"]
        assert int(status["CapPrm"][0], 16) == 0
        assert warnings == "[]"
        assert (await http_get(port))[0] == 200
