"""Runs `essaim` (in process) and the real `docker` against one fake Engine."""

import asyncio
import io
import os
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from essaim.cli.app import App
from essaim.cli.main import execute
from tests.cli.engine import FakeEngine

NOW = datetime(2024, 1, 31, 12, 5, 0, tzinfo=UTC)


@dataclass
class Result:
    code: int
    out: str
    err: str


class Input(io.StringIO):
    """Standard input: piped when there is text, else a terminal."""

    def __init__(self, text: str | None) -> None:
        super().__init__(text or "")
        self._piped = text is not None

    def isatty(self) -> bool:
        return not self._piped


async def no_wait(seconds: float) -> None:
    await asyncio.sleep(0)


Essaim = Callable[..., Awaitable[Result]]


@pytest.fixture
async def engine() -> AsyncIterator[Any]:
    fake = FakeEngine()
    await fake.start()
    yield fake
    await fake.stop()


@pytest.fixture
async def other_engine() -> AsyncIterator[Any]:
    """A second one in the same state."""
    fake = FakeEngine()
    await fake.start()
    yield fake
    await fake.stop()


@pytest.fixture
def essaim(engine: Any, monkeypatch: pytest.MonkeyPatch) -> Essaim:
    """`await essaim("service", "ls")`; the verify time of convergence passes at once."""

    async def run(*argv: str, stdin: str | None = None, environment: dict[str, str] | None = None) -> Result:
        out, err = io.StringIO(), io.StringIO()
        app = App(
            engine.host,
            out=out,
            err=err,
            stdin=Input(stdin),
            environment=environment or {"HOME": "/nonexistent"},
            now=lambda: NOW,
            sleep=no_wait,
            clock=stepping_clock(),
        )
        code = await execute(argv, app)
        return Result(code, out.getvalue(), err.getvalue())

    return run


def stepping_clock() -> Callable[[], float]:
    """A monotonic clock that advances a second a look."""
    state = [0.0]

    def now() -> float:
        state[0] += 1.0
        return state[0]

    return now


Docker = Callable[..., Awaitable[Result]]


@pytest.fixture
def docker(engine: Any, tmp_path: Path) -> Docker:
    """The real client, pointed at the fake Engine."""
    program = shutil.which("docker")
    if program is None:
        pytest.skip("needs the docker client")

    async def run(*argv: str, stdin: str | None = None, on: Any = None) -> Result:
        process = await asyncio.create_subprocess_exec(
            program,
            *argv,
            stdin=asyncio.subprocess.PIPE if stdin is not None else asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env={**os.environ, "DOCKER_HOST": (on or engine).host, "DOCKER_CONFIG": str(tmp_path), "TZ": "UTC"},
        )
        out, err = await asyncio.wait_for(process.communicate(stdin.encode() if stdin is not None else None), 30)
        assert process.returncode is not None
        return Result(process.returncode, out.decode(), err.decode())

    return run
