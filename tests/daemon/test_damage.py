"""A state directory that was damaged: the daemon has the state that was written, or says in a sentence what is wrong.

First the files alone, any byte of any of them; then whole daemons, with the kinds of damage that hosts really have.
"""

import os
import re
import shutil
import signal
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from essaim.daemon.keys.identity import BrokenIdentity, Identity, IdentityFile
from essaim.daemon.keys.keyring import Keyring, Keys
from essaim.raft.core.entries import Entry, HardState, SnapshotMeta
from essaim.raft.disk.storage import Recovered, Storage
from essaim.raft.interface import Unusable
from essaim.raft.member.found import has_log
from essaim.secrets.ca import new_authority
from tests.daemon.peers import CHANCE, MANAGER, keyring_of, now
from tests.daemon.processes import Daemon, init

pytestmark = [pytest.mark.timeout(180), pytest.mark.blocking_allowed]
SEGMENT = 16 << 10
IDENTITY = Identity(MANAGER.node_id, "manager", MANAGER.cluster_id, "10.0.0.1:2377", "10.0.0.1:2377", "10.0.0.1", [], 7)


@dataclass(frozen=True)
class Found:
    """What a start has read."""

    identity: Identity | None
    keys: Keys
    log: Recovered


def resume(folder: Path) -> Found:
    """As a daemon's start reads it, in that order."""
    identity = IdentityFile(folder).load()
    keyring = Keyring(folder, CHANCE)
    if not keyring.load() or not has_log(folder / "raft"):
        raise BrokenIdentity("keys or log are missing")
    storage = Storage(folder / "raft", segment_bytes=SEGMENT, codecs=keyring.codecs())
    try:
        return Found(identity, keyring.keys, storage.open())
    finally:
        storage.close()


def try_to_resume(folder: Path) -> tuple[Found | None, str]:
    try:
        return resume(folder), ""
    except (BrokenIdentity, Unusable, OSError) as error:
        return None, str(error)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Found]:
    """A manager's state with two snapshots and several segments behind them."""
    folder = tmp_path_factory.mktemp("whole")
    IdentityFile(folder).save(IDENTITY)
    keyring = keyring_of(folder, new_authority(now()), MANAGER)
    storage = Storage(folder / "raft", segment_bytes=SEGMENT, codecs=keyring.codecs())
    storage.open()
    for index in range(1, 120):
        storage.save(HardState(1, 7, index - 1), [Entry(index, 1, data=b"%d" % index * 200)])
        if index in (30, 60):
            storage.save_snapshot(SnapshotMeta(index, 1, b""), b"state" * 100)
    storage.close()
    assert len(list((folder / "raft").glob("*.wal"))) > 2
    return folder, resume(folder)


def damage(path: Path, data: st.DataObject) -> None:
    content = bytearray(path.read_bytes())
    used = len(content.rstrip(b"\0")) + 600  # and some of what is reserved behind
    at = data.draw(st.integers(0, min(len(content), used) - 1), label="offset")
    kind = data.draw(st.sampled_from(["flip", "cut", "remove", "folder"]), label="kind")
    if kind == "flip":
        content[at] ^= 1 << data.draw(st.integers(0, 7), label="bit")
        path.write_bytes(content)
    elif kind == "cut":
        os.truncate(path, at)
    else:
        path.unlink()
        if kind == "folder":
            path.mkdir()


@given(st.data())
@settings(
    max_examples=1500 if os.environ.get("ESSAIM_TEST_LONG") else 150,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
def test_state_damaged_anywhere_is_read_as_it_was_or_refused(
    whole: tuple[Path, Found], tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    source, before = whole
    folder = tmp_path_factory.mktemp("damaged")
    shutil.copytree(source, folder, dirs_exist_ok=True)
    names = sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file() and p.name != "lock")
    victim = folder / data.draw(st.sampled_from(names), label="file")
    damage(victim, data)
    left = sorted(folder.rglob("*"))
    after, refusal = try_to_resume(folder)
    gone = [path for path in left if not path.exists()]
    shutil.rmtree(folder)
    if after is None:
        assert len(refusal) > 20
        assert gone == []
        return
    assert after.identity in (before.identity, None)
    assert after.keys == before.keys
    assert after.log.state == before.log.state
    assert after.log.entries[-1] == before.log.entries[-1]
    assert after.log.snapshot.index + len(after.log.entries) == 119


def newest(daemon: Daemon) -> Path:
    return max((daemon.state / "raft").glob("*.wal"))


def break_middle(daemon: Daemon) -> None:
    with newest(daemon).open("r+b") as file:
        file.seek(300)
        file.write(b"damaged")


def cut_short(daemon: Daemon) -> None:
    os.truncate(newest(daemon), 200)


def replace_by_folder(daemon: Daemon) -> None:
    path = newest(daemon)
    path.unlink()
    path.mkdir()


def lose_log(daemon: Daemon) -> None:
    shutil.rmtree(daemon.state / "raft")


def other_key(daemon: Daemon) -> None:
    keyring = Keyring(daemon.state, CHANCE)
    keyring.load()
    keys = keyring.keys
    keyring.put(Keys(keys.private_key, keys.certificate, keys.roots, bytes(len(keys.data_key))))


def newer_format(daemon: Daemon) -> None:
    with newest(daemon).open("r+b") as file:
        file.write(b"ESSAIMW2")


def change_identity(daemon: Daemon) -> None:
    path = daemon.state / "node.json"
    path.write_bytes(path.read_bytes().replace(b'"data_ip": "127.0.0.1"', b'"data_ip": "127.0.0.9"'))


def empty_keys(daemon: Daemon) -> None:
    (daemon.state / "keys.json").write_bytes(b"")


KINDS: dict[Callable[[Daemon], None], str] = {
    break_middle: r"\.wal, offset .* damaged .*(join again|backup)",
    cut_short: r"\.wal.* the log ends before offset",
    replace_by_folder: r"\.wal: is a directory. Look at its kind",
    lose_log: r"raft: this manager's log .*missing.*join again",
    other_key: r"\.wal, offset .*cannot be decoded",
    newer_format: r"ESSAIMW2.* newer version of essaim",
    change_identity: r"node\.json: .*checksum does not match",
    empty_keys: r"keys\.json: cannot read this node's keys",
}


def sizes(daemon: Daemon) -> dict[Path, int]:
    return {path: path.stat().st_size for path in sorted((daemon.state).rglob("*")) if path.is_file()}


async def test_daemon_with_damaged_state_ends_with_one_clear_sentence_and_changes_nothing(tmp_path: Path) -> None:
    daemon, kept = Daemon(tmp_path), tmp_path / "kept"
    try:
        await daemon.start()
        await init(daemon)
        daemon.kill(signal.SIGTERM)
        daemon.state.rename(kept)
        for harm, says in KINDS.items():
            shutil.copytree(kept, daemon.state, ignore=shutil.ignore_patterns("gateway"))
            harm(daemon)
            before = sizes(daemon)
            said = daemon.refuse()
            assert "Traceback" not in said, harm.__name__
            line = next(line for line in said.splitlines() if "essaimd cannot start" in line)
            assert re.search(says, line), f"{harm.__name__}: {line}"
            after = sizes(daemon)
            assert {path: after.get(path) for path in before} == before, harm.__name__
            shutil.rmtree(daemon.state)
        shutil.copytree(kept, daemon.state, ignore=shutil.ignore_patterns("gateway"))
        await daemon.start()
    finally:
        daemon.end()
