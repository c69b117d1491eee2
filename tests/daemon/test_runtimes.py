"""Which runtime a host has, and that a node keeps the one it joined with."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
import structlog

from essaim.daemon.keys.identity import Identity, IdentityFile
from essaim.daemon.node import runtimes
from essaim.daemon.node.runtimes import NoRuntime, choose, starts_with_the_host
from essaim.daemon.settings import Settings
from tests.agent.engine_server import serving
from tests.agent.model_engine import ModelEngine

LOG = structlog.get_logger()


@pytest.fixture
def socket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The usual socket of this host's Engine, which is not there."""
    path = tmp_path / "docker.sock"
    monkeypatch.setattr(runtimes, "DEFAULT_ENGINE", f"unix://{path}")
    monkeypatch.setattr(runtimes, "SYSTEMD", tmp_path / "none")
    monkeypatch.delenv("DOCKER_HOST", raising=False)
    return path


async def kind(folder: Path, remembered: str = "", **flags: Any) -> str:
    settings = Settings(state_dir=folder, socket=folder / "s", **flags)
    return (await choose(settings, remembered, LOG)).kind


async def test_auto_takes_an_engine_that_answers_and_processes_where_there_is_none(
    socket: Path, tmp_path: Path
) -> None:
    assert await kind(tmp_path) == "process"
    async with serving(ModelEngine(), socket):
        assert await kind(tmp_path) == "docker"


@pytest.mark.parametrize("remembered", ["docker", "process"])
async def test_auto_of_a_node_in_a_cluster_stays_what_it_was(socket: Path, tmp_path: Path, remembered: str) -> None:
    assert await kind(tmp_path, remembered) == remembered
    async with serving(ModelEngine(), socket):
        assert await kind(tmp_path, remembered) == remembered


async def test_auto_of_an_old_state_directory_goes_by_the_processes_in_it(socket: Path, tmp_path: Path) -> None:
    (tmp_path / "process" / "tasks" / "t1").mkdir(parents=True)
    async with serving(ModelEngine(), socket):
        assert await kind(tmp_path) == "process"


async def test_engine_that_is_set_up_here_and_does_not_answer_is_waited_for(
    socket: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    socket.touch()
    assert await kind(tmp_path) == "docker"
    socket.unlink()
    monkeypatch.setenv("DOCKER_HOST", f"unix://{socket}")
    assert await kind(tmp_path) == "docker"


def test_engine_that_systemd_starts_is_set_up_here_only_where_systemd_runs(socket: Path, tmp_path: Path) -> None:
    unit, systemd = tmp_path / "docker.service", tmp_path / "systemd"
    unit.symlink_to("/lib/systemd/system/docker.service")
    assert not starts_with_the_host(f"unix://{socket}", [unit], systemd)
    systemd.mkdir()
    assert starts_with_the_host(f"unix://{socket}", [unit], systemd)
    assert not starts_with_the_host(f"unix://{socket}", [tmp_path / "other.service"], systemd)


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ({"runtime": "process"}, "process"),
        ({"runtime": "docker"}, "docker"),
        ({"engine": "tcp://127.0.0.1:1"}, "docker"),
        ({"gateway_only": True}, "gateway"),
    ],
)
async def test_flag_decides_whatever_answers(
    socket: Path, tmp_path: Path, flags: dict[str, Any], expected: str
) -> None:
    assert await kind(tmp_path, "process" if expected == "docker" else "docker", **flags) == expected


@pytest.mark.parametrize("flags", [{"engine": "ftp://x"}, {"gateway_only": True, "runtime": "docker"}])
async def test_flags_that_make_no_sense_are_refused(socket: Path, tmp_path: Path, flags: dict[str, Any]) -> None:
    with pytest.raises(NoRuntime):
        await kind(tmp_path, **flags)


async def test_description_while_the_engine_is_waited_for_is_the_hosts_own(socket: Path, tmp_path: Path) -> None:
    chosen = await choose(Settings(state_dir=tmp_path, socket=tmp_path / "s", runtime="docker"), "", LOG)
    described = await chosen.describe()
    assert (described.runtime, described.engine) == ("docker", None)
    assert described.resources is not None


def test_identity_of_a_version_that_noted_no_runtime_is_read(tmp_path: Path) -> None:
    file = IdentityFile(tmp_path)
    file.path.write_text(
        '{"node_id":"n","role":"worker","cluster_id":"k","advertise":"a:1","listen":"a:1","data_ip":"a","raft_id":0}'
    )
    assert file.load() == Identity("n", "worker", "k", "a:1", "a:1", "a")


async def test_engine_that_answers_with_an_error_is_none_to_run_tasks_by(socket: Path, tmp_path: Path) -> None:
    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        writer.close()

    async with await asyncio.start_unix_server(refuse, str(tmp_path / "other.sock")):
        assert "status 503" in await runtimes._problem(f"unix://{tmp_path / 'other.sock'}")
    assert "does not answer" in await runtimes._problem(f"unix://{socket}")
