"""Identifiers as Swarm makes them: 25 characters of base 36, 124 bits or more of chance.

Pure: the source of chance is passed in (`random.SystemRandom()` in production, a seeded one in tests).
"""

from typing import Protocol

ID_LENGTH = 25
DIGITS = "0123456789abcdefghijklmnopqrstuvwxyz"


class Chance(Protocol):
    """The part of `random.Random` that identifiers need."""

    def getrandbits(self, k: int, /) -> int: ...


def base36(number: int, length: int) -> str:
    """`number` in base 36, left-padded with zeros to `length` characters."""
    digits: list[str] = []
    while number:
        number, digit = divmod(number, 36)
        digits.append(DIGITS[digit])
    return "".join(reversed(digits)).rjust(length, "0")


def new_id(chance: Chance) -> str:
    """A new object identifier."""
    return base36(chance.getrandbits(128), ID_LENGTH)
