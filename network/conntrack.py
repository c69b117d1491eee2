"""The kernel's table of tracked flows, asked for over netlink: the UDP flows that go to given addresses, and their end.

Messages are read as the bytes that they are (linux/netlink.h, linux/netfilter/nfnetlink_conntrack.h), and of each flow
only what is asked for. Rejected: pyroute2's NFCTSocket, which makes dozens of objects in cycles of each entry. A busy
container has thousands of them; a daemon took 0.15 s of processor time and 20 MB of memory to look through 2,000, and
grew from 40 to 158 MB in twenty looks, as cycles of that age are rarely collected (`daemon/collector.py`). This
module takes 20 ms and keeps nothing.

`attributes`, `messages` and `Flow` decide on bytes; `Conntrack` blocks.
"""

import errno
import os
import socket
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import Self

NETLINK_NETFILTER = 12
DONE, ERROR = 3, 2
REQUEST, ACK, DUMP = 0x1, 0x4, 0x300
GET, DELETE = 0x101, 0x102
"""Subsystem 1 (ctnetlink), IPCTNL_MSG_CT_GET and _DELETE."""
TUPLE_ORIG, TUPLE_REPLY = 1, 2
TUPLE_IP, TUPLE_PROTO = 1, 2
IP_V4_SRC, PROTO_NUM = 1, 1
TYPE = 0x3FFF
"""Of an attribute's type: without the marks for nested and byte order."""
HEADER = struct.Struct("=IHHII")
ATTRIBUTE = struct.Struct("=HH")
FAMILY = struct.Struct("=BBH")
PIECE = 1 << 16


def messages(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Type and payload of each message in what was received."""
    place = 0
    while place + HEADER.size <= len(data):
        length, kind, *_ = HEADER.unpack_from(data, place)
        if not HEADER.size <= length <= len(data) - place:
            raise OSError(errno.EBADMSG, "a netlink message is cut short")
        yield kind, data[place + HEADER.size : place + length]
        place += (length + 3) & ~3


def attributes(data: bytes) -> dict[int, bytes]:
    """Type -> content of the attributes that `data` consists of."""
    found: dict[int, bytes] = {}
    place = 0
    while place + ATTRIBUTE.size <= len(data):
        length, kind = ATTRIBUTE.unpack_from(data, place)
        if not ATTRIBUTE.size <= length <= len(data) - place:
            raise OSError(errno.EBADMSG, "a netlink attribute is cut short")
        found[kind & TYPE] = data[place + ATTRIBUTE.size : place + length]
        place += (length + 3) & ~3
    return found


@dataclass(frozen=True, slots=True)
class Flow:
    """`original` names the flow to the kernel. `answers_from` is the IPv4 address that its answers come from, empty for
    another family; `protocol` is IP's number."""

    original: bytes
    answers_from: str
    protocol: int


def flow_of(payload: bytes) -> Flow:
    """The flow that one message of a dump describes. Raises OSError."""
    entry = attributes(payload[FAMILY.size :])
    reply = attributes(entry.get(TUPLE_REPLY, b""))
    source = attributes(reply.get(TUPLE_IP, b"")).get(IP_V4_SRC, b"")
    number = attributes(reply.get(TUPLE_PROTO, b"")).get(PROTO_NUM, b"")
    return Flow(entry.get(TUPLE_ORIG, b""), socket.inet_ntoa(source) if source else "", number[0] if number else 0)


def packed(kind: int, flags: int, *parts: tuple[int, bytes]) -> bytes:
    """A request about IPv4 flows with these attributes."""
    body = FAMILY.pack(socket.AF_INET, 0, 0)
    for name, content in parts:
        body += ATTRIBUTE.pack(ATTRIBUTE.size + len(content), name) + content + bytes(-len(content) % 4)
    return HEADER.pack(HEADER.size + len(body), kind, flags, 0, 0) + body


class Conntrack:
    """The table of the network namespace in which it is made. Use it with `with`; raises OSError."""

    def __init__(self, within: float) -> None:
        """`within`: seconds that the kernel may take for an answer."""
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, NETLINK_NETFILTER)
        self._socket.settimeout(within)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self._socket.close()

    def flows(self) -> Iterator[Flow]:
        """Read to the end before anything else is asked."""
        self._socket.send(packed(GET, REQUEST | DUMP))
        while True:
            for kind, payload in messages(self._socket.recv(PIECE)):
                if kind == DONE:
                    return
                if kind == ERROR:
                    _check(payload)
                else:
                    yield flow_of(payload)

    def end(self, flow: Flow) -> None:
        """Forget it. One that has ended by itself is no error."""
        self._socket.send(packed(DELETE, REQUEST | ACK, (TUPLE_ORIG | 0x8000, flow.original)))
        for kind, payload in messages(self._socket.recv(PIECE)):
            if kind == ERROR:
                _check(payload)


def _check(payload: bytes) -> None:
    (code,) = struct.unpack_from("=i", payload)
    if code and -code != errno.ENOENT:
        raise OSError(-code, os.strerror(-code))
