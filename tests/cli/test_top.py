"""`essaim lb top` on a terminal: redrawn until q, whole names at any width."""

import asyncio
import fcntl
import os
import pty
import struct
import sys
import termios
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from essaim.cli.output.lbtop import COLUMNS, GAP, GIVEN_UP, fitting
from tests.lab.wait import eventually_async

ESSAIM = str(Path(sys.executable).parent / "essaim")


@pytest.fixture
def terminal() -> Iterator[tuple[int, int]]:
    """Master and slave of one of 80 by 24."""
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    yield master, slave
    os.close(master)
    os.close(slave)


@pytest.mark.parametrize("key", [b"q", b"\x03"], ids=["q", "ctrl-c"])
async def test_top_shows_whole_names_ends_on_a_key_and_restores_the_terminal(
    engine: Any, terminal: tuple[int, int], key: bytes
) -> None:
    master, slave = terminal
    before = termios.tcgetattr(slave)
    shown = bytearray()
    loop = asyncio.get_running_loop()
    loop.add_reader(master, lambda: shown.extend(os.read(master, 65536)))

    async def is_drawn() -> bool:
        return b"web.1.t" in shown

    command = (ESSAIM, "--host", engine.host, "lb", "top", "--interval", "100ms")
    environment = {**os.environ, "TERM": "xterm"}
    process = await asyncio.create_subprocess_exec(
        *command, stdin=slave, stdout=slave, stderr=slave, env=environment, start_new_session=True,
        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
    )  # fmt: skip
    try:
        await eventually_async(is_drawn, 20, "the table is drawn")
        assert "…".encode() not in shown
        os.write(master, key)
        assert await asyncio.wait_for(process.wait(), 20) == (0 if key == b"q" else 130)
        assert termios.tcgetattr(slave) == before
        assert b"Traceback" not in shown
    finally:
        loop.remove_reader(master)
        if process.returncode is None:
            process.kill()
            await process.wait()


CELLS = st.tuples(*(st.text("x", max_size=60) for _ in COLUMNS))


@given(st.lists(CELLS, max_size=5), st.integers(20, 300))
def test_fitting_keeps_as_many_columns_as_there_is_room_for(rows: list[tuple[str, ...]], width: int) -> None:
    def needed(places: list[int]) -> int:
        return sum(max([len(COLUMNS[p]), *(len(row[p]) for row in rows)]) for p in places) + GAP * (len(places) - 1)

    kept = fitting(rows, width)
    given_up = [name for name in GIVEN_UP if COLUMNS.index(name) not in kept]
    assert given_up == list(GIVEN_UP[: len(given_up)])
    assert needed(kept) <= width or len(given_up) == len(GIVEN_UP)
    if given_up:
        assert needed(sorted([*kept, COLUMNS.index(given_up[-1])])) > width
