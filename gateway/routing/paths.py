"""One spelling for each path: what a rule compares is what the replica gets.

Otherwise `/%61dmin` or `/x/../admin` would get past a rule for `/admin` and arrive as just that (RFC 3986, 6.2.2).

Pure: bytes in, bytes out.
"""

import re
from urllib.parse import quote

RESERVED = b"!$&'()*+,/:;=?@[]%"
"""They mean something else when escaped (RFC 3986, 2.2), or say that something is."""
UNRESERVED = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~")
ESCAPE = re.compile(rb"%([0-9A-Fa-f]{2})")
ODD = re.compile(rb"%|//|/\.")


def normal(path: bytes) -> bytes:
    """Escapes of unreserved characters undone, `.` and `..` resolved, repeated slashes made one."""
    if not ODD.search(path):
        return path
    path = ESCAPE.sub(_undo, path)
    parts: list[bytes] = []
    pieces = path.split(b"/")
    for piece in pieces[1:]:
        if piece == b"..":
            del parts[-1:]
        elif piece not in (b".", b""):
            parts.append(piece)
    ends = pieces[-1] in (b"", b".", b"..")
    return b"/" + b"/".join(parts) + (b"/" if ends and parts else b"")


def shown(path: bytes) -> bytes:
    """What rules compare, as in Traefik: the text that the path stands for; only what is reserved stays escaped."""
    return ESCAPE.sub(_show, path) if b"%" in path else path


def spelled(text: str | bytes) -> bytes:
    """A path as a label has it, as it is written in a request."""
    return quote(text, safe=RESERVED.decode()).encode()


def _show(escape: re.Match[bytes]) -> bytes:
    byte = int(escape[1], 16)
    return escape[0] if byte in RESERVED else bytes([byte])


def _undo(escape: re.Match[bytes]) -> bytes:
    byte = int(escape[1], 16)
    return bytes([byte]) if byte in UNRESERVED else escape[0].upper()
