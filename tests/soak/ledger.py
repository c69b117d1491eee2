"""What managers acknowledged, and whether every manager still shows it.

The ledger makes and removes configs of names that never come again. A write ends acknowledged or uncertain. What was
made for certain is shown until its removal is asked for; what was removed for certain is never shown again.

`Book` is pure; `Writer` does the writing.
"""

import asyncio
import base64
import time
from collections.abc import Collection
from dataclasses import dataclass, field
from random import Random
from typing import TYPE_CHECKING

from essaim.api.client import ApiError, Client, Unreachable

if TYPE_CHECKING:
    from .world import World

PREFIX = "ledger-"
PACE = 0.5
PATIENCE = 5.0
KEPT = 40
"""Configs that exist at a time: what came first goes first."""
DATA = base64.b64encode(b"x").decode()


@dataclass
class Book:
    present: dict[str, str] = field(default_factory=dict)
    """Name -> id, in the order of their making."""
    removed: set[str] = field(default_factory=set)
    written: set[str] = field(default_factory=set)
    acknowledged: int = 0

    def began(self, name: str) -> None:
        self.written.add(name)

    def made(self, name: str, identifier: str) -> None:
        self.present[name] = identifier
        self.acknowledged += 1

    def removing(self, name: str) -> None:
        """From now on it may be there or not."""
        self.present.pop(name, None)

    def gone(self, name: str) -> None:
        self.removed.add(name)
        self.acknowledged += 1

    def differences(self, shown: Collection[str]) -> list[str]:
        """What a manager shows wrongly: nothing if all is well. The names are those of the ledger's configs."""
        seen = set(shown)
        wrong = []
        if missing := [name for name in self.present if name not in seen]:
            wrong.append(f"{len(missing)} acknowledged writes are lost, {missing[0]} first")
        if back := sorted(self.removed & seen):
            wrong.append(f"{len(back)} acknowledged removals are undone, {back[0]} first")
        if strange := sorted(seen - self.written):
            wrong.append(f"{len(strange)} objects that nobody wrote, {strange[0]} first")
        if len(seen) < len(shown):
            wrong.append("a name is shown twice")
        return wrong


class Writer:
    """Writes through managers chosen by chance until cancelled. `longest`: seconds in which no write was taken."""

    def __init__(self, world: "World", chance: Random) -> None:
        self.book = Book()
        self.errors: list[str] = []
        self.last = time.monotonic()
        self.longest = 0.0
        self._world = world
        self._chance = chance
        self._number = 0

    async def run(self) -> None:
        while True:
            await self._step()
            await asyncio.sleep(PACE)

    async def _step(self) -> None:
        managers = [h for h in self._world.hosts if h.name in self._world.managers - self._world.away]
        if not managers:
            return
        client = self._world.daemon(self._chance.choice(managers))
        try:
            if len(self.book.present) >= KEPT:
                await self._remove(client)
            else:
                await self._make(client)
        except (ApiError, Unreachable, TimeoutError) as error:
            self.errors.append(str(error))
        else:
            now = time.monotonic()
            self.longest = max(self.longest, now - self.last)
            self.last = now

    async def _make(self, client: Client) -> None:
        self._number += 1
        name = f"{PREFIX}{self._number}"
        self.book.began(name)
        made = await client.post("/configs/create", {"Name": name, "Data": DATA}, timeout=PATIENCE)
        self.book.made(name, made["ID"])

    async def _remove(self, client: Client) -> None:
        name, identifier = next(iter(self.book.present.items()))
        self.book.removing(name)
        async with asyncio.timeout(PATIENCE):
            await client.delete(f"/configs/{identifier}")
        self.book.gone(name)
