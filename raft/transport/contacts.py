"""Whom a member talks to, and at which address.

Pure: configurations, callers and the leader in; addresses out. The transport carries it out, and so does the
simulation of the tests.

- Everyone whom the newest configuration lists, and while that is not applied those of the one before as well.
- Whoever sends to this member as the leader, listed or not. A member that catches up replays configurations of a
  time when today's leader had not joined; if it stopped answering then, it would never get any further.
- A caller says its own address, and its certificate proves which member it is. What the leader says of itself goes
  before what a configuration says, which may be an old one; of others the configuration's goes first.
- What a caller has said is kept until the member is known to be removed: it says it once a stream, and the stream
  stays open.
"""

from collections.abc import Mapping, Sequence

from essaim.raft.core.members import Configuration


class Contacts:
    """Those of the member `own`."""

    def __init__(self, own: int) -> None:
        self._own = own
        self._listed: Mapping[int, str] = {}
        self._heard: dict[int, str] = {}
        self._leader = 0
        self._followed: tuple[Configuration, bool, int] | None = None

    def follow(self, configurations: Sequence[tuple[int, Configuration]], applied: int, leader: int) -> bool:
        """Configurations by index of the log, ascending; `leader` is 0 while none is known. Whether that is news."""
        index, members = configurations[-1]
        settled = index <= applied
        if (members, settled, leader) == self._followed:
            return False
        self._followed, self._leader = (members, settled, leader), leader
        before = configurations[-2][1].addresses if not settled and len(configurations) > 1 else {}
        self._listed = {**before, **members.addresses}
        for member in [member for member in self._heard if self.is_removed(member)]:
            del self._heard[member]
        return True

    def restart(self) -> None:
        """The log begins anew: what comes next is news."""
        self._followed = None

    def called(self, member: int, address: str) -> None:
        """A member opened a stream, and says that this is its address."""
        self._heard[member] = address

    def address(self, member: int) -> str | None:
        """Where to send what is for a member; None if nobody said so far."""
        listed, heard = self._listed.get(member), self._heard.get(member)
        return (heard or listed) if member == self._leader else (listed or heard)

    def wanted(self) -> dict[int, str]:
        """The members to keep a stream to."""
        members = {*self._listed, self._leader} - {self._own, 0}
        return {member: address for member in sorted(members) if (address := self.address(member))}

    def is_removed(self, member: int) -> bool:
        """Only when it is certain: a removal that is not applied may still be undone."""
        if self._followed is None:
            return False
        members, settled, _ = self._followed
        return settled and member in members.removed
