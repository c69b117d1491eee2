"""A log in memory that applies at once: the smallest `Log` there can be."""

from collections.abc import Awaitable, Callable
from typing import Any

from essaim.raft.interface import Leadership, NoQuorum, StateMachine


class MemoryLog:
    def __init__(self, machine: StateMachine) -> None:
        self._machine = machine
        self.index = 0
        self.has_quorum = True
        self.proposals: list[bytes] = []
        self._leadership = Leadership(1, 1, "127.0.0.1:2377", is_local=True)

    async def start(self) -> None:
        return

    async def stop(self) -> None:
        return

    async def propose(self, command: bytes, *, timeout: float | None = None) -> Any:
        if not self.has_quorum:
            raise NoQuorum
        self.index += 1
        self.proposals.append(command)
        return self._machine.apply(self.index, command)

    async def read_barrier(self, *, timeout: float | None = None) -> None:
        return

    @property
    def leadership(self) -> Leadership:
        return self._leadership

    def on_leadership(self, callback: Callable[[Leadership], Awaitable[None] | None]) -> Callable[[], None]:
        callback(self._leadership)
        return lambda: None
