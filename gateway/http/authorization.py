"""What calls wait for before they can proceed: a password's check, an auth server's answer.

Passwords are checked in a thread, so that the worker's loop goes on serving: one thread a listening socket, so that who
floods it with wrong passwords takes one core at most, and from nobody but other unproven credentials. Checks of the
same credentials are made once; more than MAX_CHECKS different ones are refused. Questions to auth servers are the
worker's (`client.py`).
"""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from essaim.gateway.http.forward_auth.client import AuthServers
from essaim.gateway.routing.call import Undecided
from essaim.gateway.routing.middlewares.forward_auth import Question
from essaim.gateway.routing.middlewares.passwords import Unproven

MAX_CHECKS = 64
Cancel = Callable[[], None]


class Authorization:
    def __init__(self, auth_servers: AuthServers) -> None:
        self.auth_servers = auth_servers
        self._executor: ThreadPoolExecutor | None = None
        # Who waits for each check, by the credentials' digest.
        self._checks: dict[bytes, list[Callable[[], None]]] = {}

    def settle(self, undecided: Undecided, then: Callable[[], None]) -> Cancel | None:
        """Find the outcome out, and call `then` (never before this has returned). What is returned gives it up; None
        when too much is pending already: `then` is not called."""
        match undecided:
            case Unproven():
                return self._check(undecided, then)
            case Question():
                return self.auth_servers.ask(undecided, then)
        raise TypeError(f"nobody knows how to settle {undecided!r}")

    def _check(self, unproven: Unproven, then: Callable[[], None]) -> Cancel | None:
        waiting = self._checks.get(unproven.digest)
        if waiting is None:
            if len(self._checks) >= MAX_CHECKS:
                return None
            waiting = self._checks[unproven.digest] = []
            if self._executor is None:
                self._executor = ThreadPoolExecutor(1, "password-checks")
            check = asyncio.get_running_loop().run_in_executor(self._executor, unproven.check)
            check.add_done_callback(lambda future: self._checked(unproven, future))
        waiting.append(then)
        return lambda: waiting.remove(then)

    def _checked(self, unproven: Unproven, future: "asyncio.Future[bool]") -> None:
        unproven.settle(not future.cancelled() and future.exception() is None and future.result())
        # A copy: who gives up meanwhile leaves the list.
        for then in list(self._checks.pop(unproven.digest)):
            then()
