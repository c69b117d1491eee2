"""Log replication: what a leader sends, what followers answer, and when an entry is committed (paper 5.3, 5.4.2).

Pure: decides over `State`.
"""

from . import quorum, reads
from .entries import Entry, Kind, entries_size
from .members import Configuration, decode_configuration, encode_configuration, leave_joint
from .messages import Append, AppendReply, Heartbeat, HeartbeatReply, InstallSnapshot, TimeoutNow
from .progress import Progress, Sending
from .state import Role, State


def append(state: State, entries: list[Entry]) -> None:
    """A leader adds entries of its term; they leave with the next `flush`."""
    state.append(entries)
    state.uncommitted += entries_size(entries)
    if any(e.kind == Kind.MEMBERS for e in entries):
        follow_members(state)


def follow_members(state: State) -> None:
    """Track exactly the members of the configuration in force, and oneself."""
    everyone = {*state.members.everyone, state.id}
    for member in everyone - state.progress.keys():
        state.progress[member] = Progress(state.log.last + 1, active=True)
    for member in state.progress.keys() - everyone:
        del state.progress[member]
    if state.transferee not in everyone:
        state.transferee = 0


def flush(state: State) -> None:
    """Send to every peer what it lacks, as far as flow control allows; and begin the round of the new reads."""
    reads.begin_round(state)
    for member in sorted(state.progress):
        if member != state.id:
            while send_append(state, member):
                pass
            tell_commit(state, member)


def send_append(state: State, member: int, *, empty: bool = False) -> bool:
    """Send one message with entries (or, with `empty`, perhaps without); whether more may follow."""
    progress, log, settings = state.progress[member], state.log, state.settings
    if progress.paused(settings.max_inflight):
        return False
    probing = progress.state is Sending.PROBE
    if progress.next > log.last and not (empty or probing):
        return False
    prev = progress.next - 1
    prev_term = log.term_at(prev)
    if prev_term is None:
        send_snapshot(state, member, progress)
        return False
    entries = log.slice(progress.next, log.last, settings.max_append_bytes) if progress.next <= log.last else []
    state.send(Append(member, state.id, state.term, prev, prev_term, log.committed, entries))
    progress.sent(prev + len(entries), entries=len(entries))
    progress.commit_sent = max(progress.commit_sent, min(log.committed, prev + len(entries)))
    return bool(entries) and not probing


def send_snapshot(state: State, member: int, progress: Progress) -> None:
    """The log no longer reaches back to what the peer needs (paper 7)."""
    if progress.active and state.snapshot.index > progress.match:
        progress.send_snapshot(state.snapshot.index)
        state.send(InstallSnapshot(member, state.id, state.term, state.snapshot))


def tell_commit(state: State, member: int) -> None:
    """A peer that has entries which are committed by now may apply them at once, not at the next heartbeat."""
    progress = state.progress[member]
    commit = min(state.log.committed, progress.match)
    if commit > progress.commit_sent and progress.state is Sending.REPLICATE:
        progress.commit_sent = commit
        state.send(Heartbeat(member, state.id, state.term, commit, state.round, answer=False))


def commit_index(state: State) -> int:
    """The highest index that a quorum has durable; it may still be an entry of an earlier term."""
    members = state.members

    def match(member: int) -> int:
        progress = state.progress.get(member)
        return progress.match if progress else 0

    return quorum.joint_committed(members.voters, members.outgoing, match)


def may_commit(state: State, index: int) -> bool:
    """Only entries of the leader's own term are committed by counting (paper 5.4.2, figure 8)."""
    return index > state.log.committed and state.log.term_at(index) == state.term


def advance_commit(state: State) -> None:
    index = commit_index(state)
    if not may_commit(state, index):
        return
    newly = state.log.slice(state.log.committed + 1, index)
    state.log.committed = index
    state.uncommitted = max(0, state.uncommitted - entries_size(newly))
    reads.release_early(state)
    if state.configurations[-1][0] <= index:
        settle_members(state)


def settle_members(state: State) -> None:
    """The configuration in force is committed: end a joint one, or leave if it is without us (dissertation 4.2.2)."""
    members: Configuration = state.members
    if members.joint:
        data = encode_configuration(leave_joint(members))
        append(state, [Entry(state.log.last + 1, state.term, Kind.MEMBERS, data=data)])
        advance_commit(state)
    elif state.id not in members.voters:
        flush(state)  # those who stay learn the commit index, and one of them takes over at once
        heir = max(members.voters, key=lambda member: (state.progress[member].match, member))
        state.send(TimeoutNow(heir, state.id, state.term))
        state.become_follower(state.term, 0)


