"""What a leader sends when there is nothing else to say: that it leads, and what is committed (paper 5.2).

Pure: decides over `State`.
"""

from .messages import Heartbeat
from .state import State


def send(state: State) -> None:
    """To every peer, of what it is known to have."""
    state.heartbeat_elapsed = 0
    for member in sorted(state.progress):
        if member != state.id:
            commit = min(state.log.committed, state.progress[member].match)
            state.send(Heartbeat(member, state.id, state.term, commit, state.round))
