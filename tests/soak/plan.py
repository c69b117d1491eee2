"""Which fault comes when: every kind once in an order of chance, then anew, all from one seed.

Pure: the same seed gives the same plan, from any place in it.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from random import Random


@dataclass(frozen=True)
class Step:
    """`chance` is the fault's own, independent of what was before: a step can be repeated alone."""

    index: int
    kind: str
    chance: Random


def steps(seed: str, kinds: Sequence[str], first: int = 0) -> Iterator[Step]:
    """Without an end, from step `first` on. Two rounds are shuffled apart, so a kind may come twice in a row."""
    index = first
    while True:
        turn, place = divmod(index, len(kinds))
        order = sorted(kinds)
        Random(f"{seed} round {turn}").shuffle(order)
        yield Step(index, order[place], Random(f"{seed} step {index}"))
        index += 1
