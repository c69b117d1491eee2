"""Requests and responses as data, whatever protocol they came by: heads, what their fields mean, and refusals.

Pure: data only.
"""

import re
from collections.abc import Sequence

from .hop_by_hop import HOP_BY_HOP

HOST = re.compile(rb"(?:[A-Za-z0-9._~!$&'()*+,;=%-]*+|\[[0-9A-Fa-f:.]++\])(?::[0-9]{0,5})?")

CHUNKED = -1
UNTIL_CLOSE = -2
"""Framing beside a length: chunked, and (responses only) until the connection ends."""

IDEMPOTENT = frozenset({b"GET", b"HEAD", b"OPTIONS", b"TRACE", b"PUT", b"DELETE"})
"""Methods whose requests may be sent again (RFC 9110, 9.2.2)."""

# What a field line means to the gateway. Lines of any other name are forwarded untouched.
(
    OTHER, FIELD_HOST, LENGTH, TRANSFER, CONNECTION, HOP, UPGRADE, EXPECT, FORWARDED_FOR, FORWARDED, REQUEST_ID,
) = range(11)  # fmt: skip
REQUEST_NAMES: dict[bytes, int] = {
    b"host": FIELD_HOST,
    b"content-length": LENGTH,
    b"transfer-encoding": TRANSFER,
    **dict.fromkeys(sorted(HOP_BY_HOP), HOP),
    b"connection": CONNECTION,
    b"upgrade": UPGRADE,
    b"expect": EXPECT,
    b"x-forwarded-for": FORWARDED_FOR,
    b"x-forwarded-proto": FORWARDED,
    b"x-forwarded-host": FORWARDED,
    b"x-forwarded-port": FORWARDED,
    b"x-forwarded-server": FORWARDED,
    b"x-forwarded-prefix": FORWARDED,
    b"x-forwarded-uri": FORWARDED,
    b"x-forwarded-method": FORWARDED,
    b"x-real-ip": FORWARDED,
    b"x-forwarded-tls-client-cert": FORWARDED,
    b"x-forwarded-tls-client-cert-info": FORWARDED,
    b"forwarded": FORWARDED,
    b"x-request-id": REQUEST_ID,
}
# CGI-like backends read `X_Real_Ip` as `X-Real-Ip`: a spelling that would get past the trust rules.
REQUEST_NAMES |= {
    name.replace(b"-", b"_"): HOP for name, kind in REQUEST_NAMES.items() if b"-" in name and kind != LENGTH
}

Meaning = tuple[int, bytes, bytes]
"""Kind, value, line."""


class Refused(Exception):
    """The message is not to be forwarded: `status` and `reason` are the answer to the client."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status
        self.reason = reason


class Request:
    """A request's head. `length`: bytes of body, or CHUNKED. `fields`: the lines to forward, each ended by CRLF.

    Defaults are the class's: an object is made in 0.2 µs that way, with all attributes set it would be 0.6.
    """

    authority: bytes | None = None
    host: bytes = b""
    length: int = 0
    fields: bytes = b""
    upgrade: bytes = b""
    expects_continue: bool = False
    request_id: bytes = b""
    # As access logs have it; "" is HTTP/1's `minor`.
    version: str = ""
    # Urgency, and whether parts of the response are of use (RFC 9218).
    priority: tuple[int, bool] = (3, False)
    # Lines about earlier hops, which only a trusted source may set: (kind, value, line).
    forwarded: Sequence[tuple[int, bytes, bytes]] = ()

    def __init__(self, method: bytes, target: bytes, minor: int) -> None:
        self.method = method
        self.target = target
        self.minor = minor
        self.keep_alive = minor == 1

    @property
    def is_websocket(self) -> bool:
        return self.upgrade[:9].lower() == b"websocket"


class Response:
    """A response's head. `length` (bytes, CHUNKED or UNTIL_CLOSE) does not consider HEAD, 1xx, 204 and 304.

    `head` is what is forwarded: status line and fields, each ended by CRLF; `untouched` if that is what was received.
    """

    length: int = UNTIL_CLOSE
    upgrade: bytes = b""

    def __init__(self, status: int, minor: int, head: bytes) -> None:
        self.status = status
        self.minor = minor
        self.head = head
        self.keep_alive = self.untouched = minor == 1
