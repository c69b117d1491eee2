"""Durations as Docker, Compose and Traefik write them (`1m30s`, `500ms`); a bare number is seconds, as in Traefik.

Pure: text in, seconds out.
"""

import re

UNITS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
PART = re.compile(r"(\d+(?:\.\d+)?)(ns|us|µs|ms|s|m|h)")


def seconds(text: str) -> float:
    """`1m30s` is 90.0. Raises ValueError for anything that is not a duration."""
    text = text.strip()
    try:
        return _checked(float(text))
    except ValueError:
        pass
    total, end = 0.0, 0
    for part in PART.finditer(text):
        if part.start() != end:
            break
        total += float(part[1]) * UNITS[part[2]]
        end = part.end()
    if not text or end != len(text):
        raise ValueError(f"{text!r} is not a duration; write it like 500ms, 2s or 1m30s")
    return total


def _checked(value: float) -> float:
    if not 0 <= value < float("inf"):
        raise ValueError("a duration is a positive number")
    return value