def on_append(state: State, message: Append) -> None:
    log = state.log
    if message.prev_index < log.committed:  # what is committed matches in any case
        skip = log.committed - message.prev_index
        if len(message.entries) <= skip:
            state.send(AppendReply(message.sender, state.id, state.term, log.committed))
            return
        entries = message.entries[skip:]
    elif log.matches(message.prev_index, message.prev_term):
        entries = message.entries
    else:
        index, term = log.conflict_hint(message.prev_index, message.prev_term)
        state.send(AppendReply(message.sender, state.id, state.term, message.prev_index, True, index, term))
        return
    take_entries(state, entries)
    last = message.prev_index + len(message.entries)
    log.committed = max(log.committed, min(message.commit, last))
    state.send(AppendReply(message.sender, state.id, state.term, last))


def take_entries(state: State, entries: list[Entry]) -> None:
    """Add a leader's entries whose predecessor matches."""
    before = state.log.last
    dropped = state.log.merge(entries)
    if dropped is not None:
        state.forget_configurations(dropped)
        before = dropped - 1
    state.note_configurations([e for e in entries if e.index > before])


def on_append_reply(state: State, reply: AppendReply) -> None:
    progress = state.progress.get(reply.sender)
    if state.role is not Role.LEADER or progress is None:
        return
    progress.active = True
    if reply.rejected:
        index = reply.hint_index
        if reply.hint_term:
            index, _ = state.log.conflict_hint(index, reply.hint_term)
        progress.rejected(reply.index, index + 1)
    elif reply.index <= state.log.last and progress.acknowledged(reply.index):
        advance_commit(state)
        hand_over(state, reply.sender)


def on_heartbeat(state: State, message: Heartbeat) -> None:
    state.log.committed = max(state.log.committed, min(message.commit, state.log.last))
    if message.answer:
        state.send(HeartbeatReply(message.sender, state.id, state.term, message.round))


def on_heartbeat_reply(state: State, reply: HeartbeatReply) -> None:
    """Also the moment to repair what got lost: a probe, or messages that were sent ahead."""
    progress = state.progress.get(reply.sender)
    if state.role is not Role.LEADER or progress is None:
        return
    progress.active = True
    if progress.state is Sending.PROBE:
        progress.waiting = False
        send_append(state, reply.sender)
    elif progress.state is Sending.REPLICATE and progress.match < state.log.last:
        if progress.paused(state.settings.max_inflight):
            progress.inflight.popleft()
        send_append(state, reply.sender, empty=True)
    reads.confirm(state, reply.sender, reply.round)


def on_install_snapshot(state: State, message: InstallSnapshot) -> None:
    """The data is on our disk already: take it as the log's new beginning, unless we have as much."""
    meta, log = message.meta, state.log
    if meta.index <= log.committed:
        state.send(AppendReply(message.sender, state.id, state.term, log.committed))
    elif log.matches(meta.index, meta.term):
        log.committed = meta.index
        state.send(AppendReply(message.sender, state.id, state.term, meta.index))
    else:
        restore(state, message)


def restore(state: State, message: InstallSnapshot) -> None:
    meta = message.meta
    state.log.restore(meta.index, meta.term)
    state.configurations = [(meta.index, decode_configuration(meta.members))]
    state.snapshot = state.restore = meta
    state.send(AppendReply(message.sender, state.id, state.term, meta.index))


def snapshot_sent(state: State, member: int, *, arrived: bool) -> None:
    """The node is done with sending a snapshot. The peer's own answer may have come before."""
    progress = state.progress.get(member)
    if progress is None or progress.state is not Sending.SNAPSHOT:
        return
    progress.probe(progress.snapshot + 1 if arrived else progress.match + 1)
    progress.waiting = True  # until the peer is heard from


def unreachable(state: State, member: int) -> None:
    """Messages to the peer may be lost: those sent ahead have to be sent again."""
    progress = state.progress.get(member)
    if progress is not None and member != state.id and progress.state is Sending.REPLICATE:
        progress.probe(progress.match + 1)


def hand_over(state: State, member: int) -> None:
    """In a transfer, the target may begin as soon as it has the whole log (dissertation 3.10)."""
    if state.role is Role.LEADER and member == state.transferee and state.progress[member].match == state.log.last:
        state.send(TimeoutNow(member, state.id, state.term))
