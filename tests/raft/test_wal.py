from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from essaim.raft.disk.wal import HEAD_BYTES, RECORD_BYTES, Corrupt, Wal

SIZE = 64 << 10


def make(directory: Path, payloads: list[bytes], size: int = SIZE) -> None:
    directory.mkdir(exist_ok=True)
    wal = Wal(directory, segment_bytes=size)
    wal.open()
    for payload in payloads:
        if wal.full:
            wal.cut()
        wal.append(payload)
    wal.close()


def read(directory: Path, more: bytes | None = None) -> list[bytes]:
    wal = Wal(directory, segment_bytes=SIZE)
    wal.open()
    found = [record.payload for record in wal.records()]
    if more is not None:
        if wal.full:
            wal.cut()
        wal.append(more)
    wal.close()
    return found


def ends(payloads: list[bytes]) -> list[int]:
    """The offset behind each record of a single segment."""
    offsets, at = [], HEAD_BYTES
    for payload in payloads:
        at += RECORD_BYTES + len(payload)
        offsets.append(at)
    return offsets


payload_lists = st.lists(st.binary(max_size=1500).map(lambda b: b.replace(b"\0", b"z")), min_size=1, max_size=8)


def test_wal_empty_directory_has_no_records(tmp_path: Path) -> None:
    assert read(tmp_path, b"one") == []
    assert read(tmp_path) == [b"one"]


@given(payload_lists, st.data())
@settings(max_examples=60, deadline=None)
def test_wal_cut_anywhere_in_the_last_record_loses_only_that(
    tmp_path_factory: pytest.TempPathFactory, payloads: list[bytes], data: st.DataObject
) -> None:
    directory = tmp_path_factory.mktemp("wal")
    make(directory, payloads)
    offsets = [HEAD_BYTES, *ends(payloads)]
    cut = data.draw(st.integers(offsets[-2], offsets[-1] - 1))
    with (directory / f"{1:016x}.wal").open("r+b") as file:
        file.truncate(cut)
        if data.draw(st.booleans()) and cut % 512 == 0:  # an unwritten tail reads as zeros where space was reserved
            file.truncate(SIZE)
    assert read(directory, b"next") == payloads[:-1]
    assert read(directory) == [*payloads[:-1], b"next"]


@given(payload_lists, st.data())
@settings(max_examples=60, deadline=None)
def test_wal_flipped_bit_before_the_last_record_is_refused_with_file_and_offset(
    tmp_path_factory: pytest.TempPathFactory, payloads: list[bytes], data: st.DataObject
) -> None:
    directory = tmp_path_factory.mktemp("wal")
    payloads = [*payloads, b"last"]
    make(directory, payloads)
    offsets = [HEAD_BYTES, *ends(payloads)]
    victim = data.draw(st.integers(0, len(payloads) - 2))
    place = data.draw(st.integers(offsets[victim], offsets[victim + 1] - 1))
    path = directory / f"{1:016x}.wal"
    raw = bytearray(path.read_bytes())
    raw[place] ^= 1 << data.draw(st.integers(0, 7))
    path.write_bytes(raw)
    with pytest.raises(Corrupt, match=f"{path}, offset {offsets[victim]}:"):
        read(directory)


def test_wal_flipped_bit_in_a_complete_last_record_is_refused(tmp_path: Path) -> None:
    make(tmp_path, [b"first", b"y" * 3000])
    path = tmp_path / f"{1:016x}.wal"
    raw = bytearray(path.read_bytes())
    raw[HEAD_BYTES + RECORD_BYTES + 5 + RECORD_BYTES + 1000] ^= 4
    path.write_bytes(raw)
    with pytest.raises(Corrupt, match="completely written"):
        read(tmp_path)


def test_wal_unwritten_sector_in_the_last_record_is_cut_off(tmp_path: Path) -> None:
    make(tmp_path, [b"first", b"y" * 3000])
    path = tmp_path / f"{1:016x}.wal"
    raw = bytearray(path.read_bytes())
    raw[1024:1536] = bytes(512)
    path.write_bytes(raw)
    assert read(tmp_path, b"next") == [b"first"]
    assert read(tmp_path) == [b"first", b"next"]


