"""Floods of what costs more than it brings: each uses up its connection's budget, and keeps nothing once that is over.
What a well-behaved client does is within it."""

from collections.abc import Callable

import pytest

from essaim.gateway.codec.http2.budget import POINTS
from essaim.gateway.codec.http2.faults import ErrorCode

from .conftest import until
from .http2_rows import GET, POST, PREFACE, continuation, data, headers, ping, priority, raw, reset, settings, window
from .multiplexed import Multiplexed

Step = Callable[[int], bytes]


def number(step: int) -> int:
    return 1 + 2 * step


def made_you_reset(step: int) -> bytes:
    """CVE-2025-8671: the server is made to reset the stream itself."""
    return headers(POST, number(step), end=False) + window(0, number(step))


FLOODS: dict[str, tuple[bytes, Step]] = {
    "rapid reset": (b"", lambda step: headers(GET, number(step)) + reset(number(step))),
    "made you reset": (b"", made_you_reset),
    "malformed requests": (b"", lambda step: headers([(":method", "GET")], number(step))),
    "continuation without content": (headers(b"", whole=False), lambda step: continuation(b"", end=False)),
    "continuation in small pieces": (headers(b"", whole=False), lambda step: continuation(b"\x88", end=False)),
    "settings": (b"", lambda step: settings((4, 60_000 + step % 2))),
    "ping": (b"", lambda step: ping()),
    "data without content": (headers(POST, end=False), lambda step: data(b"", end=False)),
    "data that is padding": (headers(POST, end=False), lambda step: raw(0, 8, 1, b"\xff" + bytes(255))),
    "priority": (b"", lambda step: priority(number(step))),
    "priority update": (b"", lambda step: raw(0x10, 0, 0, number(step).to_bytes(4, "big") + b"u=1")),
    "window in small steps": (headers(GET), lambda step: window(1, 1)),
    "resets of streams that are over": (headers(GET) + reset(), lambda step: reset()),
    "streams beyond the limit": (
        b"".join(headers(POST, number(step), end=False) for step in range(128)),
        lambda step: headers(GET, number(128 + step)),
    ),
    "unknown frames": (b"", lambda step: raw(0x42, 0, 0, b"x")),
    "acknowledgements": (b"", lambda step: raw(4, 1, 0)),
}  # fmt: skip


@pytest.mark.parametrize("name", FLOODS)
async def test_flood_ends_its_connection_and_leaves_nothing(name: str) -> None:
    before, step = FLOODS[name]
    plane = Multiplexed(200, raw=True)
    plane.send(PREFACE + settings() + before)
    most = int(POINTS / 0.05) + 1
    for count in range(most + 1):
        if plane.near.ended:
            break
        plane.send(step(count))
    assert plane.near.ended, f"{most} of them were taken"
    assert plane.written.count(bytes([0, 0, 0, ErrorCode.ENHANCE_YOUR_CALM])) >= 1
    # What was to connect to a replica has been told not to.
    await until(lambda: plane.endpoint.open == 0)
    plane.near.close()
    assert plane.http2 not in plane.deadlines.members


async def test_ordinary_use_is_within_the_budget() -> None:
    """A page with a hundred requests of which a third is cancelled, priorities and pings; ten times, a second apart."""
    plane = Multiplexed(100, raw=True)
    plane.send(PREFACE + settings())
    stream = 1
    for _ in range(10):
        numbers = list(range(stream, stream + 200, 2))
        stream += 200
        plane.send(b"".join(headers(GET, one) + priority(one) for one in numbers))
        plane.send(ping() + window(60_000) + b"".join(reset(one) for one in numbers[::3]))
        for upstream in plane.upstreams:
            if upstream.client is not None:
                upstream.data_received(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
        plane.upstreams = [upstream for upstream in plane.upstreams if upstream.transport is not None]
        plane.deadlines.now += 1
        if len(plane.upstreams) < 70:
            break
    assert not plane.near.ended
