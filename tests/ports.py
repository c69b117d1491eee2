"""Ports for servers of tests, which nobody else takes before they are bound.

A port that the kernel chose and that was given back may become anybody's: that of the next connection, to wherever.
These are below the range that the kernel chooses from (`ip_local_port_range`), in a part of it that is the pytest
worker's own, and each is handed out once.
"""

import contextlib
import os
import random
import socket

FIRST, END = 10_000, 32_000


class Ports:
    def __init__(self) -> None:
        worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0")[2:])
        share = (END - FIRST) // int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
        self._first, self._share = FIRST + worker * share, share
        # Another run on this machine begins somewhere else.
        self._next = random.SystemRandom().randrange(share)

    def take(self, addresses: tuple[str, ...]) -> int:
        for _ in range(self._share):
            port = self._first + self._next
            self._next = (self._next + 1) % self._share
            if _is_free(port, addresses):
                return port
        raise AssertionError(f"no port is free on {', '.join(addresses)}")


def _is_free(port: int, addresses: tuple[str, ...]) -> bool:
    with contextlib.ExitStack() as stack:
        for address in addresses:
            family = socket.AF_INET6 if ":" in address else socket.AF_INET
            for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
                try:
                    stack.enter_context(socket.socket(family, kind)).bind((address, port))
                except OSError:
                    return False
    return True


_PORTS = Ports()


def free_port(*addresses: str) -> int:
    """A port that nobody has, for TCP and UDP, on all of the addresses; 127.0.0.1 where none is given."""
    return _PORTS.take(addresses or ("127.0.0.1",))
