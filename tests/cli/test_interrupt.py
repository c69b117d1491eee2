"""Ctrl-C ends a command that waits for input which never comes."""

import array
import fcntl
import os
import signal
import subprocess
import sys
import termios
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lab.wait import eventually

ESSAIM = Path(sys.executable).parent / "essaim"
WITHIN = 20.0


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    ends = os.pipe()
    yield ends
    for end in ends:
        os.close(end)


def unread(end: int) -> int:
    found = array.array("i", [0])
    fcntl.ioctl(end, termios.FIONREAD, found)
    return found[0]


@pytest.mark.parametrize(
    "arguments",
    [("stack", "deploy", "-c", "-", "s"), ("stack", "config", "-c", "FIFO"), ("stack", "config", "-c", "FILE"),
     ("secret", "create", "s", "-")],
)  # fmt: skip
def test_command_that_reads_a_pipe_is_interrupted(
    arguments: tuple[str, ...], pipe: tuple[int, int], tmp_path: Path
) -> None:
    """FILE names an environment file that is the pipe, as in `<(...)`."""
    reader, writer = pipe
    file = tmp_path / "stack.yml"
    file.write_text(f"services: {{a: {{image: x, env_file: /dev/fd/{reader}}}}}")
    names = {"FIFO": f"/dev/fd/{reader}", "FILE": str(file)}
    os.write(writer, b"# nothing yet\n")
    command = [str(ESSAIM), *(names.get(word, word) for word in arguments)]
    process = subprocess.Popen(command, stdin=reader, pass_fds=[reader], stderr=subprocess.PIPE, text=True)
    try:
        eventually(lambda: unread(reader) == 0, WITHIN, "the command reads")
        process.send_signal(signal.SIGINT)
        assert process.communicate(timeout=WITHIN) == (None, "")
        assert process.returncode == 130
    finally:
        process.kill()
        process.wait()
