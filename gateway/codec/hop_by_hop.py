"""Fields that are for the next hop only (RFC 9110, 7.6.1), and those that say where a message ends: whoever passes a
message on writes them anew or leaves them out. Names in lower case.

Pure: data, and a function of two fields.
"""

from collections.abc import Iterable

PERSISTENCE = frozenset({b"connection", b"keep-alive", b"proxy-connection"})
UPGRADES = frozenset({b"upgrade", b"http2-settings"})
CREDENTIALS = frozenset({b"proxy-authenticate", b"proxy-authorization"})
"""Between a client and its own proxy."""
HOP_BY_HOP = PERSISTENCE | UPGRADES | CREDENTIALS | {b"te"}
FRAMING = frozenset({b"content-length", b"transfer-encoding", b"trailer", b"trailers"})
"""`Trailers` is how RFC 2616 once spelt it, and many after it."""
NOT_PASSED_ON = HOP_BY_HOP | FRAMING


def nominated(values: Iterable[bytes]) -> set[bytes]:
    """What the values of all `Connection` fields name: options, and further fields of this hop; in lower case."""
    return {option.strip().lower() for value in values for option in value.split(b",")} - {b""}
