"""What the rest of essaim sees of consensus: an ordered, durable, replicated sequence of opaque commands.

The interface is narrow on purpose. The embedded Raft implements it; an external log (etcd) could. Callers keep
their state in a `StateMachine` that the log drives; they never look behind the log by class name.

Rules every implementation keeps:
- Commands are applied on every member in the same order, each exactly once per incarnation of the state
  machine (after a restart the machine starts from its newest snapshot and later commands are applied again).
- `propose` returns only after the command is durable on a quorum *and* applied to the local state machine, so
  that the caller reads its own writes. It may be called on any member; followers forward to the leader.
- A `propose` that raises `Uncertain` may or may not take effect later; commands carry their own guards
  (version checks), so that a caller can look and decide. One that raises anything else never takes effect.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Protocol


class LogError(Exception):
    """The log cannot do what was asked; the message is fit for a user."""


class NoQuorum(LogError):
    """No leader is known, or it has lost its majority: nothing can be written now. Safe to retry."""


class Uncertain(LogError):
    """The answer to a proposal was lost (leader change, cut connection, time-out): it may still take effect."""


class Stopped(LogError):
    """This member stopped (shutdown, full disk, I/O error); the message says why."""


class StateMachine(Protocol):
    """The deterministic consumer of the log. All methods are called from the event loop, in log order."""

    def apply(self, index: int, command: bytes) -> Any:
        """Apply one committed command. The result is what the local `propose` returns. Must not raise."""

    def snapshot(self) -> Callable[[], bytes]:
        """Freeze the state now, cheaply; the returned function serialises it and may run in a thread."""

    def restore(self, index: int, data: bytes) -> None:
        """Replace the whole state with a snapshot taken at `index`."""


@dataclass(frozen=True, slots=True)
class Leadership:
    """Who leads, as this member sees it. `leader_id` is 0 when nobody is known to."""

    term: int
    leader_id: int
    leader_address: str
    is_local: bool


class Log(Protocol):
    async def start(self) -> None:
        """Recover from disk and bring the state machine up to date with what this member has on disk."""

    async def stop(self) -> None:
        """Stop cleanly; every pending `propose` raises `Stopped`."""

    async def propose(self, command: bytes, *, timeout: float | None = None) -> Any:
        """Replicate one command; the result of the local `StateMachine.apply`.

        `timeout` is in seconds. Raises `NoQuorum`, `Uncertain` or `Stopped`.
        """

    async def read_barrier(self, *, timeout: float | None = None) -> None:
        """Return once local state is at least as new as every write acknowledged before the call."""

    @property
    def leadership(self) -> Leadership:
        """The newest view of who leads."""

    def on_leadership(self, callback: Callable[[Leadership], Awaitable[None] | None]) -> Callable[[], None]:
        """Call back on every change of leadership (and once at registration); returns the deregistration."""
