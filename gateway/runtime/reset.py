"""Ending a connection so that the other side sees that it broke."""

import asyncio
import contextlib
import socket
import struct

NO_LINGER = struct.pack("ii", 1, 0)


def reset(transport: asyncio.Transport) -> None:
    """Close by RST: where the end of the connection is the end of the data, an orderly close would be a lie."""
    sock = transport.get_extra_info("socket")
    if sock is not None:
        with contextlib.suppress(OSError):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, NO_LINGER)
    transport.abort()
