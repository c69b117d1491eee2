"""Linearizable reads without writing to the log: ReadIndex (dissertation 6.4).

Pure: decides over `State`. A read takes the commit index of a leader that has committed an entry of its own term, and
counts once a quorum has answered a heartbeat that was sent after the read came in. Reads that come while a round
is under way share the next one. Leader leases (6.4.1) are rejected: they trust clocks.
"""

from . import heartbeats, quorum
from .messages import ReadReply, ReadRequest
from .state import PendingRead, Role, State


def request(state: State, context: int) -> None:
    """The node wants to read; the answer comes in `State.read_done`."""
    if state.role is Role.LEADER:
        register(state, state.id, context)
    elif state.leader:
        state.send(ReadRequest(state.leader, state.id, state.term, context))
    else:
        state.read_done.append((context, 0))


def on_read_request(state: State, message: ReadRequest) -> None:
    if state.role is Role.LEADER:
        register(state, message.sender, message.context)
    else:
        state.send(ReadReply(message.sender, state.id, state.term, message.context, 0))


def on_read_reply(state: State, message: ReadReply) -> None:
    state.read_done.append((message.context, message.index))


def register(state: State, member: int, context: int) -> None:
    """Reads are confirmed by the next round, which `begin_round` starts with the next output."""
    if state.log.term_at(state.log.committed) == state.term:
        state.reads.append(PendingRead(member, context, state.log.committed, state.round + 1))
    else:
        state.early_reads.append((member, context))


def release_early(state: State) -> None:
    """The first entry of the term is committed."""
    early, state.early_reads = state.early_reads, []
    for member, context in early:
        register(state, member, context)


def begin_round(state: State) -> None:
    if state.reads and state.reads[-1].round > state.round:
        state.round += 1
        heartbeats.send(state)
        settle(state)


def confirm(state: State, member: int, number: int) -> None:
    progress = state.progress[member]
    if number > progress.round:
        progress.round = number
        settle(state)


def confirmed_round(state: State) -> int:
    """The newest round that a quorum has answered."""

    def answered(member: int) -> int:
        if member == state.id:
            return state.round
        progress = state.progress.get(member)
        return progress.round if progress else 0

    return quorum.joint_committed(state.members.voters, state.members.outgoing, answered)


def settle(state: State) -> None:
    """Answer the reads whose round is confirmed."""
    upto = confirmed_round(state)
    done = 0
    for read in state.reads:
        if read.round > upto:
            break
        done += 1
        if read.member == state.id:
            state.read_done.append((read.context, read.index))
        else:
            state.send(ReadReply(read.member, state.id, state.term, read.context, read.index))
    del state.reads[:done]
