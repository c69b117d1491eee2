"""Endpoints on their way out of a worker's table, and what becomes of what is open to them.

- One that drains finishes its requests. Connections and flows of layer 4 know of none: those that rest are closed.
- One that is in the table no more ended, or its host is lost, and perhaps nobody is left to end the connections: what
  it was asked at layer 7 and has not begun to answer is asked of another one, and flows of datagrams are forgotten.

Both happen once a table is taken in as a whole (`settle`): in one pass over all connections, and when it is known who
else there is.
"""

import asyncio
from collections.abc import Iterator

from essaim.gateway.runtime.deadlines import Deadlines, Timed
from essaim.gateway.tcp.forward import Front
from essaim.gateway.udp.forward import Flow
from essaim.gateway.upstream.backend import Endpoint
from essaim.gateway.upstream.connection import Upstream


class DrainingEndpoints:
    """Iterates over the endpoints that leave, until each is told to be `over`."""

    def __init__(self, deadlines: Deadlines) -> None:
        self._deadlines = deadlines
        self._leaving: set[Endpoint] = set()
        # Since the last table.
        self._draining: set[Endpoint] = set()
        self._gone: set[Endpoint] = set()

    def __iter__(self) -> Iterator[Endpoint]:
        return iter(list(self._leaving))

    def drain(self, endpoint: Endpoint) -> None:
        if endpoint not in self._leaving:
            self._leaving.add(endpoint)
            self._draining.add(endpoint)

    def vanish(self, endpoint: Endpoint) -> None:
        self.drain(endpoint)
        if endpoint.open:
            self._gone.add(endpoint)

    def over(self, endpoint: Endpoint) -> None:
        """It has come back, or nothing is open to it any more."""
        self._leaving.discard(endpoint)

    def settle(self) -> None:
        """The table is taken in."""
        draining, self._draining = self._draining, set()
        gone, self._gone = self._gone, set()
        if not any(endpoint.open for endpoint in draining | gone):
            return
        for member in list(self._deadlines.members):
            try:
                self._tell(member, draining, gone)
            except Exception as error:
                # The others leave in order, whatever is wrong with this one.
                said = {"message": f"a {type(member).__name__} cannot leave its replica", "exception": error}
                asyncio.get_running_loop().call_exception_handler(said)

    @staticmethod
    def _tell(member: Timed, draining: set[Endpoint], gone: set[Endpoint]) -> None:
        if isinstance(member, Upstream | Flow) and member.endpoint in gone:
            member.forsake()
        elif isinstance(member, Front | Flow) and member.endpoint in draining:
            member.drain()
