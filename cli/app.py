"""What every command works with: where the daemon is, the streams to talk to, and how errors end a command."""

import asyncio
import os
import ssl
import sys
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, TextIO

from essaim.api.client import ApiError, Client, ClientError

from .background import in_background
from .tls import UnusableFile, tls_context

MAX_BYTES = 8 * 1024 * 1024
"""No secret, config, key or Compose file comes near it."""


class CliError(Exception):
    """Ends a command: `message` (may be empty) goes to the error stream."""

    def __init__(self, message: str, code: int = 1) -> None:
        super().__init__(message)
        self.code = code


def default_host(environment: Mapping[str, str], *, is_root: bool) -> str:
    """ESSAIM_HOST, or the socket where essaimd listens by default."""
    if found := environment.get("ESSAIM_HOST"):
        return found
    runtime = environment.get("XDG_RUNTIME_DIR")
    if is_root or not runtime:
        return "unix:///run/essaim/essaim.sock"
    return f"unix://{runtime}/essaim.sock"


def read_file(path: Path) -> bytes:
    """At most one byte more than is allowed."""
    with path.open("rb") as file:
        return file.read(MAX_BYTES + 1)


@dataclass(slots=True)
class App:
    """One run of the command. Streams, environment and clock are replaced in tests."""

    host: str
    tls: ssl.SSLContext | None = None
    out: TextIO = field(default_factory=lambda: sys.stdout)
    err: TextIO = field(default_factory=lambda: sys.stderr)
    stdin: TextIO = field(default_factory=lambda: sys.stdin)
    environment: Mapping[str, str] = field(default_factory=lambda: os.environ)
    now: Callable[[], datetime] = lambda: datetime.now(UTC)
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    clock: Callable[[], float] = time.monotonic
    _client: Client | None = None

    async def client(self) -> Client:
        """The client, started at the first use."""
        if self._client is None:
            self._client = Client(self.host, tls=self.tls)
            await self._client.start()
        return self._client

    async def close(self) -> None:
        if self._client is not None:
            if self._client.warning:
                self.warn(f"WARNING: {self._client.warning}")
            await self._client.close()

    def print(self, *lines: str) -> None:
        """Lines to the output."""
        for line in lines:
            self.out.write(line + "\n")

    def warn(self, *lines: str) -> None:
        """Lines to the error stream."""
        for line in lines:
            self.err.write(line + "\n")

    async def read(self, path: str) -> bytes:
        """A file's content, or standard input's for `-`. Raises CliError, also for what has no end (/dev/zero)."""
        try:
            data = await in_background(self._read_stdin if path == "-" else partial(read_file, Path(path)))
        except OSError as error:
            raise CliError(f"open {path}: {(error.strerror or str(error)).lower()}") from error
        if len(data) > MAX_BYTES:
            raise CliError(f"{path} is larger than {MAX_BYTES // 1024 // 1024} MiB")
        return data

    async def text(self, path: str) -> str:
        """A file's text. Raises CliError."""
        try:
            return (await self.read(path)).decode()
        except UnicodeDecodeError as error:
            raise CliError(f"{path} is not UTF-8 text: {error}") from None

    def _read_stdin(self) -> bytes:
        if not hasattr(self.stdin, "buffer"):
            return self.stdin.read().encode()
        # Not by its own buffer: the interpreter's end would wait for the lock of one that is left in a read.
        with open(self.stdin.fileno(), "rb", closefd=False) as file:
            return file.read(MAX_BYTES + 1)

    async def each(self, names: Iterable[str], act: Callable[[str], Awaitable[str | None]]) -> None:
        """Act on each name in turn and print what it returns; go on after failures and report them together."""
        failures = []
        for name in names:
            try:
                done = await act(name)
            except (ClientError, CliError) as error:
                failures.append(explain(error))
            else:
                if done is not None:
                    self.print(done)
        if failures:
            raise CliError("\n".join(failures))


def explain(error: Exception) -> str:
    """An error in the docker CLI's words."""
    return f"Error response from daemon: {error}" if isinstance(error, ApiError) else str(error)


def app_of(params: Mapping[str, Any], environment: Mapping[str, str] | None = None) -> App:
    """The App that the global options ask for."""
    environment = os.environ if environment is None else environment
    host = params.get("host") or default_host(environment, is_root=os.geteuid() == 0)
    try:
        return App(host, tls=tls_context(params, environment))
    except UnusableFile as error:
        raise CliError(str(error)) from None
