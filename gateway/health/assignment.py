"""Which gateways check which endpoint, so that the number of checks does not grow as gateways times endpoints.

- An endpoint is checked by the gateway of its own node and by EXTRA others, whatever the number of gateways. Each
  gateway works it out alone from the route table: all that have the same table agree, and no message is needed.
- The others are found by rendezvous hashing (Thaler and Ravishankar, 1998): a gateway that comes or goes moves only its
  share of the checks. Endpoints are hashed to SLOTS groups first, and the gateways ranked once for each group: 100
  gateways and 50,000 endpoints cost 50,000 hashes and 100,000 comparisons, not 5,000,000 of each.
- Where the table names no gateways, everybody checks everything.

Pure: names in, names out.
"""

from collections.abc import Iterable

from essaim.gateway.runtime.hashing import hash_key

EXTRA = 2
"""With the endpoint's own node three look at it: a majority of them outvotes one that cannot reach it."""
SLOTS = 1024
MASK = (1 << 64) - 1


class Assignment:
    def __init__(self, gateways: Iterable[str], extra: int = EXTRA) -> None:
        self._seeds = {gateway: hash_key(gateway.encode()) for gateway in sorted(set(gateways))}
        self._extra = extra
        self._ranked: dict[int, tuple[str, ...]] = {}

    def checkers(self, endpoint_key: str, node_id: str) -> tuple[str, ...]:
        """The gateways that check an endpoint on that node, its own first. Empty where no gateway is known."""
        ranked = self._rank(hash_key(endpoint_key.encode()) % SLOTS)
        if node_id not in self._seeds:
            return ranked
        return node_id, *[gateway for gateway in ranked if gateway != node_id][: self._extra]

    def is_checked_by(self, gateway: str, endpoint_key: str, node_id: str) -> bool:
        """A gateway always looks at what runs on its own node: nobody else may have heard of it yet."""
        return gateway == node_id or not self._seeds or gateway in self.checkers(endpoint_key, node_id)

    def _rank(self, slot: int) -> tuple[str, ...]:
        ranked = self._ranked.get(slot)
        if ranked is None:
            place = hash_key(b"slot %d" % slot)
            order = sorted(self._seeds, key=lambda gateway: _mix(self._seeds[gateway] ^ place), reverse=True)
            ranked = self._ranked[slot] = tuple(order[: self._extra + 1])
        return ranked


def _mix(value: int) -> int:
    """The finalizer of SplitMix64: a tenth of a cryptographic hash's cost, and even enough to rank by."""
    value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & MASK
    return value ^ (value >> 31)
