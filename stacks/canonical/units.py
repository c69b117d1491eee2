"""Byte sizes, durations and numbers of CPUs in the spellings of Docker's tools.

Pure: no I/O.
"""

from functools import lru_cache

from essaim.cluster import cpus, sizes
from essaim.cluster.durations import LONG_UNITS, nanoseconds
from essaim.stacks.source.tree import Duration, Size

REMEMBERED = 256
"""The services of a file say the same few values again and again, and exact fractions are slow."""


@lru_cache(REMEMBERED)
def parse_duration(text: str) -> Duration:
    """`1m30s`, `500ms`, `1.5h`, `2d`; a bare `0`. Raises ValueError."""
    return Duration(nanoseconds(text.strip(), LONG_UNITS))


@lru_cache(REMEMBERED)
def parse_size(text: str) -> Size:
    """Bytes of `64m`, `1.5GB`, `1024`, `512 k`, and of `-1`, which some keys have for no limit. Raises ValueError."""
    text = text.strip()
    return Size(-sizes.parse_size(text[1:]) if text.startswith("-") else sizes.parse_size(text))


@lru_cache(REMEMBERED)
def parse_cpus(text: str) -> int:
    """Billionths of a CPU. Raises ValueError."""
    return cpus.parse_cpus(text)
