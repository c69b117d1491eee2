"""Whether a membership change is safe now: it must leave a quorum that is up, and give a vote only to who keeps up.

Pure: configurations and what the leader knows of the members; the rules of what makes sense at all are in `members`.

- A learner becomes a voter only if it is up, has answered this leader, has the configuration that made it a learner,
  and lacks few entries. A new member's first answer proves that it can be reached at its address; without that rule
  a cluster of one manager loses its quorum to whoever joins from behind a firewall.
- No configuration is entered whose voters that are up are no majority, of both halves if it is a joint one, unless
  the caller insists. That holds for every change: a promotion and a replacement as well as a removal.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from .members import Change, ChangeKind, Configuration, RefusedChange, change
from .quorum import Vote, joint_tally

LAG = 1000  # entries that a learner may lack when it is promoted
LOSS = "raft: member cannot be removed, because removing it may result in loss of quorum"
LOSS_DEMOTED = "raft: member cannot be demoted, because demoting it may result in loss of quorum"
LOSS_PROMOTED = "raft: member cannot be promoted, because promoting it may result in loss of quorum"


class Premature(Exception):
    """The change may be safe a little later; the message says what it waits for."""


@dataclass(frozen=True, slots=True)
class Standing:
    """What the leader knows of a member: how much of the log it has durable (as it said to this leader), and whether
    it answers."""

    match: int
    up: bool


@dataclass(frozen=True, slots=True)
class Situation:
    """`settled` is the index of the configuration `now`, `last` that of the log's end. Whom `standings` does not name
    is no member."""

    now: Configuration
    settled: int
    last: int
    standings: Mapping[int, Standing]


def judge(situation: Situation, changes: Iterable[Change], *, force: bool = False) -> Configuration:
    """The configuration that the changes lead to. Raises `RefusedChange` or `Premature`."""
    changes = list(changes)
    new = change(situation.now, changes)
    for step in changes:
        if step.kind is ChangeKind.PROMOTE:
            _require_fit(situation, step.member)
    if new.deciders != situation.now.deciders and not force and not _has_quorum(situation, new):
        kinds = {step.kind for step in changes}
        raise RefusedChange(
            LOSS if ChangeKind.REMOVE in kinds else LOSS_DEMOTED if ChangeKind.DEMOTE in kinds else LOSS_PROMOTED
        )
    return new


def _require_fit(situation: Situation, member: int) -> None:
    standing = situation.standings.get(member)
    if standing is None:
        raise RefusedChange(f"{member:x} is not a member")
    if not standing.match:
        raise Premature(f"{member:x} has not answered yet")
    if not standing.up:
        raise Premature(f"{member:x} does not answer")
    if standing.match < situation.settled or standing.match + LAG < situation.last:
        raise Premature(f"{member:x} has not caught up yet")


def _has_quorum(situation: Situation, members: Configuration) -> bool:
    up = {member: standing.up for member, standing in situation.standings.items()}
    return joint_tally(members.voters, members.outgoing, {m: up.get(m, False) for m in members.everyone}) is Vote.WON
