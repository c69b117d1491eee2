"""The state directory is its owner's alone: made so, closed at a start, with everything that comes into it."""

import asyncio
import os
import stat
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from essaim.api.client import Client, encode_filters
from essaim.cluster.errors import InvalidArgument
from essaim.daemon.state_dir import prepare
from tests.daemon.processes import Daemon, init
from tests.lab.wait import eventually_async

pytestmark = [pytest.mark.blocking_allowed, pytest.mark.timeout(120)]
NOBODY = 65534


def open_to_others(top: Path) -> dict[str, str]:
    """Everything below that has a bit for group or others, but what tasks have in their own directories."""
    found = {}
    for path in [top, *top.rglob("*")]:
        mode = stat.S_IMODE(path.lstat().st_mode)
        if mode & 0o077 and not path.is_symlink() and "work" not in path.relative_to(top).parts:
            found[str(path.relative_to(top))] = oct(mode)
    return found


def test_new_directory_is_closed_and_its_parents_are_as_usual(tmp_path: Path) -> None:
    assert prepare(tmp_path / "a" / "b" / "essaim") == 0
    assert open_to_others(tmp_path / "a" / "b" / "essaim") == {}
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o755


def test_open_directory_is_closed_with_all_that_is_ours(tmp_path: Path) -> None:
    top = tmp_path / "essaim"
    (top / "raft").mkdir(parents=True)
    (top / "raft" / "segment").write_bytes(b"x")
    (top / "raft" / "segment").chmod(0o644)
    (top / "process" / "tasks" / "t" / "work").mkdir(parents=True)
    (top / "process" / "tasks" / "t" / "work" / "page.html").write_bytes(b"x")
    (top / "process" / "tasks" / "t" / "work" / "page.html").chmod(0o644)
    (top / "process" / "tasks" / "t" / "runtime.json").write_bytes(b"{}")
    (top / "process" / "tasks" / "t" / "runtime.json").chmod(0o666)
    outside = tmp_path / "outside"
    outside.write_bytes(b"x")
    outside.chmod(0o644)
    (top / "link").symlink_to(outside)
    top.chmod(0o755)
    assert prepare(top) > 0
    assert open_to_others(top) == {}
    assert stat.S_IMODE((top / "raft" / "segment").stat().st_mode) == 0o600
    assert stat.S_IMODE(outside.stat().st_mode) == 0o644
    assert stat.S_IMODE((top / "process/tasks/t/work/page.html").stat().st_mode) == 0o644
    assert prepare(top) == 0


@pytest.mark.root
def test_way_to_another_users_task_stays_passable_and_no_more(tmp_path: Path) -> None:
    top, work = tmp_path / "essaim", tmp_path / "essaim/process/tasks/t/work"
    work.mkdir(parents=True)
    os.chown(work, NOBODY, NOBODY)
    (top / "agent").mkdir()
    (top / "process/tasks/other/work").mkdir(parents=True)
    prepare(top)
    passable = {".", "process", "process/tasks", "process/tasks/t"}
    assert open_to_others(top) == dict.fromkeys(passable, "0o711")
    assert prepare(top) == 0


def test_symbolic_link_is_refused_with_the_directory_to_name(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    with pytest.raises(InvalidArgument, match=f"symbolic link.*--state-dir {tmp_path / 'real'}"):
        prepare(tmp_path / "link")
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    with pytest.raises(InvalidArgument, match="symbolic link"):
        prepare(tmp_path / "dangling")


def test_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InvalidArgument, match="not a directory"):
        prepare(tmp_path / "file")


@pytest.mark.root
def test_directory_of_another_user_is_refused(tmp_path: Path) -> None:
    (tmp_path / "theirs").mkdir()
    os.chown(tmp_path / "theirs", NOBODY, NOBODY)
    with pytest.raises(InvalidArgument, match=r"belongs to user nobody \(65534\), and essaimd runs as user root \(0\)"):
        prepare(tmp_path / "theirs")
    assert f"belongs to user nobody ({NOBODY})" in _daemon_at(tmp_path / "theirs").refuse()


