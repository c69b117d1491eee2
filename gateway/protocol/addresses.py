"""Addresses and the networks that they are in.

Networks are looked up by their size, so that a list of thousands costs as little as one of a few: one look for each
size that is in use.

Pure: texts in, verdicts out.
"""

import ipaddress
from collections.abc import Iterable
from functools import lru_cache

Place = tuple[int, int]
"""An address: version and number."""
BITS = {4: 32, 6: 128}


@lru_cache(maxsize=4096)
def read_address(text: str) -> Place | None:
    """None for what is no address. A zone counts for nothing; an IPv4 address within IPv6 is the IPv4 address."""
    try:
        parsed = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None
    mapped = parsed.ipv4_mapped if isinstance(parsed, ipaddress.IPv6Address) else None
    return (4, int(mapped)) if mapped is not None else (parsed.version, int(parsed))


def address_text(place: Place) -> str:
    version, number = place
    return str(ipaddress.IPv4Address(number) if version == 4 else ipaddress.IPv6Address(number))


class Networks:
    """A set of addresses and networks (`10.0.0.5`, `10.0.0.0/8`). Raises ValueError for what is neither."""

    __slots__ = ("_by_size",)

    def __init__(self, texts: Iterable[str] = ()) -> None:
        # By version and by the bits that a network leaves free: the numbers of the others.
        self._by_size: dict[int, dict[int, set[int]]] = {}
        for text in texts:
            network = ipaddress.ip_network(text, strict=False)
            free = BITS[network.version] - network.prefixlen
            sizes = self._by_size.setdefault(network.version, {})
            sizes.setdefault(free, set()).add(int(network.network_address) >> free)

    def __bool__(self) -> bool:
        return bool(self._by_size)

    def has(self, place: Place) -> bool:
        version, number = place
        sizes = self._by_size.get(version)
        return sizes is not None and any(number >> free in known for free, known in sizes.items())

    def __contains__(self, address: str) -> bool:
        """Whether this text is an address in one of the networks."""
        if not self._by_size:
            return False
        place = read_address(address)
        return place is not None and self.has(place)


NO_NETWORKS = Networks()


def plain_address(address: str) -> str:
    """An IPv4 client of a dual-stack listener by its IPv4 address; a zone index is not told to others."""
    if address.startswith("::ffff:") and "." in address:
        return address[7:]
    return address.partition("%")[0]
