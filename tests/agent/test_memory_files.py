"""Where secrets lie: in a folder that nobody else has a hand in, whole or not at all."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from essaim.agent.runtime.docker.task_files import TaskFiles
from essaim.agent.runtime.interface import Rejected
from essaim.agent.runtime.memory_files import MemoryFile, own_folder, write_files
from essaim.agent.runtime.payloads import Payload
from essaim.agent.runtime.process.task_dirs import TaskDirs

from .doubles import MEMORY

ROOT = Path(__file__).parents[2]
OWN = (os.geteuid(), os.getegid())
NOBODY = 65534
OURS = f"essaim-{os.geteuid()}"
SECRET = Payload("/run/secrets/s", b"hush", ("0", "0"), 0o444, True)


@pytest.fixture
def shared() -> Iterator[Path]:
    """A folder in memory that everybody may write to, as /dev/shm."""
    folder = MEMORY / "shared"
    folder.mkdir(parents=True)
    folder.chmod(0o1777)
    yield folder
    shutil.rmtree(folder)


def test_own_folder_that_is_a_link_is_refused_and_nothing_behind_it_is_touched(shared: Path, tmp_path: Path) -> None:
    (tmp_path / "n1" / "t1").mkdir(parents=True)
    (shared / OURS).symlink_to(tmp_path)
    with pytest.raises(Rejected, match="is a link or no folder"):
        TaskFiles([shared]).write("n1", "t1", [SECRET])
    files = TaskFiles([shared])
    files.keep_only("n1", [])
    files.erase("n1", "t1")
    TaskDirs(tmp_path / "tasks", [shared]).erase_files("n1", "t1")
    assert (tmp_path / "n1" / "t1").is_dir()


def test_folder_further_in_that_is_a_link_is_refused(shared: Path, tmp_path: Path) -> None:
    (shared / OURS).mkdir()
    (shared / OURS / "n1").symlink_to(tmp_path)
    with pytest.raises(Rejected, match="n1 is a link"):
        TaskFiles([shared]).write("n1", "t1", [SECRET])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to give a folder away")
def test_own_folder_that_somebody_else_made_is_refused(shared: Path) -> None:
    (shared / OURS).mkdir()
    os.chown(shared / OURS, NOBODY, NOBODY)
    with pytest.raises(Rejected, match=f"belongs to user {NOBODY}"):
        own_folder([shared])


def test_own_folder_that_others_may_write_to_is_refused(shared: Path) -> None:
    (shared / OURS).mkdir()
    (shared / OURS).chmod(0o777)
    with pytest.raises(Rejected, match="others may write"):
        own_folder([shared])


def test_file_of_a_task_does_not_follow_a_link_of_an_earlier_one(shared: Path, tmp_path: Path) -> None:
    target = tmp_path / "victim"
    target.write_text("mine")
    directory = shared / OURS / "n1" / "t1"
    directory.mkdir(parents=True)
    (directory / "0").symlink_to(target)
    (mount,) = TaskFiles([shared]).write("n1", "t1", [SECRET])
    assert Path(mount.source or "").read_bytes() == b"hush"
    assert not Path(mount.source or "").is_symlink()
    assert target.read_text() == "mine"


def test_file_larger_than_one_write_is_whole(shared: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.write
    monkeypatch.setattr(os, "write", lambda handle, data: real(handle, bytes(data[:7])))
    write_files(shared / "t", [MemoryFile("a", b"x" * 100, *OWN, 0o400)], OWN, 0o700)
    assert (shared / "t" / "a").read_bytes() == b"x" * 100


SCRIPT = """
import subprocess, sys
from pathlib import Path
from essaim.agent.runtime.docker.task_files import TaskFiles
from essaim.agent.runtime.payloads import Payload
from essaim.agent.runtime.interface import Rejected
subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k,mode=1777", "tmpfs", sys.argv[1]], check=True)
files = TaskFiles([Path(sys.argv[1])])
try:
    files.write("n1", "t1", [Payload("/run/secrets/s", b"x" * 100_000, ("0", "0"), 0o444, True)])
except Rejected as refusal:
    print(refusal)
files.erase("n1", "t1")
files.write("n1", "t2", [Payload("/run/secrets/s", b"x" * 20_000, ("0", "0"), 0o444, True)])
print(sum(path.stat().st_size for path in Path(sys.argv[1]).rglob("*") if path.is_file()))
"""


@pytest.mark.root
def test_secret_that_a_full_file_system_cannot_take_rejects_its_task_and_is_not_cut_short(tmp_path: Path) -> None:
    done = subprocess.run(
        ["unshare", "--mount", sys.executable, "-c", SCRIPT, tmp_path],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    refusal, size = done.stdout.splitlines()
    assert refusal == f"there is no room left for the task's secrets and configs in {tmp_path}/essaim-0/n1"
    assert size == "20000"


def test_node_without_a_memory_backed_folder_rejects_only_what_uses_secrets(tmp_path: Path) -> None:
    files = TaskFiles([Path("/proc")])
    assert files.write("n1", "t1", []) == []
    with pytest.raises(Rejected, match="no memory-backed directory"):
        files.write("n1", "t1", [SECRET])
    dirs = TaskDirs(tmp_path, [Path("/proc")])
    assert not dirs.files_of("n1", "t1", needed=False).exists()
    with pytest.raises(Rejected, match="no memory-backed directory"):
        dirs.files_of("n1", "t1")