def _daemon_at(state: Path) -> Daemon:
    daemon = Daemon(state.parent)
    daemon.state = state
    return daemon


async def _serve(daemon: Daemon, name: str, user: str) -> None:
    """A service with everything that could leave something on the disk, and wait for its task."""
    async with Client(daemon.host) as client:
        secret = (await client.post("/secrets/create", {"Name": name, "Data": "aHVudGVyMg=="}))["ID"]
        config = (await client.post("/configs/create", {"Name": name, "Data": "aHVudGVyMg=="}))["ID"]
        file = {"UID": "0", "GID": "0", "Mode": 0o444, "Name": "shown"}
        # What the task makes itself, it makes as usual.
        script = (
            "umask > umask; echo said; cat $ESSAIM_SECRETS_DIR/shown > copy; ulimit -Sn > files; echo > ready; sleep 99"
        )
        container = {
            "Image": "host", "Command": ["/bin/sh", "-c", script], "Env": ["PASSWORD=hunter2"], "User": user,
            "Secrets": [{"SecretID": secret, "SecretName": name, "File": file}],
            "Configs": [{"ConfigID": config, "ConfigName": name, "File": {**file, "Name": "/shown"}}],
        }  # fmt: skip
        spec = {"Name": name, "Labels": {"hash": "$2y$05$hunter2"}, "TaskTemplate": {"ContainerSpec": container}}
        await client.post("/services/create", {**spec, "Mode": {"Replicated": {"Replicas": 1}}})

        async def running() -> bool:
            tasks = await client.get("/tasks", {"filters": encode_filters({"service": [name]})})
            return any(t["Status"]["State"] == "running" for t in tasks)

        await eventually_async(running, 30, f"{name} runs; the daemon said:\n{daemon.log.read_text()}")


@pytest.fixture
def passable() -> Iterator[Path]:
    """pytest's own directories are closed to other users."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o711)
        yield Path(folder)


@pytest.mark.root
async def test_real_daemon_with_tasks_of_two_users_leaves_nothing_for_others(passable: Path) -> None:
    daemon = Daemon(passable)
    daemon.prefix = ("prlimit", "--nofile=777:4096")
    daemon.state.mkdir()
    daemon.state.chmod(0o755)
    try:
        await daemon.start()
        assert "open to other users" in daemon.log.read_text()
        await init(daemon)
        await _serve(daemon, "ours", "")
        assert open_to_others(daemon.state) == {}
        await _serve(daemon, "theirs", "nobody")
        works = [w for w in daemon.state.glob("process/tasks/*/work") if w.stat().st_uid == NOBODY]
        assert len(works) == 1
        await eventually_async(lambda: asyncio.to_thread((works[0] / "ready").exists), 20, "the task has written")
        assert (works[0] / "copy").read_text() == "hunter2"
        assert (works[0] / "umask").read_text().strip() in ("0022", "022")
        assert (works[0] / "files").read_text().strip() == "777"  # the daemon has raised its own
        _nothing_to_read(daemon.state, works[0])
        daemon.kill()
        daemon.state.chmod(0o755)
        (daemon.state / "raft").chmod(0o755)
        await daemon.start()
        _nothing_to_read(daemon.state, works[0])
    finally:
        await daemon.remove()


def _nothing_to_read(state: Path, work: Path) -> None:
    way = {".", "process", "process/tasks", str(work.parent.relative_to(state))}
    assert open_to_others(state) == dict.fromkeys(way, "0o711")
    finding = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", "find", state, work.parent]
    seen = subprocess.run(
        [*finding, "-readable", "-not", "-path", f"{work}*"], capture_output=True, text=True, check=False
    )
    assert seen.stdout == ""
