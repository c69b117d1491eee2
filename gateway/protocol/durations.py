"""Durations as Docker, Compose and Traefik write them (`1m30s`, `500ms`); a bare number is seconds, as in Traefik.

Longer than a year is refused: no clock of the gateway has to carry it, and nobody means it.

Pure: text in, seconds out.
"""

import re

from .numbers import DECIMAL, shown

UNITS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "μs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
PART = re.compile(r"([0-9]{1,15}(?:\.[0-9]{1,15})?)(ns|us|µs|μs|ms|s|m|h)")
LONGEST = 366 * 86400.0
MOST_CHARACTERS = 100


def seconds(text: str) -> float:
    """`1m30s` is 90.0. Raises ValueError for anything that is not a duration, or longer than a year."""
    text = text.strip(" ")
    if DECIMAL.fullmatch(text):
        return _checked(float(text))
    total, end = 0.0, 0
    for part in PART.finditer(text[:MOST_CHARACTERS]):
        if part.start() != end:
            break
        total += float(part[1]) * UNITS[part[2]]
        end = part.end()
    if not text or end != len(text):
        raise ValueError(f"{shown(text)} is not a duration; write it like 500ms, 2s or 1m30s")
    return _checked(total)


def _checked(value: float) -> float:
    if value > LONGEST:
        raise ValueError("a duration is a year at most")
    return value
