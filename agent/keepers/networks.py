"""The node's overlay networks as the leader last told them, and the word to it when they hold here.

They are also kept on disk: after a restart of the daemon names are served although no manager can be reached.
"""

import asyncio
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path

import msgspec
import structlog

from essaim.cluster.overlay import OverlayNetwork
from essaim.cluster.wire import FromAgent, Networks, NetworksApplied


async def _at_once() -> None:
    """Nothing here acts on networks."""


class NetworkKeeper:
    """`offer` hands tables on at once; `settled` returns when containers have the rules of what was offered last.

    Tables that could not be handed on are tried again whenever `run` is begun anew."""

    def __init__(
        self,
        path: Path,
        offer: Callable[[list[OverlayNetwork]], None],
        settled: Callable[[], Awaitable[None]] | None,
        log: structlog.typing.FilteringBoundLogger,
    ) -> None:
        self._path = path
        self._offer = offer
        self._settled = settled or _at_once
        self._log = log
        self._newest = Networks([])
        self._is_offered = True
        self._is_told = True
        self._news = asyncio.Event()
        # A save whose caller was cancelled goes on beside the next one.
        self._saving = threading.Lock()

    @property
    def newest(self) -> Networks:
        """What is to be applied."""
        return self._newest

    async def recover(self) -> None:
        """Offer what the last run was told, if anything."""
        networks = await asyncio.to_thread(self._load)
        if networks:
            self._offer(networks)

    def begin(self) -> None:
        """A session is to be opened: versions of another leader mean nothing there."""
        self._news.clear()
        self._is_told = True

    def take(self, message: Networks) -> None:
        self._newest = message
        self._is_offered = self._is_told = False
        self._news.set()
        self._hand_on()

    def _hand_on(self) -> None:
        if not self._is_offered:
            self._offer(self._newest.networks)
            self._is_offered = True

    async def run(self, send: Callable[[FromAgent], Awaitable[None]]) -> None:
        """For as long as a session lasts."""
        while True:
            if self._is_told and self._is_offered:
                await self._news.wait()
            self._news.clear()
            newest = self._newest
            self._hand_on()
            await self._settled()
            await send(NetworksApplied(newest.version))
            self._is_told = newest is self._newest
            try:
                await asyncio.to_thread(self._save, newest.networks)
            except OSError as problem:
                self._log.warning("the node's networks could not be kept on disk", reason=str(problem))

    def _load(self) -> list[OverlayNetwork]:
        try:
            return msgspec.msgpack.decode(self._path.read_bytes(), type=list[OverlayNetwork])
        except (OSError, msgspec.DecodeError):
            return []

    def _save(self, networks: list[OverlayNetwork]) -> None:
        with self._saving:
            if not networks:
                self._path.unlink(missing_ok=True)
                return
            self._path.parent.mkdir(parents=True, exist_ok=True)
            fresh = self._path.with_suffix(".new")
            fresh.write_bytes(msgspec.msgpack.encode(networks))
            fresh.replace(self._path)
