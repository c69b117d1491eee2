"""A session's jobs and messages go on after a mistake: one table, book or task that cannot be applied must not end the
session, by which the node lives in the cluster, and take every other task of the node with it.

What failed is logged when it begins to fail and tried again, after pauses that double from FIRST to MOST seconds.
"""

import contextlib
from collections.abc import Awaitable, Callable, Iterator

import structlog

from essaim.cluster.walls import place_of, words

from .session import SessionEnded

FIRST = 0.25
MOST = 30.0


class Steady:
    """`sleep` and `log` are the agent's. One object for everything that an agent does for its sessions."""

    def __init__(self, sleep: Callable[[float], Awaitable[None]], log: structlog.typing.FilteringBoundLogger) -> None:
        self._sleep = sleep
        self._log = log
        self._said: dict[str, str] = {}

    @contextlib.contextmanager
    def contained(self, what: str) -> Iterator[None]:
        """A mistake in the block goes no further. The end of a session does."""
        try:
            yield
        except SessionEnded:
            raise
        except Exception as error:
            self.note(what, error)
        else:
            self._said.pop(what, None)

    async def job(
        self, what: str, work: Callable[[], Awaitable[None]], newest: Callable[[], object] = lambda: None
    ) -> None:
        """Do a session's job; begin it anew after a mistake, at once when `newest` (what it applies) is another one."""
        pause = FIRST
        while True:
            subject = newest()
            try:
                await work()
            except SessionEnded:
                raise
            except Exception as error:
                failed = newest()
                pause = FIRST if self.note(what, error) or failed is not subject else pause
            else:
                return
            await self._until_news(failed, newest, pause)
            pause = min(pause * 2, MOST)

    async def _until_news(self, failed: object, newest: Callable[[], object], seconds: float) -> None:
        waited = 0.0
        while waited < seconds and newest() is failed:
            await self._sleep(FIRST)
            waited += FIRST

    def note(self, what: str, error: Exception) -> bool:
        """Log a mistake when it is another one than the last; whether it is."""
        text = f"{words(error)} ({place_of(error)})"
        if self._said.get(what) == text:
            return False
        self._said[what] = text
        self._log.error(f"{what} failed; it is tried again", error=text, exc_info=error)
        return True
