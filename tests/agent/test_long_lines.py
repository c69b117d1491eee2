"""Lines that are longer than what an Engine, or a supervisor, writes at once: whole again, with one time stamp."""

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from essaim.agent.runtime.docker import log_frames
from essaim.agent.runtime.docker.log_frames import LogFrames
from essaim.agent.runtime.interface import LogLine
from essaim.agent.runtime.process.logs import LogReader
from essaim.agent.runtime.process.shim import LogFiles, Output

PIECE = 16
STAMP = b"2026-01-01T00:00:00.%09dZ "
LINES = st.lists(
    st.one_of(
        st.binary(max_size=40).map(lambda line: line.replace(b"\n", b".").replace(b"\r", b".")),
        st.sampled_from([b"x" * PIECE, b"y" * PIECE * 3, b"z" * (PIECE - 1), STAMP % 7 + b"a" * 9]),
    ),
    max_size=8,
)


def as_an_engine_sends(lines: list[bytes], *, tty: bool) -> tuple[bytes, list[LogLine]]:
    """The stream, and the lines that it holds."""
    sent, meant, number = b"", [], 0
    for index, line in enumerate(lines):
        stream = 1 if tty else index % 2 + 1
        text = line + (b"\r\n" if tty else b"\n")
        pieces = []
        while len(text.rstrip(b"\r\n")) >= PIECE or len(text) > PIECE:
            pieces.append(text[:PIECE])
            text = text[PIECE:]
        pieces.append(text)
        meant.append(LogLine(stream, (STAMP % (number + 1)).decode().strip(), line))
        for piece in pieces:
            number += 1
            stamped = STAMP % number + piece
            sent += stamped if tty else bytes([stream, 0, 0, 0]) + len(stamped).to_bytes(4, "big") + stamped
    return sent, meant


@given(lines=LINES, cuts=st.lists(st.integers(1, 70), min_size=1), tty=st.booleans())
def test_frames_with_lines_in_pieces_are_the_lines_again(lines: list[bytes], cuts: list[int], tty: bool) -> None:
    sent, meant = as_an_engine_sends(lines, tty=tty)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(log_frames, "PIECE", PIECE)
        frames, found, turn = LogFrames(tty=tty), [], 0
        while sent:
            size = cuts[turn % len(cuts)]
            turn += 1
            found += list(frames.feed(sent[:size]))
            sent = sent[size:]
        found += list(frames.end())
    assert found == meant


@pytest.mark.parametrize("tty", [False, True])
def test_frames_of_a_line_without_end_are_handed_on_in_parts(tty: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_frames, "PIECE", PIECE)
    monkeypatch.setattr(log_frames, "LINE_MOST", 100)
    sent, _ = as_an_engine_sends([b"x" * 500], tty=tty)
    frames = LogFrames(tty=tty)
    found = [*frames.feed(sent), *frames.end()]
    assert len(found) > 4
    assert b"".join(line.line for line in found) == b"x" * 500
    assert {line.timestamp for line in found} == {"2026-01-01T00:00:00.000000001Z"}


def test_line_longer_than_a_supervisor_keeps_is_read_as_one(tmp_path: Path) -> None:
    log = LogFiles(str(tmp_path), max_bytes=10 << 20, max_files=2)
    ours, theirs = os.pipe()
    output = Output(ours, 1, log)
    for _ in range(30):
        os.write(theirs, b"x" * 10_000)
        assert output.read()
    os.write(theirs, b"\nnext\nlast")
    output.read()
    os.close(theirs)
    assert not output.read()
    log.write(2, b"other")
    reader = LogReader(tmp_path)
    found = reader.read()
    reader.close()
    os.close(ours)
    os.close(log._file)
    assert [(line.stream, len(line.line)) for line in found] == [(1, 300_000), (1, 4), (1, 4), (2, 5)]
