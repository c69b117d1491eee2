"""The leader's keeper of the root's rotation: it ends it once every node uses the new root."""

import asyncio
import contextlib
from typing import Any

from essaim.cluster.changes import Change, put
from essaim.cluster.errors import ClusterError
from essaim.cluster.ids import Chance
from essaim.cluster.store import Store
from essaim.cluster.watch import Lagged
from essaim.cluster.writer import Writer
from essaim.daemon.background import Background
from essaim.secrets.rotation import finished, is_settled

RETRY = 1.0
"""Seconds after a write that failed."""


class RotationKeeper(Background):
    """Use `start()` and `stop()`."""

    name = "root rotation"

    def __init__(self, store: Store, writer: Writer, chance: Chance, log: Any) -> None:
        super().__init__()
        self._store = store
        self._writer = writer
        self._chance = chance
        self._log = log

    async def _run(self) -> None:
        while True:
            with self._store.watch("clusters", "nodes") as watch:
                await self._finish()
                with contextlib.suppress(Lagged):
                    async for _ in watch:
                        await self._finish()

    async def _finish(self) -> None:
        while self._changes(self._store):
            try:
                await self._writer.update(self._changes)
            except ClusterError as error:
                self._log.warning("the rotation of the root cannot be ended yet", reason=str(error))
                await asyncio.sleep(RETRY)
            else:
                self._log.info("every node uses the new root: the old one is trusted no more")

    def _changes(self, store: Store) -> list[Change]:
        cluster = store.cluster
        if cluster is None or cluster.root_rotation is None or not is_settled(cluster, store.nodes):
            return []
        return [put("clusters", finished(cluster, self._chance))]
