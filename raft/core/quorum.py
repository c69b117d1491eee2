"""The mathematics of majorities, for a plain configuration and for a joint one (dissertation 4.3).

Pure: sets and numbers. A joint configuration decides only what both of its halves decide; an empty half (there is
no joint configuration) agrees with everything.
"""

from collections.abc import Callable, Collection, Mapping
from enum import Enum

NO_LIMIT = 1 << 63  # what an empty set of voters has committed


class Vote(Enum):
    PENDING = "pending"
    WON = "won"
    LOST = "lost"


def committed(voters: Collection[int], match: Callable[[int], int]) -> int:
    """The highest index that a majority of `voters` has; `match` gives each one's."""
    if not voters:
        return NO_LIMIT
    ascending = sorted(map(match, voters))
    return ascending[(len(ascending) - 1) // 2]


def joint_committed(incoming: Collection[int], outgoing: Collection[int], match: Callable[[int], int]) -> int:
    return min(committed(incoming, match), committed(outgoing, match))


def tally(voters: Collection[int], votes: Mapping[int, bool]) -> Vote:
    """How an election stands. `votes` may hold more than the voters'."""
    if not voters:
        return Vote.WON
    majority = len(voters) // 2 + 1
    granted = sum(1 for voter in voters if votes.get(voter) is True)
    refused = sum(1 for voter in voters if votes.get(voter) is False)
    if granted >= majority:
        return Vote.WON
    return Vote.LOST if len(voters) - refused < majority else Vote.PENDING


def joint_tally(incoming: Collection[int], outgoing: Collection[int], votes: Mapping[int, bool]) -> Vote:
    both = (tally(incoming, votes), tally(outgoing, votes))
    if Vote.LOST in both:
        return Vote.LOST
    return Vote.PENDING if Vote.PENDING in both else Vote.WON
