"""A daemon that is not root, and files of its state that it cannot read or write: one sentence, at the start."""

import contextlib
import os
import shutil
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from essaim.cluster.errors import InvalidArgument
from essaim.daemon.state_dir import prepare
from tests.daemon.processes import Daemon, init

pytestmark = [
    pytest.mark.blocking_allowed,
    pytest.mark.timeout(120),
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root to start a daemon as another user"),
]
NOBODY = 65534
ENTRIES = ("", "keys.json", "raft", "raft/0000000000000001.wal", "docker/secrets.json")


@pytest.fixture
def folder() -> Iterator[Path]:
    """One that another user may pass, unlike pytest's own."""
    made = Path(tempfile.mkdtemp(prefix="essaim-modes-"))
    os.chown(made, NOBODY, NOBODY)
    yield made
    shutil.rmtree(made)


@contextlib.contextmanager
def as_nobody() -> Iterator[None]:
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.mark.parametrize("entry", ENTRIES)
@pytest.mark.parametrize("of_root", [False, True], ids=["own", "root's"])
def test_entry_of_the_state_that_cannot_be_used_is_named_with_its_owner_and_what_to_do(
    folder: Path, entry: str, of_root: bool
) -> None:
    top = folder / "state"
    with as_nobody():
        prepare(top)
        for name in ("keys.json", "raft/0000000000000001.wal", "docker/secrets.json", "process/tasks/t/out"):
            (top / name).parent.mkdir(parents=True, exist_ok=True)
            (top / name).write_bytes(b"x")
        prepare(top)
    os.chown(top / "process/tasks/t/out", 1, 1)  # a task's own affair
    path = top / entry
    for mode in (0, 0o100, 0o400, 0o500) if not of_root else (0, 0o755):
        path.chmod(mode)
        if of_root:
            os.chown(path, 0, 0)
        said = f"belongs to user root (0), and essaimd runs as user nobody ({NOBODY})" if of_root else f"{mode:04o}"
        todo = f"chown -R {NOBODY} {top}" if of_root else f"{'u+rwx' if path.is_dir() else 'u+rw'} {path}"
        with as_nobody(), pytest.raises(InvalidArgument) as refused:
            prepare(top)
        assert str(path) in str(refused.value)
        assert said in str(refused.value)
        assert todo in str(refused.value)


async def test_daemon_that_cannot_use_its_log_ends_with_one_sentence(folder: Path) -> None:
    daemon = Daemon(folder)
    daemon.prefix = ("setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups")
    await daemon.start()
    await init(daemon)
    daemon.kill(signal.SIGTERM)
    (wal,) = (daemon.state / "raft").glob("*.wal")
    for path, mode, right in ((wal, 0o400, 0o600), (wal.parent, 0, 0o700), (daemon.state, 0, 0o700)):
        path.chmod(mode)
        said = daemon.refuse().strip().splitlines()
        path.chmod(right)
        assert "Traceback" not in "\n".join(said)
        assert "essaimd cannot start" in said[-1]
        assert f"{path} has mode {mode:04o}" in said[-1]
    await daemon.start()
    daemon.kill(signal.SIGTERM)
