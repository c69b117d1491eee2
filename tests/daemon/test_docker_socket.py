"""The socket for containers: one file across restarts and crashes of the daemon, none when it is given up."""

import asyncio
import contextlib
import signal
import socket
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from essaim.api.client import Client
from essaim.cluster.errors import InvalidArgument
from essaim.daemon.listening.docker_socket import DockerSocket, ask, beside, give_up
from tests.daemon.processes import Daemon, init
from tests.lab.wait import eventually

pytestmark = [pytest.mark.blocking_allowed, pytest.mark.timeout(120)]


@pytest.fixture
def path(tmp_path: Path) -> Iterator[Path]:
    made = tmp_path / "run" / "docker.sock"
    yield made
    give_up(made)
    eventually(lambda: not made.exists(), 10, "the keeper has ended")


@contextlib.contextmanager
def opened(path: Path, engine: str | None = None) -> Iterator[socket.socket]:
    one = DockerSocket(path, engine)
    try:
        with one.open() as listening:
            yield listening
    finally:
        one.close()


def inode(path: Path) -> int:
    return path.stat().st_ino


def test_socket_outlives_its_daemon_and_who_connects_meanwhile_waits(path: Path) -> None:
    with opened(path):
        first = inode(path)
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))  # nobody serves it now
        client.sendall(b"hello")
        with opened(path) as listening:
            assert inode(path) == first
            listening.setblocking(True)
            listening.settimeout(10)
            accepted, _ = listening.accept()
            with accepted:
                assert accepted.recv(5) == b"hello"


def test_second_daemon_is_refused(path: Path) -> None:
    with opened(path), pytest.raises(InvalidArgument, match="another daemon serves"), opened(path):
        pass
    with opened(path):
        pass


def test_socket_of_another_program_is_left_alone(path: Path, tmp_path: Path) -> None:
    engine = tmp_path / "engine.sock"
    with socket.socket(socket.AF_UNIX) as theirs:
        theirs.bind(str(engine))
        theirs.listen()
        with pytest.raises(InvalidArgument, match="another program answers"), opened(engine):
            pass
        assert engine.is_socket()
    (tmp_path / "file").touch()
    with pytest.raises(InvalidArgument, match="is not a socket"), opened(tmp_path / "file"):
        pass


def test_file_left_by_a_keeper_that_was_killed_is_replaced(path: Path) -> None:
    path.parent.mkdir()
    for left in (path, beside(path, "keeper")):
        with socket.socket(socket.AF_UNIX) as dead:
            dead.bind(str(left))
    with opened(path):
        kept = ask(path)
        assert kept is not None
        kept.close()


def test_group_and_mode_are_those_of_the_engines_socket(path: Path, tmp_path: Path) -> None:
    engine = tmp_path / "engine.sock"
    with socket.socket(socket.AF_UNIX) as theirs:
        theirs.bind(str(engine))
        engine.chmod(0o640)
        with opened(path, f"unix://{engine}"):
            assert stat.S_IMODE(path.stat().st_mode) == 0o640
            assert path.stat().st_gid == engine.stat().st_gid
            assert stat.S_IMODE(beside(path, "keeper").stat().st_mode) == 0o600


def test_keeper_ends_when_the_file_is_not_its_own_any_more(path: Path) -> None:
    with opened(path):
        path.unlink()
        assert ask(path) is None


async def test_daemon_that_was_killed_serves_the_same_file_again(path: Path, tmp_path: Path) -> None:
    daemon = Daemon(tmp_path, flags=("--runtime", "process", "--serve-docker-socket", str(path)))
    try:
        await daemon.start()
        await init(daemon)
        before = inode(path)
        for number in (signal.SIGKILL, signal.SIGTERM):
            daemon.kill(number)
            waiting = asyncio.create_task(asyncio.to_thread(_ask_info, path))
            await daemon.start()
            assert inode(path) == before
            assert b"200 OK" in await waiting
            async with Client(f"unix://{path}") as client:
                assert (await client.get("/info"))["Swarm"]["ControlAvailable"] is True
    finally:
        daemon.end()


def _ask_info(path: Path) -> bytes:
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(30)
        client.connect(str(path))
        client.sendall(b"GET /v1.29/info HTTP/1.1\r\nHost: docker\r\n\r\n")
        return client.recv(100)
