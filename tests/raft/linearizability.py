"""A checker of the Wing-Gong-Lowe kind: can a history of concurrent operations on one register be put in one order?

An operation may take effect anywhere between its call and its return. One without a return (its outcome is unknown)
may take effect at any later time, or never. The search picks the next operation among those whose call precedes
every outstanding return, and remembers which (set of done operations, value) it has seen fail (Lowe's memo).
"""

from dataclasses import dataclass

NEVER = float("inf")


@dataclass
class Operation:
    """A `read` saw `value`; a `write` set it. Times are those of the simulation."""

    client: int
    kind: str
    key: str
    value: int
    called: float
    returned: float = NEVER


def is_linearizable(history: list[Operation], initial: int = 0) -> bool:
    """Whether the operations, all on one key, have a valid order. Unanswered reads are to be left out."""
    history = sorted(history, key=lambda op: op.called)
    everything = sum(1 << i for i, op in enumerate(history) if op.returned != NEVER)
    seen: set[tuple[int, int]] = set()
    stack = [(0, initial)]
    while stack:
        done, value = stack.pop()
        if done & everything == everything:
            return True
        if (done, value) in seen:
            continue
        seen.add((done, value))
        stack += _successors(history, done, value)
    return False


def _successors(history: list[Operation], done: int, value: int) -> list[tuple[int, int]]:
    found = []
    bound = NEVER  # the earliest return of what is not done: nothing called later may come first
    for place, op in enumerate(history):
        if op.called > bound:
            break
        if done >> place & 1:
            continue
        bound = min(bound, op.returned)
        if op.kind == "write":
            found.append((done | 1 << place, op.value))
        elif op.value == value:
            found.append((done | 1 << place, value))
    return found
