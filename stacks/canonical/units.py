"""Byte sizes and durations in the spellings of Docker's tools.

Pure: no I/O.
"""

import re
from fractions import Fraction
from functools import lru_cache

from essaim.stacks.source.tree import Duration, Size

NANOSECONDS = {
    "ns": 1, "us": 10**3, "µs": 10**3, "μs": 10**3, "ms": 10**6, "s": 10**9, "m": 60 * 10**9, "h": 3600 * 10**9,
    "d": 24 * 3600 * 10**9, "w": 7 * 24 * 3600 * 10**9,
}  # fmt: skip
DURATION = re.compile(r"([0-9]+(?:\.[0-9]*)?|\.[0-9]+)(ns|us|µs|μs|ms|s|m|h|d|w)")
SIZE = re.compile(r"(-?[0-9]+(?:\.[0-9]+)?) ?([kmgtp]?)(?:i?b)?\Z", re.IGNORECASE)
POWERS = {"": 0, "k": 1, "m": 2, "g": 3, "t": 4, "p": 5}
MAX_INT64 = 2**63 - 1
MAX_LENGTH = 60
REMEMBERED = 256
"""The services of a file say the same few values again and again, and exact fractions are slow."""


@lru_cache(REMEMBERED)
def parse_duration(text: str) -> Duration:
    """`1m30s`, `500ms`, `1.5h`, `2d`; a bare `0`. Raises ValueError."""
    rest = text.strip()
    sign = -1 if rest.startswith("-") else 1
    rest = rest[1:] if rest[:1] in ("+", "-") else rest
    if rest == "0":
        return Duration(0)
    total, position = Fraction(0), 0
    if len(rest) > MAX_LENGTH:
        raise ValueError(text)
    while position < len(rest):
        match = DURATION.match(rest, position)
        if match is None:
            raise ValueError(text)
        total += Fraction(match[1] if match[1][0] != "." else "0" + match[1]) * NANOSECONDS[match[2]]
        position = match.end()
    if position == 0 or total > MAX_INT64:
        raise ValueError(text)
    return Duration(sign * int(total))


def format_duration(value: int) -> str:
    """As Go prints a time.Duration: `1m30s`, `1.5s`, `500ms`, `1h0m0s`."""
    if value == 0:
        return "0s"
    sign, value = ("-", -value) if value < 0 else ("", value)
    if value < 10**9:
        unit = "ns" if value < 10**3 else "µs" if value < 10**6 else "ms"
        return f"{sign}{_decimal(value, NANOSECONDS[unit])}{unit}"
    minutes, rest = divmod(value, 60 * 10**9)
    hours, minutes = divmod(minutes, 60)
    seconds = _decimal(rest, 10**9) + "s"
    if hours:
        return f"{sign}{hours}h{minutes}m{seconds}"
    return f"{sign}{minutes}m{seconds}" if minutes else sign + seconds


def _decimal(value: int, unit: int) -> str:
    whole, rest = divmod(value, unit)
    digits = str(rest).zfill(len(str(unit)) - 1).rstrip("0") if rest else ""
    return f"{whole}.{digits}" if digits else str(whole)


@lru_cache(REMEMBERED)
def parse_size(text: str) -> Size:
    """Bytes of `64m`, `1.5GB`, `2gib`, `1024`, `512 k`: powers of 1024, as in docker's flags. Raises ValueError."""
    match = SIZE.match(text.strip())
    if match is None or len(text) > MAX_LENGTH:
        raise ValueError(text)
    value = Fraction(match[1]) * 1024 ** POWERS[match[2].lower()]
    if abs(value) > MAX_INT64:
        raise ValueError(text)
    return Size(int(value))


@lru_cache(REMEMBERED)
def parse_cpus(text: str) -> int:
    """Billionths of a core of `0.5`, `1/2`. Raises ValueError."""
    if len(text) > MAX_LENGTH or not re.fullmatch(
        r"[0-9]+(/[0-9]+)?|[0-9]*\.?[0-9]+([eE][-+]?[0-9]{1,2})?|[0-9]+\.", text
    ):
        raise ValueError(text)
    try:
        nano = Fraction(text.rstrip(".")) * 10**9
    except ZeroDivisionError:
        raise ValueError(text) from None
    if nano.denominator != 1 or nano > MAX_INT64:
        raise ValueError(text)
    return int(nano)
