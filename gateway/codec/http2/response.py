"""HTTP/2's header blocks for responses and trailers, out of HTTP/1.1's lines.

A block is kept with the head that it was made of, for all connections of a worker: replicas say the same thing again
and again. Heads with cookies, and large ones, are not kept.

Pure: bytes in, bytes out.
"""

from .hpack import encode
from .request import OF_THE_CONNECTION

KEPT = 1024
"""Blocks."""
LARGEST_KEPT = 2048
_blocks: dict[bytes, bytes] = {}


def head_block(head: bytes) -> bytes:
    """The block of a response's head: its status line and field lines, each ended by CRLF."""
    block = _blocks.get(head)
    if block is not None:
        return block
    line, _, rest = head.partition(b"\r\n")
    block = encode(b":status", line[9:12]) + fields_block(rest)
    if len(head) <= LARGEST_KEPT and b"ookie" not in head:
        if len(_blocks) >= KEPT:
            _blocks.clear()
        _blocks[head] = block
    return block


def fields_block(lines: bytes) -> bytes:
    """The block of field lines, each ended by CRLF, less those that HTTP/2 has no use for (RFC 9113, 8.2.2)."""
    out = []
    for line in lines.split(b"\r\n"):
        name, colon, value = line.partition(b":")
        name = name.lower()
        if colon and name not in OF_THE_CONNECTION:
            out.append(encode(name, value.strip(b" \t")))
    return b"".join(out)
