"""The policies by the name that the label `essaim.balance` gives them.

Pure: what a policy needs of the world is handed in.
"""

from .chance import Chance, LeastTime, Random
from .least_connections import LeastConnections
from .policy import Policy, T
from .ring import Ring
from .round_robin import RoundRobin


def make_policy(name: str, turns: memoryview, turn: int, chance: Chance) -> Policy[T]:
    """`turns[turn]`: the counter shared by all workers; `chance`: numbers in [0, 1)."""
    match name:
        case "least_connections":
            return LeastConnections(turns, turn)
        case "least_time":
            return LeastTime(chance)
        case "random":
            return Random(chance)
        case "hash":
            return Ring()
        case _:
            return RoundRobin(turns, turn)
