"""Writing to the cluster: change sets through the log, with the outcome turned into results or errors."""

from collections.abc import Callable, Sequence
from datetime import datetime

import msgspec
from msgspec.structs import replace

from essaim.raft.interface import Log, NoQuorum, Stopped, Uncertain

from . import changes
from .changes import Change, ChangeSet, Put
from .errors import AlreadyExists, OutOfSequence, Unavailable
from .kept import with_kept
from .store import Outcome, Store

NO_QUORUM = (
    "rpc error: code = Unknown desc = The swarm does not have a leader. It's possible that too few managers are "
    "online. Make sure more than half of the managers are online."
)
TOO_NEW = (
    "this needs format {} of the cluster's state, and the managers have agreed on {}: upgrade essaim on all managers"
)
LOST = "the answer to this change was lost on the way ({}); look whether it took effect before repeating it"


class Writer:
    """Proposes change sets. `now` is the wall clock, in UTC."""

    def __init__(self, log: Log, store: Store, now: Callable[[], datetime]) -> None:
        self._log = log
        self.store = store
        self.now = now

    async def write(self, proposed: Sequence[Change], *, atomic: bool = True, timeout: float | None = 10) -> Outcome:
        """Replicate and apply. The outcome may hold rejections; an empty sequence is a no-op.

        Raises Unavailable without quorum.
        """
        if not proposed:
            return Outcome(self.store.version)
        needed = changes.needed_format(proposed)
        if needed > self.store.format:
            raise Unavailable(TOO_NEW.format(needed, self.store.format))
        data = changes.encode(ChangeSet([self._whole(change) for change in proposed], self.now(), atomic, needed))
        try:
            outcome: Outcome = await self._log.propose(data, timeout=timeout)
        except NoQuorum as error:
            raise Unavailable(NO_QUORUM) from error
        except (Uncertain, Stopped) as error:
            raise Unavailable(LOST.format(error)) from error
        return outcome

    def _whole(self, change: Change) -> Change:
        """With the fields of the object that this version does not know. Raises ValueError for what nobody could read:
        in the log it would stop every manager."""
        if not isinstance(change, Put):
            return change
        table = self.store.tables[change.table]
        try:
            value = table.decode(change.object)
        except msgspec.DecodeError as error:
            raise ValueError(f"an object for {change.table} is not of its type: {error}") from error
        kept = table.kept.get(value.id)
        if kept is None:
            return change
        return replace(change, object=msgspec.Raw(with_kept(bytes(change.object), kept)))

    async def commit(self, proposed: Sequence[Change], *, timeout: float | None = 10) -> int:
        """Like `write`, for a set that must take effect as a whole; its version.

        Raises OutOfSequence or AlreadyExists when the state moved on meanwhile, Unavailable without quorum.
        """
        outcome = await self.write(proposed, timeout=timeout)
        for rejected in outcome.rejected:
            if rejected.reason == "name":
                raise AlreadyExists(f"an object of that name already exists in {rejected.table}")
            raise OutOfSequence
        return outcome.index

    async def update(self, decide: Callable[[Store], Sequence[Change]], *, attempts: int = 10) -> int:
        """Decide from the current state and commit; decide anew when the state moved on in between."""
        for attempt in range(attempts):
            try:
                return await self.commit(decide(self.store))
            except OutOfSequence:
                if attempt == attempts - 1:
                    raise
        raise OutOfSequence
