"""What the rest of essaim sees of consensus: an ordered, durable, replicated sequence of opaque commands.

The interface is narrow on purpose. The embedded Raft implements it; an external log (etcd) could. Callers keep
their state in a `StateMachine` that the log drives; they never look behind the log by class name.

Rules every implementation keeps:
- Commands are applied on every member in the same order, each exactly once per incarnation of the state
  machine (after a restart the machine starts from its newest snapshot and later commands are applied again).
- `propose` returns only after the command is durable on a quorum *and* applied to the local state machine, so
  that the caller reads its own writes. It may be called on any member; followers forward to the leader.
- A `propose` that raises `Uncertain` (or `Stopped`, which is one) may or may not take effect later; commands carry
  their own guards (version checks), so that a caller can look and decide. One that raises anything else never takes
  effect.
"""

from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any, Protocol


class LogError(Exception):
    """The log cannot do what was asked; the message is fit for a user."""


class NoQuorum(LogError):
    """No leader is known, or it has lost its majority: nothing can be written now. Safe to retry."""


class Uncertain(LogError):
    """The answer to a proposal was lost (leader change, cut connection, time-out): it may still take effect."""


class Stopped(Uncertain):
    """This member stopped (shutdown, full disk, I/O error); the message says why."""


class Refused(LogError):
    """A membership change that makes no sense now, or would cost the quorum; nothing was changed."""


class Unusable(Exception):
    """What a member has on its disk cannot be used; the message says what is wrong where, and what to do."""


class CannotApply(Exception):
    """A command or a snapshot that this version does not understand; the message says what, and what to do."""


class StateMachine(Protocol):
    """The deterministic consumer of the log. All methods are called from the event loop, in log order."""

    def apply(self, index: int, command: bytes) -> Any:
        """Apply one committed command. The result is what the local `propose` returns.

        May raise `CannotApply`, with nothing changed: the member then takes no part any more, since it would go on
        with another state than the others. Must not raise anything else.
        """

    def snapshot(self) -> Callable[[], bytes]:
        """Freeze the state now, cheaply; the returned function serialises it and runs in a thread.

        It serialises in pieces of some milliseconds: one long call of an encoder holds the interpreter's lock, and
        heartbeats wait for it.
        """

    def restore(self, index: int, data: bytes) -> None:
        """Replace the whole state with a snapshot taken at `index`. May raise `CannotApply`, as `apply`."""


@dataclass(frozen=True, slots=True)
class Leadership:
    """Who leads, as this member sees it. `leader_id` is 0 when nobody is known to.

    `is_local` becomes true only when the local state holds all that earlier leaders have acknowledged.
    """

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


@dataclass(frozen=True, slots=True)
class MemberView:
    """One member. `match` (how much of the log it has) and `reachable` are known on the leader only: 0 and None."""

    id: int
    address: str
    is_voter: bool
    is_leader: bool
    match: int = 0
    reachable: bool | None = None


class Membership(Protocol):
    """Who takes part. May be called on any member; each call returns when the change is in force and committed.

    All raise `Refused`, `NoQuorum`, `Uncertain` or `Stopped`. Ids are 64-bit, not 0, and never used again.
    """

    @property
    def member_id(self) -> int:
        """The id of the local member."""

    def members(self) -> Sequence[MemberView]:
        """Everyone in the configuration in force, by id."""

    def removed(self) -> Collection[int]:
        """The ids that were taken out, by the configuration in force."""

    async def add_learner(self, member_id: int, address: str, *, timeout: float | None = None) -> None:
        """Let a new member receive the log; it does not vote. `address` is "host:port"."""

    async def promote(self, member_id: int, *, timeout: float | None = None) -> None:
        """Make a learner a voter, once it has caught up."""

    async def demote(self, member_id: int, *, force: bool = False, timeout: float | None = None) -> None:
        """Make a voter a learner. Refused if the voters then reachable are no majority, unless forced."""

    async def remove(self, member_id: int, *, force: bool = False, timeout: float | None = None) -> None:
        """Take a member out for good. Refused as `demote` is."""

    async def transfer(self, member_id: int, *, timeout: float | None = None) -> None:
        """Let another voter lead."""

    async def force_new_cluster(self) -> None:
        """After a lost majority: go on alone from what is on this member's disk. Others must not be started again."""
