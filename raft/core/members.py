"""Who belongs to the cluster, and how that may change (dissertation chapter 4).

Pure: configurations are values. A change that alters at most one voter is made in one step (4.1); any other goes
through a joint configuration, in which old and new majorities are both needed (4.3). Learners get the log and do not
vote (4.2.1). The id of a removed member is never used again, so that it can be told so when it turns up.
"""

from collections.abc import Iterable
from enum import Enum

import msgspec

MAX_ID = (1 << 64) - 1


class ChangeKind(Enum):
    ADD_LEARNER = "add learner"
    PROMOTE = "promote"  # learner to voter; also adds an unknown member as voter
    DEMOTE = "demote"  # voter to learner
    REMOVE = "remove"


class Change(msgspec.Struct, frozen=True, array_like=True):
    """One step of a wish. `address` is needed for members that are not known yet, and replaces a known one's."""

    kind: ChangeKind
    member: int
    address: str = ""


class RefusedChange(Exception):
    """The change makes no sense for this configuration; the message says why."""


class Configuration(msgspec.Struct, frozen=True, array_like=True):
    """The members from some index of the log on. All collections are sorted, so that equal ones encode alike."""

    voters: tuple[int, ...] = ()
    learners: tuple[int, ...] = ()
    outgoing: tuple[int, ...] = ()  # the old voters while joint; empty otherwise
    demoted: tuple[int, ...] = ()  # outgoing voters that become learners when the joint configuration ends
    addresses: dict[int, str] = {}
    removed: tuple[int, ...] = ()

    @property
    def joint(self) -> bool:
        return bool(self.outgoing)

    @property
    def deciders(self) -> tuple[int, ...]:
        """Everyone with a vote, in either half."""
        return tuple(sorted({*self.voters, *self.outgoing})) if self.outgoing else self.voters

    @property
    def everyone(self) -> tuple[int, ...]:
        return tuple(sorted({*self.voters, *self.outgoing, *self.learners}))


_decode = msgspec.msgpack.Decoder(Configuration).decode
_encode = msgspec.msgpack.Encoder().encode


def decode_configuration(data: bytes) -> Configuration:
    return _decode(data) if data else Configuration()


def encode_configuration(configuration: Configuration) -> bytes:
    return _encode(configuration)


def first_configuration(members: dict[int, str]) -> Configuration:
    """The voters that a cluster begins with, by id."""
    return Configuration(voters=tuple(sorted(members)), addresses=dict(sorted(members.items())))


def change(now: Configuration, changes: Iterable[Change]) -> Configuration:
    """The configuration to append for `changes`: the new one, or the joint one on the way to it."""
    if now.joint:
        raise RefusedChange("another membership change is under way")
    voters, learners, addresses = set(now.voters), set(now.learners), dict(now.addresses)
    for step in changes:
        _take(step, now, voters, learners, addresses)
    if not voters:
        raise RefusedChange("the last manager cannot be removed or demoted")
    addresses = {member: addresses[member] for member in sorted({*voters, *learners, *now.voters})}
    gone = {*now.voters, *now.learners} - voters - learners
    removed = tuple(sorted({*now.removed, *gone}))
    if len(voters ^ set(now.voters)) <= 1:
        kept = {member: a for member, a in addresses.items() if member not in gone}
        return Configuration(tuple(sorted(voters)), tuple(sorted(learners)), addresses=kept, removed=removed)
    demoted = learners & set(now.voters)
    return Configuration(
        tuple(sorted(voters)), tuple(sorted(learners - demoted)), now.voters, tuple(sorted(demoted)), addresses, removed
    )


def leave_joint(now: Configuration) -> Configuration:
    """The configuration that ends a joint one."""
    learners = {*now.learners, *now.demoted}
    addresses = {member: a for member, a in now.addresses.items() if member in learners or member in now.voters}
    return Configuration(now.voters, tuple(sorted(learners)), addresses=addresses, removed=now.removed)


def _take(step: Change, now: Configuration, voters: set[int], learners: set[int], addresses: dict[int, str]) -> None:
    member = step.member
    if not 0 < member <= MAX_ID:
        raise RefusedChange(f"{member} is not a member id")
    known = member in voters or member in learners
    if step.kind in (ChangeKind.REMOVE, ChangeKind.DEMOTE):
        if not known or (step.kind is ChangeKind.DEMOTE and member not in voters):
            raise RefusedChange(f"{member:x} is not a member that could be the object of '{step.kind.value}'")
        voters.discard(member)
        learners.discard(member)
        if step.kind is ChangeKind.DEMOTE:
            learners.add(member)
        return
    if member in now.removed:
        raise RefusedChange(f"{member:x} was removed; a removed member joins again under a new id")
    if step.address:
        addresses[member] = step.address
    elif not known:
        raise RefusedChange(f"the address of the new member {member:x} is missing")
    if step.kind is ChangeKind.ADD_LEARNER:
        if member in voters:
            raise RefusedChange(f"{member:x} is a voter already")
        learners.add(member)
    else:
        learners.discard(member)
        voters.add(member)