def test_wal_record_inside_a_payload_is_not_taken_for_one(tmp_path: Path) -> None:
    make(tmp_path / "other", [b"inner"])
    inner = (tmp_path / "other" / f"{1:016x}.wal").read_bytes()[: HEAD_BYTES + RECORD_BYTES + 5]
    directory = tmp_path / "wal"
    make(directory, [b"first", inner * 20])
    with (directory / f"{1:016x}.wal").open("r+b") as file:
        file.truncate(HEAD_BYTES + RECORD_BYTES + 5 + RECORD_BYTES + len(inner) * 10)
    assert read(directory) == [b"first"]


def test_wal_segments_are_cut_released_and_checked(tmp_path: Path) -> None:
    payloads = [bytes([65 + i]) * 5000 for i in range(10)]
    make(tmp_path, payloads, size=12_000)
    assert len(list(tmp_path.glob("*.wal"))) == 4
    assert read(tmp_path) == payloads
    wal = Wal(tmp_path)
    wal.open()
    wal.release(3)
    assert read(tmp_path) == payloads[6:]
    (tmp_path / f"{3:016x}.wal").rename(tmp_path / "kept")
    assert read(tmp_path) == payloads[9:]
    (tmp_path / "kept").rename(tmp_path / f"{3:016x}.wal")
    raw = bytearray((tmp_path / f"{3:016x}.wal").read_bytes())
    (tmp_path / f"{3:016x}.wal").write_bytes(raw[:8000])
    with pytest.raises(Corrupt, match="not the last one"):
        read(tmp_path)


def test_wal_prepared_segment_is_used_next_or_deleted(tmp_path: Path) -> None:
    wal = Wal(tmp_path, segment_bytes=12_000)
    wal.open()
    wal.append(b"x" * 5000)
    assert not wal.wants_another
    wal.append(b"y" * 5000)
    wal.prepare()
    wal.close()
    assert len(list(tmp_path.glob("*.wal"))) == 2
    assert [p[:1] for p in read(tmp_path)] == [b"x", b"y"]
    assert len(list(tmp_path.glob("*.wal"))) == 1
    wal.open()
    assert len(list(wal.records())) == 2
    wal.append(b"z" * 5000)
    wal.prepare()
    assert not wal.wants_another
    wal.cut()
    wal.append(b"next")
    wal.close()
    assert [p[:1] for p in read(tmp_path)] == [b"x", b"y", b"z", b"n"]


def test_wal_missing_segment_is_refused(tmp_path: Path) -> None:
    make(tmp_path, [b"x" * 5000] * 10, size=12_000)
    (tmp_path / f"{2:016x}.wal").unlink()
    with pytest.raises(Corrupt, match="segment 2 is missing"):
        read(tmp_path)


def test_wal_damaged_header_is_refused(tmp_path: Path) -> None:
    make(tmp_path, [b"x"])
    path = tmp_path / f"{1:016x}.wal"
    raw = bytearray(path.read_bytes())
    raw[10] ^= 1
    path.write_bytes(raw)
    with pytest.raises(Corrupt, match="header is damaged"):
        read(tmp_path)


def test_wal_refuses_everything_after_an_io_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wal = Wal(tmp_path, segment_bytes=SIZE)
    wal.open()
    wal.append(b"good")

    def fail(_: int) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr("os.fdatasync", fail)
    with pytest.raises(OSError, match="Input/output"):
        wal.append(b"lost")
    monkeypatch.undo()
    with pytest.raises(OSError, match="Input/output"):
        wal.append(b"refused")
    wal.close()
    wal.open()  # what is on the disk is read again: now it may go on
    assert [record.payload for record in wal.records()] == [b"good", b"lost"]
    wal.append(b"after")
    wal.close()
