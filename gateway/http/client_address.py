"""Who called: the one place that decides which address a request comes from.

A connection's peer is known: by the kernel, or by the PROXY header of a peer that is trusted. X-Forwarded-For is read
only if the peer is trusted, and from its end: each proxy appends whom it was called by, so the last entry is the word
of the peer, the one before it that of the hop which this names, and so on. The client is the rightmost address that is
not trusted. What stands left of it was written by the client or by whom it knows, and counts for nothing.

- All of them are trusted: the leftmost.
- An entry that is no address (`unknown`, a name, an obfuscated identifier): nobody knows who called the hop that wrote
  it, so that hop is the client, as in NGINX (`real_ip_recursive`).
- Several fields are one list, in their order. Ports are dropped, brackets too.
- X-Real-IP and Forwarded are not read: proxies that append to X-Forwarded-For pass on what the client claims in those.

Pure: texts in, an address out.
"""

import re
from collections.abc import Iterable, Sequence

from essaim.gateway.protocol.addresses import Networks, address_text, read_address

WITH_PORT = re.compile(r"([0-9.]{7,15}):[0-9]{1,5}|\[([0-9A-Fa-f:.]{2,45})(?:%[^\]]*)?\](?::[0-9]{1,5})?")
LONGEST = 64
"""Characters of an entry that may be an address."""


def client_address(peer: str, fields: Sequence[bytes], trusted: Iterable[Networks]) -> str:
    """`fields`: the values of X-Forwarded-For, the first field first; `trusted`: whose word counts."""
    groups = [group for group in trusted if group]
    place = read_address(peer)
    if not fields or place is None or not any(group.has(place) for group in groups):
        return peer
    client = peer
    for entry in _from_the_end(fields):
        place = read_address(_bare(entry))
        if place is None:
            return client
        client = address_text(place)
        if not any(group.has(place) for group in groups):
            return client
    return client


def _from_the_end(fields: Sequence[bytes]) -> Iterable[str]:
    for field in reversed(fields):
        for entry in reversed(field.split(b",")):
            yield entry.strip(b" \t").decode("latin-1")


def _bare(entry: str) -> str:
    """An entry without its port and brackets; "" for one that is too long for an address."""
    if len(entry) > LONGEST:
        return ""
    found = WITH_PORT.fullmatch(entry)
    return (found[1] or found[2]) if found else entry
