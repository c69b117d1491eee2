"""Ports of the node for tasks that are processes.

A free port is looked for below the range that the kernel takes for outgoing connections (32768 up by default), so that
none of those takes it between the look and the task's own bind. What other tasks of this agent have is left out.
"""

import socket
from collections.abc import Callable, Iterable

from essaim.agent.runtime.interface import Rejected

FIRST, LAST = 20000, 32000
ATTEMPTS = 200

Key = tuple[str, str, int]


class PortPool:
    """`chance` gives numbers in [0, 1). The methods block for microseconds: a bind on a local address."""

    def __init__(self, chance: Callable[[], float]) -> None:
        self._chance = chance
        self._taken: dict[Key, str] = {}

    def take(self, task_id: str, protocol: str, address: str, fixed: int = 0) -> int:
        """A port for the task: `fixed`, or any free one for 0. Raises Rejected."""
        if fixed:
            owner = self._taken.get((protocol, address, fixed))
            if owner not in (None, task_id) or not is_free(protocol, address, fixed):
                raise Rejected(f"port {fixed}/{protocol} on {address} is already in use on this node")
            self._taken[protocol, address, fixed] = task_id
            return fixed
        for _ in range(ATTEMPTS):
            port = FIRST + int(self._chance() * (LAST - FIRST))
            if (protocol, address, port) not in self._taken and is_free(protocol, address, port):
                self._taken[protocol, address, port] = task_id
                return port
        raise Rejected(f"no free {protocol} port was found on {address} between {FIRST} and {LAST}")

    def keep(self, task_id: str, keys: Iterable[Key]) -> None:
        """Ports that a task found again has already."""
        self._taken |= dict.fromkeys(keys, task_id)

    def release(self, task_id: str) -> None:
        self._taken = {key: owner for key, owner in self._taken.items() if owner != task_id}


def is_free(protocol: str, address: str, port: int) -> bool:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    kind = socket.SOCK_DGRAM if protocol == "udp" else socket.SOCK_STREAM
    with socket.socket(family, kind) as probe:
        if kind == socket.SOCK_STREAM:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((address, port))
        except OSError:
            return False
    return True
