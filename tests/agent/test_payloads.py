"""Secrets and configs as files: targets, contents, templates, and the files themselves."""

import os
import shutil
import stat
from pathlib import Path

import pytest

from essaim.agent.runtime.docker.task_files import TaskFiles
from essaim.agent.runtime.interface import Rejected, Work
from essaim.agent.runtime.memory_files import MemoryFile, file_system, memory_root, write_files
from essaim.agent.runtime.payloads import Payload, payloads
from essaim.agent.runtime.process.task_dirs import relative_path
from essaim.cluster.container import ConfigReference, DriverSpec, FileTarget, SecretReference
from essaim.cluster.objects import Config, ConfigSpec, Secret, SecretSpec

from .doubles import MEMORY, NODE, make_task

SECRET = Secret(id="s1", spec=SecretSpec(name="password", data=b"hush"))
CONFIG = Config(
    id="c1",
    spec=ConfigSpec(
        name="conf",
        data=b'{{.Service.Name}} {{secret "password"}} {{env "A"}}',
        templating=DriverSpec(name="golang"),
    ),
)


def work(*, secret: FileTarget | None = None, config: FileTarget | None = None) -> Work:
    task = make_task(
        env=["A=1"],
        secrets=[SecretReference(file=secret, secret_id="s1", secret_name="password")],
        configs=[ConfigReference(file=config, config_id="c1", config_name="conf")] if config else None,
    )
    return Work(task, NODE, {"s1": SECRET}, {"c1": CONFIG})


def test_payloads_relative_target_is_below_run_secrets_and_modes_default() -> None:
    assert payloads(work()) == [Payload("/run/secrets/password", b"hush", ("0", "0"), 0o444, True)]


def test_payloads_absolute_target_owner_and_mode_are_kept() -> None:
    target = FileTarget(name="/var/run/my", uid="33", gid="44", mode=0o400)
    assert payloads(work(secret=target)) == [Payload("/var/run/my", b"hush", ("33", "44"), 0o400, True)]


def test_payloads_templated_config_is_filled_in_with_what_the_task_uses() -> None:
    made = payloads(work(config=FileTarget(name="etc/app.conf")))
    assert (made[1].target, made[1].data, made[1].is_secret) == ("/etc/app.conf", b"web hush 1", False)


def test_payloads_missing_secret_is_rejected_by_name() -> None:
    with pytest.raises(Rejected, match="the secret password was not given"):
        payloads(Work(work().task, NODE))


@pytest.mark.parametrize(
    ("target", "is_secret", "path"),
    [
        ("/run/secrets/a", True, "secrets/a"),
        ("/var/run/a", True, "secrets/var/run/a"),
        ("/etc/b", False, "configs/etc/b"),
    ],
)
def test_process_finds_its_files_below_their_directories(target: str, is_secret: bool, path: str) -> None:
    assert relative_path(Payload(target, b"", ("0", "0"), 0o444, is_secret)) == path


@pytest.fixture
def memory() -> Path:
    root = memory_root([Path("/nowhere"), Path("/proc"), Path("/dev/shm")])
    assert root == Path("/dev/shm"), "tests of secrets need /dev/shm"
    return MEMORY / "payloads"


def test_files_are_written_with_mode_into_a_closed_directory(memory: Path) -> None:
    own = (os.geteuid(), os.getegid())
    try:
        write_files(memory / "t", [MemoryFile("a/b", b"x", *own, 0o440)], own, 0o700)
        assert (memory / "t/a/b").read_bytes() == b"x"
        assert (memory / "t/a/b").stat().st_mode & 0o777 == 0o440
        assert (memory / "t").stat().st_mode & 0o777 == 0o700
        with pytest.raises(Rejected, match="leaves the task's directory"):
            write_files(memory / "t", [MemoryFile("../b", b"x", *own, 0o440)], own, 0o700)
    finally:
        shutil.rmtree(memory)


def test_files_are_never_written_to_a_disk(tmp_path: Path) -> None:
    if file_system(tmp_path) in ("tmpfs", "ramfs"):
        pytest.skip("the temporary directory is memory-backed here")
    with pytest.raises(Rejected, match="not memory-backed"):
        write_files(tmp_path / "t", [], (0, 0), 0o700)
    assert not (tmp_path / "t").exists()


def test_containers_files_lie_where_nobody_else_looks_and_go_with_the_task() -> None:
    files = TaskFiles([MEMORY])
    (mount,) = files.write("n1", "t1", [Payload("/run/secrets/s", b"hush", ("0", "0"), 0o444, True)])
    assert (mount.target, mount.read_only) == ("/run/secrets/s", True)
    path = Path(mount.source or "")
    assert path.read_bytes() == b"hush"
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    files.erase("n1", "t1")
    assert not path.parent.exists()
