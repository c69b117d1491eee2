"""A manager keeps its keys locked as the cluster says: with the unlock key of the moment, or not at all.

The cluster's object tells it, on every manager; what it said before the keys were last locked is no news (a log that
was read again after a restart).
"""

import asyncio
import contextlib
from typing import Any

from essaim.cluster.store import Store
from essaim.cluster.swarm import Cluster
from essaim.cluster.watch import Lagged
from essaim.daemon.background import Background

from .keyring import Keyring


def wanted_lock(cluster: Cluster) -> str:
    """The unlock key to lock with; empty for none."""
    return (cluster.unlock_key or "") if cluster.spec.locks_managers else ""


class LockKeeper(Background):
    """Use `start()` and `stop()`."""

    name = "lock keeper"

    def __init__(self, store: Store, keyring: Keyring, log: Any) -> None:
        super().__init__()
        self._store = store
        self._keyring = keyring
        self._log = log
        self._changing = asyncio.Lock()

    async def follow(self) -> None:
        """Bring the file to what the cluster's object says now. Raises OSError."""
        async with self._changing:
            cluster = self._store.cluster
            if cluster is None or cluster.version.index <= self._keyring.lock_version:
                return
            wanted = wanted_lock(cluster)
            if wanted == self._keyring.unlock_key:
                return
            await asyncio.to_thread(self._keyring.lock_with, wanted, cluster.version.index)
            self._log.info("this manager's keys are locked anew" if wanted else "this manager's keys are not locked")

    async def _run(self) -> None:
        while True:
            with self._store.watch("clusters") as watch:
                await self._follow_or_warn()
                with contextlib.suppress(Lagged):
                    async for _ in watch:
                        await self._follow_or_warn()

    async def _follow_or_warn(self) -> None:
        try:
            await self.follow()
        except OSError as error:
            self._log.error("this manager's keys could not be locked", reason=str(error))
