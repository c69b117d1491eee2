"""Extensible priorities (RFC 9218): which of a connection's responses is sent first.

The more urgent go first; of one urgency those that are of use only as a whole, in the order of their requests; then
those that are of use in parts (`i`), a frame each in turn.

Pure: values in, an order out.
"""

import re
from collections.abc import Iterable
from typing import Protocol, TypeVar

DEFAULT_URGENCY = 3
_URGENCY = re.compile(rb"(?:^|,)[ \t]*u=([0-7])(?=[ \t]*(?:[;,]|$))")
_INCREMENTAL = re.compile(rb"(?:^|,)[ \t]*i(?:=(\?[01]))?(?=[ \t]*(?:[;,]|$))")


class Prioritised(Protocol):
    """A stream that has something to send."""

    id: int
    urgency: int
    incremental: bool


Stream = TypeVar("Stream", bound=Prioritised)


def read_priority(value: bytes) -> tuple[int, bool]:
    """Urgency (0 to 7) and whether parts are of use, out of a Priority field; what cannot be read is the default."""
    urgencies, incremental = _URGENCY.findall(value), _INCREMENTAL.findall(value)
    return int(urgencies[-1]) if urgencies else DEFAULT_URGENCY, bool(incremental) and incremental[-1] != b"?0"


def in_order(streams: Iterable[Stream]) -> list[Stream]:
    return sorted(streams, key=lambda stream: (stream.urgency, stream.incremental, stream.id))
