"""Keys that are pressed while a command draws."""

import asyncio
import contextlib
import os
import termios
import tty
from collections.abc import Iterator
from typing import TextIO


@contextlib.contextmanager
def pressed(stdin: TextIO, key: str) -> Iterator[asyncio.Event]:
    """An event that is set once `key` (upper or lower case) is pressed; never, where standard input is no terminal."""
    event = asyncio.Event()
    if not stdin.isatty():
        yield event
        return
    loop, terminal = asyncio.get_running_loop(), stdin.fileno()
    before = termios.tcgetattr(terminal)

    def read() -> None:
        data = os.read(terminal, 64)
        if not data:
            loop.remove_reader(terminal)
        elif key.encode() in data.lower():
            event.set()

    tty.setcbreak(terminal, termios.TCSANOW)
    loop.add_reader(terminal, read)
    try:
        yield event
    finally:
        loop.remove_reader(terminal)
        termios.tcsetattr(terminal, termios.TCSANOW, before)
