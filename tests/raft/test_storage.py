from pathlib import Path

import pytest

from essaim.raft.core.entries import Entry, HardState, SnapshotMeta
from essaim.raft.disk.codec import Codecs
from essaim.raft.disk.snapshots import Incoming, plain_snapshot
from essaim.raft.disk.storage import InUse, Recovered, Storage
from essaim.raft.disk.wal import Corrupt
from essaim.secrets.sealing import Sealer


def entries(first: int, last: int, term: int = 1, size: int = 10) -> list[Entry]:
    return [Entry(i, term, data=b"d" * size) for i in range(first, last + 1)]


def reopen(directory: Path) -> Recovered:
    storage = Storage(directory)
    try:
        return storage.open()
    finally:
        storage.close()


def test_storage_overwritten_suffix_is_not_recovered(tmp_path: Path) -> None:
    storage = Storage(tmp_path / "made")
    assert storage.open().empty
    storage.save(HardState(1, 2, 0), entries(1, 10))
    storage.save(HardState(2, 3, 4), entries(5, 6, term=2))
    storage.close()
    found = reopen(tmp_path / "made")
    assert found.state == HardState(2, 3, 4)
    assert [(e.index, e.term) for e in found.entries] == [(1, 1), (2, 1), (3, 1), (4, 1), (5, 2), (6, 2)]


def test_storage_snapshot_from_the_leader_replaces_the_log(tmp_path: Path) -> None:
    storage = Storage(tmp_path)
    storage.open()
    storage.save(HardState(1, 2, 3), entries(1, 10))
    storage.save_snapshot(SnapshotMeta(500, 7), b"state")
    storage.save(HardState(7, 0, 500), [], mark=(500, 7))
    storage.save(HardState(7, 0, 500), entries(501, 503, term=7))
    storage.close()
    found = reopen(tmp_path)
    assert (found.snapshot, found.data) == (SnapshotMeta(500, 7), b"state")
    assert [e.index for e in found.entries] == [501, 502, 503]


def test_storage_crash_between_snapshot_and_mark_takes_the_snapshot(tmp_path: Path) -> None:
    storage = Storage(tmp_path)
    storage.open()
    storage.save(HardState(1, 2, 3), entries(1, 10))
    storage.save_snapshot(SnapshotMeta(500, 7), b"state")
    storage.close()
    storage = Storage(tmp_path)
    found = storage.open()
    assert found.snapshot.index == 500
    assert found.entries == []
    storage.save(HardState(7, 0, 500), entries(501, 502, term=7))
    storage.close()
    assert [e.index for e in reopen(tmp_path).entries] == [501, 502]


def test_storage_damaged_newest_snapshot_falls_back_to_the_one_before(tmp_path: Path) -> None:
    storage = Storage(tmp_path, segment_bytes=4096)
    storage.open()
    for i in range(1, 31):
        storage.save(HardState(1, 1, i), entries(i, i, size=1000))
        if i in (10, 20, 25):
            storage.save_snapshot(SnapshotMeta(i, 1), b"state %d" % i)
    storage.close()
    newest = storage.snapshots.paths()
    assert [storage.snapshots.index_of(p) for p in newest] == [25, 20]
    newest[0].write_bytes(newest[0].read_bytes()[:-1] + b"!")
    found = reopen(tmp_path)
    assert found.data == b"state 20"
    assert [e.index for e in found.entries] == list(range(21, 31))
    newest[1].write_bytes(b"ESSAIMS1")
    with pytest.raises(Corrupt, match=str(newest[0])):
        reopen(tmp_path)


def test_storage_compaction_deletes_segments_and_keeps_the_vote(tmp_path: Path) -> None:
    storage = Storage(tmp_path, segment_bytes=4096)
    storage.open()
    storage.save(HardState(9, 4, 0), [])
    for i in range(1, 41):
        storage.save(HardState(9, 4, i), entries(i, i, size=1000))
    before = len(list(tmp_path.glob("*.wal")))
    storage.save_snapshot(SnapshotMeta(38, 1), b"a")
    storage.save_snapshot(SnapshotMeta(40, 1), b"b")
    storage.close()
    assert len(list(tmp_path.glob("*.wal"))) < before / 3
    found = reopen(tmp_path)
    assert found.state == HardState(9, 4, 40)
    assert (found.data, found.entries) == (b"b", [])


def test_storage_log_without_its_snapshot_is_refused(tmp_path: Path) -> None:
    storage = Storage(tmp_path, segment_bytes=4096)
    storage.open()
    for i in range(1, 41):
        storage.save(HardState(9, 4, i), entries(i, i, size=1000))
    storage.save_snapshot(SnapshotMeta(40, 1), b"b")
    storage.close()
    for path in storage.snapshots.paths():
        path.unlink()
    with pytest.raises(Corrupt, match="no snapshot reaches it"):
        reopen(tmp_path)


def test_storage_second_process_is_refused(tmp_path: Path) -> None:
    storage = Storage(tmp_path)
    storage.open()
    with pytest.raises(InUse, match=str(tmp_path)):
        Storage(tmp_path).open()
    storage.close()
    reopen(tmp_path)


def sealed(directory: Path, key: bytes = bytes(32)) -> Storage:
    return Storage(directory, codecs=Codecs(Sealer(key, "log"), Sealer(key, "snapshot")))


def test_storage_with_a_codec_shows_nothing_on_disk_and_recovers_all(tmp_path: Path) -> None:
    storage = sealed(tmp_path)
    storage.open()
    storage.save(HardState(1, 2, 3), [Entry(i, 1, data=b"very secret") for i in range(1, 11)])
    storage.save_snapshot(SnapshotMeta(5, 1), b"a very secret state")
    storage.close()
    assert not [path for path in tmp_path.iterdir() if b"secret" in path.read_bytes()]
    storage = sealed(tmp_path)
    found = storage.open()
    storage.close()
    assert (found.data, [e.data for e in found.entries]) == (b"a very secret state", [b"very secret"] * 5)


@pytest.mark.parametrize("key", [b"k" * 32, None])
def test_storage_of_another_key_or_in_plain_is_refused_with_the_reason(tmp_path: Path, key: bytes | None) -> None:
    storage = sealed(tmp_path, key) if key else Storage(tmp_path)
    storage.open()
    storage.save(HardState(1, 2, 3), entries(1, 10))
    storage.close()
    with pytest.raises(Corrupt, match="another key" if key else "without encryption, by an older version"):
        sealed(tmp_path).open()


def test_snapshot_goes_from_member_to_member_whatever_their_codecs(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    one, other = sealed(tmp_path / "a"), sealed(tmp_path / "b", b"k" * 32)
    one.open()
    one.save_snapshot(SnapshotMeta(5, 1), b"a very secret state")
    incoming = Incoming(other.snapshots, 5)
    raw = plain_snapshot(*one.snapshots.read(one.snapshots.paths()[0]))
    for start in range(0, len(raw), 7):
        incoming.write(raw[start : start + 7])
    meta, path = incoming.finish()
    assert b"secret" not in path.read_bytes()
    assert other.snapshots.read(path) == (meta, b"a very secret state")
    one.close()
