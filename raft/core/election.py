"""Elections: time-outs, pre-votes, votes, and what a member does when it wins (paper 5.2, 5.4.1; dissertation 9.6).

Pure: decides over `State`. A vote is counted, also a candidate's own, only when it is durable: the own vote is a
message to oneself, which waits for the disk like any other.
"""

from . import quorum, replication
from .entries import Entry, Kind
from .messages import TimeoutNow, VoteReply, VoteRequest
from .progress import Progress
from .state import Role, State


def campaign(state: State, *, pre: bool, transfer: bool = False) -> None:
    """Ask for votes; with `pre`, ask whether it would be any use, and disturb nobody."""
    if not state.promotable:
        return
    if pre:
        state.reset(state.term)
        state.role, term = Role.PRE_CANDIDATE, state.term + 1
    else:
        state.reset(state.term + 1)
        state.role, state.vote, term = Role.CANDIDATE, state.id, state.term
    for member in state.members.deciders:
        if member == state.id:
            state.send(VoteReply(member, member, term, granted=True, pre=pre))
        else:
            log = state.log
            state.send(VoteRequest(member, state.id, term, log.last, log.last_term, pre=pre, transfer=transfer))


def in_lease(state: State) -> bool:
    """Whether a live leader is known: then nobody needs another one (dissertation 4.2.3)."""
    return state.settings.check_quorum and state.leader != 0 and state.elapsed < state.settings.election_ticks


def may_vote(state: State, request: VoteRequest) -> bool:
    """One vote a term, and only for a log that is up to date (paper 5.2, 5.4.1)."""
    if request.pre:
        free = request.term > state.term
    else:
        free = state.vote in (0, request.sender) and state.leader in (0, request.sender)
    return free and state.log.is_up_to_date(request.last_index, request.last_term)


def on_vote_request(state: State, request: VoteRequest) -> None:
    """The term has been compared already: here it is our own, or that of a pre-vote."""
    granted = may_vote(state, request)
    if granted and not request.pre:
        state.elapsed = 0
        state.vote = request.sender
    term = request.term if granted else state.term
    state.send(VoteReply(request.sender, state.id, term, granted=granted, pre=request.pre))


def on_vote_reply(state: State, reply: VoteReply) -> None:
    wanted = Role.PRE_CANDIDATE if reply.pre else Role.CANDIDATE
    if state.role is not wanted or (reply.granted and reply.term != state.term + reply.pre):
        return
    state.votes.setdefault(reply.sender, reply.granted)
    outcome = quorum.joint_tally(state.members.voters, state.members.outgoing, state.votes)
    if outcome is quorum.Vote.LOST:
        state.become_follower(state.term, 0)
    elif outcome is quorum.Vote.WON:
        if reply.pre:
            campaign(state, pre=False)
        else:
            become_leader(state)


def on_timeout_now(state: State, _: TimeoutNow) -> None:
    campaign(state, pre=False, transfer=True)


def become_leader(state: State) -> None:
    """Begin the term with an empty entry: only its commit commits what came before (paper 5.4.2)."""
    state.reset(state.term)
    state.role, state.leader = Role.LEADER, state.id
    state.progress = {member: Progress(state.log.last + 1) for member in {*state.members.everyone, state.id}}
    for progress in state.progress.values():
        progress.active = True
    own = state.progress[state.id]
    own.match = state.log.durable
    own.replicate()
    replication.append(state, [Entry(state.log.last + 1, state.term, Kind.BARRIER)])


def leader_lost(state: State) -> None:
    """The node saw the leader's process go: do not wait out the whole time-out, and do not defend its lease."""
    if state.role is Role.FOLLOWER and state.leader:
        state.leader = 0
        state.elapsed = 0
        state.timeout = 1 + state.settings.random(max(2, state.settings.election_ticks // 2))
