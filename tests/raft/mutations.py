"""Seeded bugs: each replaces one rule of the core by a wrong one. The simulation has to notice every one of them."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any
from unittest import mock

from simulation import Disk, Faults

from essaim.raft.core import core, election, guard, log_view, members, quorum, reads, replication, state
from essaim.raft.core.entries import HardState
from essaim.raft.core.messages import AppendReply
from essaim.raft.transport import contacts

CRASHES = Faults(ideas=("partition", "heal", "crash", "restart", "slow disk"), duration=10)
SPLITS = Faults(ideas=("isolate", "partition", "one way", "heal"), duration=10)
LAGGING = Faults(ideas=("isolate", "heal", "crash", "partition"), duration=10, straggler=0.1)
CHURN = Faults(ideas=("members", "partition", "members", "heal", "members", "crash"), duration=12, nemesis=0.2)
REPLACED = Faults(ideas=("replace", "replace", "crash", "heal"), duration=12, nemesis=0.3)
FIGURE_8 = Faults(
    ideas=("isolate", "isolate", "heal"),
    nemesis=0.3,
    append_bytes=1,
    inflight=1,
    delay=(0.01, 0.2),
    duration=20,
    think=0.02,
    disk=(0.001, 0.1),
)
ELECTIONS = Faults(ideas=("crash", "restart", "crash"), nemesis=0.15, down=(0.01, 0.1), delay=(0.01, 0.15))
JOINS = Faults(
    ideas=("join", "promote", "join", "promote", "transfer", "retire", "crash"),
    loss=0,
    straggler=0,
    snapshots=0,
    nemesis=0.3,
    duration=12,
)
STALE = Faults(ideas=("isolate", "heal", "crash"), nemesis=0.2, straggler=0.3, late=4, duration=12)
STABLE = Faults(ideas=("isolate", "heal"), loss=0, straggler=0, stable=True, delay=(0.001, 0.003), duration=10)


@dataclass
class Mutation:
    name: str
    patches: list[tuple[Any, str, Any]] = field(default_factory=list)
    faults: Faults = CRASHES
    options: dict[str, Any] = field(default_factory=dict)

    @contextmanager
    def active(self) -> Iterator[None]:
        with ExitStack() as stack:
            for target, name, wrong in self.patches:
                stack.enter_context(mock.patch.object(target, name, wrong))
            yield


def votes_twice(now: state.State, request: Any) -> bool:
    free = request.term > now.term if request.pre else True
    return free and now.log.is_up_to_date(request.last_index, request.last_term)


def votes_for_any_log(now: state.State, request: Any) -> bool:
    return request.term > now.term if request.pre else now.vote in (0, request.sender)


def commits_by_count_alone(now: state.State, index: int) -> bool:
    return now.log.committed < index <= now.log.last


def sends_before_writing(now: state.State, message: Any) -> None:
    now.ready.append(message)


def forgets_its_vote(disk: Disk) -> Any:
    hard, meta, data, entries = _recover(disk)
    return HardState(hard.term, 0, hard.commit), meta, data, entries


def one_too_few(voters: Any, match: Callable[[int], int]) -> int:
    return sorted(map(match, voters))[min(len(voters) // 2 + 1, len(voters) - 1)] if voters else quorum.NO_LIMIT


def half_is_enough(voters: Any, votes: Any) -> quorum.Vote:
    if not voters or sum(1 for v in voters if votes.get(v)) >= max(1, len(voters) // 2):
        return quorum.Vote.WON
    return quorum.Vote.PENDING


def keeps_conflicting_entries(log: log_view.LogView, entries: Any) -> None:
    log._entries.extend(e for e in entries if e.index > log.last)


def merges_after_any_entry(log: log_view.LogView, index: int, term: int) -> bool:
    return index <= log.last


def heartbeat_commits_everything(now: state.State, message: Any) -> None:
    now.log.committed = max(now.log.committed, min(message.commit + 3, now.log.last))
    if message.answer:
        now.send(replication.HeartbeatReply(message.sender, now.id, now.term, message.round))


def append_commits_unmatched(now: state.State, message: Any) -> None:
    """The commit index is taken from a message although its entries did not match."""
    now.log.committed = max(now.log.committed, min(message.commit, now.log.last))
    _on_append(now, message)


def reads_at_once(now: state.State, member: int, context: int) -> None:
    if member == now.id:
        now.read_done.append((context, now.log.committed))
    else:
        now.send(reads.ReadReply(member, now.id, now.term, context, now.log.committed))


def reads_before_first_commit(now: state.State, member: int, context: int) -> None:
    now.reads.append(state.PendingRead(member, context, now.log.committed, now.round + 1))


def one_half_decides(incoming: Any, outgoing: Any, match: Any) -> int:
    return quorum.committed(incoming, match)


def one_half_elects(incoming: Any, outgoing: Any, votes: Any) -> quorum.Vote:
    return quorum.tally(incoming, votes)


def never_joint(now: members.Configuration, changes: Any) -> members.Configuration:
    new = _change(now, changes)
    return members.leave_joint(new) if new.joint else new


def changes_while_changing(self: core.Core, changes: Any, key: int = 0) -> int:
    now = self.state
    core._require_open(now)
    new = core.change(members.leave_joint(now.members) if now.members.joint else now.members, changes)
    index = now.log.last + 1
    data = members.encode_configuration(new)
    replication.append(now, [core.Entry(index, now.term, core.Kind.MEMBERS, key, data)])
    return index


def keeps_its_term(now: state.State, message: Any) -> None:
    """A message of an older term is handled like any other."""
    if isinstance(message, AppendReply) and not message.rejected:
        core._HANDLERS[type(message)](now, message)


def campaigns_without_asking(now: state.State, *, pre: bool, transfer: bool = False) -> None:
    """No pre-vote: whoever was away deposes the leader when it is back."""
    _campaign(now, pre=False, transfer=transfer)


def applies_from_the_start(log: log_view.LogView, index: int, term: int) -> None:
    _restore(log, index, term)
    log.applied = max(0, index - 1)
    log.base = index - 1


def counts_itself_too_early(now: state.State) -> int:
    """The leader counts entries of its own that are not on its disk."""
    if now.id in now.progress:
        now.progress[now.id].match = now.log.last
    return _commit_index(now)


def lets_anybody_vote(situation: guard.Situation, member: int) -> None:
    """A learner that has never answered is promoted, as long as the log is short."""


def talks_to_whom_it_lists(now: contacts.Contacts, configurations: Any, applied: int, leader: int) -> bool:
    """Who is not in the configuration that is in force here is forgotten, be it the leader."""
    news = _follow(now, configurations, applied, 0)
    if news:
        now._heard.clear()
    return news


_follow = contacts.Contacts.follow
_on_append = replication.on_append
_recover = Disk.recover
_campaign = election.campaign
_change = members.change
_restore = log_view.LogView.restore
_commit_index = replication.commit_index

MUTATIONS = [
    Mutation("votes twice in a term", [(election, "may_vote", votes_twice)]),
    Mutation("votes for a log that is not up to date", [(election, "may_vote", votes_for_any_log)], LAGGING),
    Mutation(
        "commits an old term's entry by count",
        [(replication, "may_commit", commits_by_count_alone)],
        FIGURE_8,
        {"members": 5},
    ),
    Mutation("skips the fsync", faults=Faults(ideas=("crash", "restart", "restart", "heal"), synced=False)),
    Mutation("sends before it has written", [(state.State, "send", sends_before_writing)]),
    Mutation("does not write its vote", [(Disk, "recover", forgets_its_vote)], ELECTIONS),
    Mutation("commits by one too few", [(quorum, "committed", one_too_few)], SPLITS, {"members": 5}),
    Mutation("is elected by half", [(quorum, "tally", half_is_enough)], SPLITS, {"members": 4}),
    Mutation("keeps conflicting entries", [(log_view.LogView, "merge", keeps_conflicting_entries)], LAGGING),
    Mutation("does not check the previous term", [(log_view.LogView, "matches", merges_after_any_entry)], LAGGING),
    Mutation(
        "commits what does not match (append)",
        [(core, "_HANDLERS", {**core._HANDLERS, replication.Append: append_commits_unmatched})],
        LAGGING,
    ),
    Mutation(
        "commits what does not match (heartbeat)",
        [(core, "_HANDLERS", {**core._HANDLERS, replication.Heartbeat: heartbeat_commits_everything})],
        LAGGING,
    ),
    Mutation("reads without asking a quorum", [(reads, "register", reads_at_once)], SPLITS),
    Mutation("reads before its term has a commit", [(reads, "register", reads_before_first_commit)], LAGGING),
    Mutation(
        "commits by the new half of a joint configuration", [(quorum, "joint_committed", one_half_decides)], CHURN
    ),
    Mutation(
        "is elected by the new half of a joint configuration",
        [(quorum, "joint_tally", one_half_elects)],
        REPLACED,
        {"members": 3},
    ),
    Mutation("changes many voters at once without joint consensus", [(core, "change", never_joint)], CHURN),
    Mutation(
        "changes members while a change is under way", [(core.Core, "change_members", changes_while_changing)], CHURN
    ),
    Mutation("counts answers of an earlier term", [(core, "_meet_older_term", keeps_its_term)], STALE, {"members": 3}),
    Mutation("ignores the pre-vote", [(election, "campaign", campaigns_without_asking)], STABLE, {"members": 3}),
    Mutation("counts what is not on its own disk", [(replication, "commit_index", counts_itself_too_early)]),
    Mutation("restores a snapshot one entry short", [(log_view.LogView, "restore", applies_from_the_start)], CHURN),
    Mutation(
        "gives a vote to who has not answered", [(guard, "_require_fit", lets_anybody_vote)], JOINS, {"members": 1}
    ),
    Mutation(
        "forgets a leader that it does not list",
        [(contacts.Contacts, "follow", talks_to_whom_it_lists)],
        JOINS,
        {"members": 1},
    ),
]
