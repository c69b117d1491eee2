"""Taking connections off one listening socket, for as long as it takes: running out of descriptors ends nothing.

An own loop instead of asyncio's servers, because those accept whatever comes (a hundred at a time) and say nothing
about it until TLS is through, and because uvloop accepts and drops what comes while there are no descriptors.
"""

import asyncio
import errno
import os
import socket
from collections.abc import Callable
from typing import Any

EXHAUSTED = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}
CLOSED = {errno.EBADF, errno.EINVAL}
PAUSE = 0.2
"""Seconds between attempts while the process or the host has no descriptors."""
SAY_EVERY = 60.0
"""Seconds between two lines of log about the same trouble."""

Welcome = Callable[[socket.socket, Any], None]


class Acceptor:
    """One listening, non-blocking socket, which it owns. `welcome` gets each connection with the peer's address;
    `relieve` gives descriptors back when there are none, and tells how many. Use `start` and `stop`."""

    def __init__(
        self, listening: socket.socket, welcome: Welcome, relieve: Callable[[], int], *, name: str, log: Any
    ) -> None:
        self._socket = listening
        self._welcome, self._relieve = welcome, relieve
        self._name, self._log = name, log
        self._task: asyncio.Task[None] | None = None
        self._quiet_until = 0.0

    def start(self) -> None:
        self._task = asyncio.get_running_loop().create_task(self._run(), name=f"accepting at {self._name}")

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        self._socket.close()

    async def _run(self) -> None:
        """One connection a turn of the event loop, so that a crowd at the door does not hold up what is inside."""
        while True:
            try:
                connection, address = self._socket.accept()
                connection.setblocking(False)
            except BlockingIOError:
                await self._asked()
                continue
            except OSError as error:
                if error.errno in CLOSED:
                    self._say("a listener has gone", error)
                    return
                if error.errno in EXHAUSTED:
                    given = self._relieve()
                    self._say("no descriptors left: connections are put off", error, put_out=given)
                    await asyncio.sleep(PAUSE)
                continue  # anything else is the newcomer's trouble: it has gone already
            self._welcome(connection, address)
            await asyncio.sleep(0)

    async def _asked(self) -> None:
        """Wait until somebody connects. Rejected: the loop's `sock_accept`, which loses the connection that it has
        just accepted when it is cancelled."""
        loop = asyncio.get_running_loop()
        asked: asyncio.Future[None] = loop.create_future()
        loop.add_reader(self._socket, lambda: None if asked.done() else asked.set_result(None))
        try:
            await asked
        finally:
            loop.remove_reader(self._socket)

    def _say(self, what: str, error: OSError, **more: Any) -> None:
        now = asyncio.get_running_loop().time()
        if now >= self._quiet_until:
            self._quiet_until = now + SAY_EVERY
            self._log.error(what, listener=self._name, reason=os.strerror(error.errno or 0), **more)
