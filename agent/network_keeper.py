"""The node's overlay networks as the leader last told them, and the word to it when they hold here."""

import asyncio
from collections.abc import Awaitable, Callable

from essaim.cluster.overlay import OverlayNetwork
from essaim.cluster.wire import FromAgent, Networks, NetworksApplied


async def _at_once() -> None:
    """Nothing here acts on networks."""


class NetworkKeeper:
    """`offer` hands tables on at once; `settled` returns when containers have the rules of what was offered last."""

    def __init__(
        self, offer: Callable[[list[OverlayNetwork]], None], settled: Callable[[], Awaitable[None]] | None
    ) -> None:
        self._offer = offer
        self._settled = settled or _at_once
        self._version = 0
        self._news = asyncio.Event()

    def begin(self) -> None:
        """A session is to be opened: versions of another leader mean nothing there."""
        self._news.clear()

    def take(self, message: Networks) -> None:
        self._offer(message.networks)
        self._version = message.version
        self._news.set()

    async def run(self, send: Callable[[FromAgent], Awaitable[None]]) -> None:
        """For as long as a session lasts."""
        while True:
            await self._news.wait()
            self._news.clear()
            version = self._version
            await self._settled()
            await send(NetworksApplied(version))
