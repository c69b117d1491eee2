"""The newest route table as messages: the whole for a session that has none, a delta for one that has an earlier one.

A session's channel keeps the order, so that the table that was last sent there is the one that its agent has. Sessions
mostly have the same one: a message is encoded once for each version that some session has, and only when asked for.

Pure: tables in, messages out.
"""

from collections import deque

from essaim.cluster import wire
from essaim.cluster.route_delta import changed_services, make_delta
from essaim.cluster.routes import RouteTable
from essaim.cluster.wire import Routes, RoutesChanged

MAX_STEPS = 256
"""Tables that are remembered by what they changed; who is further behind gets the whole."""

Encoded = tuple[int, bytes]
"""A table's version, and the message that brings an agent to it."""


class RouteHistory:
    def __init__(self) -> None:
        self._table: RouteTable | None = None
        # From which version a table changed which services, and whether its gateways.
        self._steps: deque[tuple[int, list[str], bool]] = deque(maxlen=MAX_STEPS)
        self._encoded: dict[int | None, bytes] = {}

    @property
    def version(self) -> int | None:
        """None before the first table."""
        return self._table.version if self._table is not None else None

    def publish(self, table: RouteTable) -> bool:
        """Take the newest table; whether it is news."""
        before, self._table = self._table, table
        if before is not None and before.version == table.version:
            return False
        if before is not None:
            nodes_changed = (before.gateways, before.idle) != (table.gateways, table.idle)
            self._steps.append((before.version, changed_services(before, table), nodes_changed))
        self._encoded.clear()
        return True

    def since(self, version: int | None) -> Encoded | None:
        """What brings an agent that has that table (None: none) to the newest one; None if it has that."""
        table = self._table
        if table is None or table.version == version:
            return None
        if version not in self._encoded:
            self._encoded[version] = self._encode(table, version)
        return table.version, self._encoded[version]

    def _encode(self, table: RouteTable, version: int | None) -> bytes:
        bases = [base for base, _, _ in self._steps]
        if version is None or version not in bases:
            return wire.encode(Routes(table))
        steps = list(self._steps)[bases.index(version) :]
        ids = {service_id for _, changed, _ in steps for service_id in changed}
        return wire.encode(RoutesChanged(make_delta(version, ids, any(gateways for *_, gateways in steps), table)))
