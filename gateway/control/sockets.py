"""The listening sockets of a gateway: bound here, kept here, and handed to the workers.

- A port that cannot be bound is reported and tried again; the others are served.
- Sockets of the last daemon's workers (`inherit`) are taken over for the same port, until the first table is served.
"""

import socket
from collections.abc import Callable, Mapping

import structlog

from essaim.gateway.protocol.entry_points import NO_ENTRY_POINT, EntryPoint
from essaim.gateway.protocol.messages import Listen, Unlisten
from essaim.gateway.runtime.descriptors import RESERVED, allow
from essaim.gateway.runtime.handover import Predecessor

from .binding import CannotBind, bind
from .fleet import Fleet
from .plan import Bound
from .process import WorkerProcess


class Sockets:
    """`failed`: why ports could not be bound, by the binding's key."""

    def __init__(self, fleet: Fleet, entry_points: Mapping[str, EntryPoint], log: structlog.BoundLogger) -> None:
        self.failed: dict[str, str] = {}
        self._fleet = fleet
        self._entry_points = entry_points
        self._log = log
        self._sockets: dict[str, list[socket.socket]] = {}
        self._inherited: dict[str, list[socket.socket]] = {}

    def inherit(self, predecessors: list[Predecessor]) -> None:
        for predecessor in predecessors:
            for key, sock in predecessor.sockets:
                self._inherited.setdefault(key.rpartition("#")[0], []).append(sock)

    def disinherit(self) -> None:
        """Close what the last daemon served and this one does not."""
        for sockets in self._inherited.values():
            for sock in sockets:
                sock.close()
        self._inherited.clear()

    def close(self) -> None:
        self.disinherit()
        for sockets in self._sockets.values():
            for sock in sockets:
                sock.close()
        self._sockets.clear()

    def change(self, before: Mapping[str, Bound], wanted: Mapping[str, Bound]) -> None:
        """Bind what is wanted and not bound, close what is not wanted, tell the workers."""
        # Sockets may be of a table whose taking in was cancelled.
        for key in [*self._sockets, *self.failed]:
            if key not in wanted:
                self._fleet.broadcast(Unlisten(key))
                self.failed.pop(key, None)
                for sock in self._sockets.pop(key, []):
                    sock.close()
        for key, bound in wanted.items():
            if key not in self._sockets:
                self._bind(key, bound)
            elif before.get(key) != bound:
                for worker in self._fleet.workers:
                    self._send(worker, key, bound, anew=False)

    def retry(self, wanted: Mapping[str, Bound], bound: Callable[[], None]) -> None:
        """Ports that were taken may have become free; `bound()` for each that was."""
        for key in self.failed.keys() & wanted.keys():
            self._bind(key, wanted[key])
            if key not in self.failed:
                bound()

    def send_all(self, worker: WorkerProcess, wanted: Mapping[str, Bound]) -> None:
        """To a worker that has none yet."""
        for key in self._sockets.keys() & wanted.keys():
            self._send(worker, key, wanted[key], anew=True)

    def _bind(self, key: str, bound: Bound) -> None:
        allow(self._fleet.count * (len(self._sockets) + 1) + RESERVED)
        try:
            self._sockets[key] = bind(bound.binding, self._fleet.count, self._inherited.pop(key, []))
        except CannotBind as error:
            if self.failed.get(key) != str(error):
                self._log.warning("a published port cannot be served on this node", reason=str(error))
            self.failed[key] = str(error)
            return
        self.failed.pop(key, None)
        for worker in self._fleet.workers:
            self._send(worker, key, bound, anew=True)

    def _send(self, worker: WorkerProcess, key: str, bound: Bound, *, anew: bool) -> None:
        """A worker's share of a binding's sockets: one, or more after a handover from more workers than there are."""
        point = self._entry_points.get(bound.entry_point, NO_ENTRY_POINT)
        for number in range(worker.index, len(self._sockets[key]), self._fleet.count):
            message = Listen(f"{key}#{number}", bound.port_key, anew, bound.entry_point, point)
            worker.send(message, self._sockets[key][number].fileno() if anew else None)
