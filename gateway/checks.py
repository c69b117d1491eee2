"""Password checks that take long, made in a thread so that the worker's loop goes on serving.

One thread a listening socket: who floods it with wrong passwords takes one core at most from nobody but other unproven
credentials. Checks of the same credentials are made once; more than MAX_PENDING different ones are refused.
"""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from .routing.passwords import Unproven

MAX_PENDING = 64


class Checks:
    def __init__(self) -> None:
        self._executor: ThreadPoolExecutor | None = None
        # Who waits for each check, by the credentials' digest.
        self._pending: dict[bytes, list[Callable[[], None]]] = {}

    def run(self, unproven: Unproven, then: Callable[[], None]) -> bool:
        """Check, settle, and call `then`. False when too many checks are pending; `then` is not called."""
        waiting = self._pending.get(unproven.digest)
        if waiting is not None:
            waiting.append(then)
            return True
        if len(self._pending) >= MAX_PENDING:
            return False
        self._pending[unproven.digest] = [then]
        if self._executor is None:
            self._executor = ThreadPoolExecutor(1, "password-checks")
        loop = asyncio.get_running_loop()
        check = loop.run_in_executor(self._executor, unproven.check)
        check.add_done_callback(lambda future: self._settled(unproven, future))
        return True

    def _settled(self, unproven: Unproven, future: "asyncio.Future[bool]") -> None:
        unproven.settle(not future.cancelled() and future.result())
        for then in self._pending.pop(unproven.digest):
            then()
