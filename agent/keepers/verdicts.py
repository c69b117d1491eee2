"""Carries health verdicts between this node's gateway and the leader.

A session begins with everything that the gateway's share of the checks found; changes follow, those of PAUSE seconds in
one message. What the other gateways found comes back as `Verdicts` and goes straight to the gateway.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Protocol

from essaim.cluster.wire import Findings, FromAgent, Verdicts

PAUSE = 0.05


class Health(Protocol):
    """The gateway's verdicts, as far as they concern the session."""

    def session(self, is_open: bool) -> None: ...

    def findings(self, full: bool) -> tuple[dict[str, str], list[str]]: ...

    def take_verdicts(self, full: bool, found: dict[str, dict[str, str]], unknown: list[str]) -> None: ...


class VerdictKeeper:
    """`health` is None where there is no gateway: nothing is sent then."""

    def __init__(self, health: Health | None, sleep: Callable[[float], Awaitable[None]]) -> None:
        self._health = health
        self._sleep = sleep
        self._changed = asyncio.Event()

    def poke(self) -> None:
        """There may be findings."""
        self._changed.set()

    def take(self, message: Verdicts) -> None:
        if self._health is not None:
            self._health.take_verdicts(message.full, message.found, message.unknown)

    async def run(self, send: Callable[[FromAgent], Awaitable[None]]) -> None:
        """Lives as long as a session."""
        if self._health is None:
            return
        self._health.session(True)
        try:
            found, _ = self._health.findings(True)
            await send(Findings(True, found))
            while True:
                await self._changed.wait()
                self._changed.clear()
                found, dropped = self._health.findings(False)
                if found or dropped:
                    await send(Findings(False, found, dropped))
                    await self._sleep(PAUSE)
        finally:
            self._health.session(False)
