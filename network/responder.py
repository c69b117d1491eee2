"""A network's DNS server on this node: UDP on the gateway address of its bridge, which tells what network asks."""

import asyncio
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import dns.asyncquery
import dns.exception
import dns.message

from .names import answer, failure

FORWARD_WITHIN = 2.0


def node_resolvers(file: Path = Path("/etc/resolv.conf")) -> list[str]:
    """The node's own name servers; none when there is no such file."""
    try:
        lines = [line.split() for line in file.read_text().splitlines()]
    except OSError:
        return []
    return [words[1] for words in lines if len(words) > 1 and words[0] == "nameserver"]


class Responder(asyncio.DatagramProtocol):
    """`lookup` is given the address of who asks, and a lower-case name."""

    def __init__(self, lookup: Callable[[str, str], list[str] | None], resolvers: Sequence[str]) -> None:
        self._lookup = lookup
        self._resolvers = resolvers
        self._turn = 0
        self._transport: asyncio.DatagramTransport | None = None
        self._forwarding: set[asyncio.Task[None]] = set()

    async def start(self, address: str, port: int = 53) -> int:
        """The port. Raises OSError."""
        loop = asyncio.get_running_loop()
        self._transport, _ = await loop.create_datagram_endpoint(lambda: self, local_addr=(address, port))
        bound: int = self._transport.get_extra_info("sockname")[1]
        return bound

    async def stop(self) -> None:
        if self._transport is not None:
            self._transport.close()
        for task in self._forwarding:
            task.cancel()
        await asyncio.gather(*self._forwarding, return_exceptions=True)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        try:
            query = dns.message.from_wire(data)
        except dns.exception.DNSException:
            return
        self._turn += 1
        response = answer(query, partial(self._lookup, addr[0]), self._turn)
        if response is not None:
            self._send(response, addr)
            return
        task = asyncio.create_task(self._forward(query, addr))
        self._forwarding.add(task)
        task.add_done_callback(self._forwarding.discard)

    async def _forward(self, query: dns.message.Message, addr: tuple[str, int]) -> None:
        for resolver in self._resolvers:
            try:
                response = await dns.asyncquery.udp(query, resolver, timeout=FORWARD_WITHIN)
            except (OSError, dns.exception.DNSException):
                continue
            self._send(response, addr)
            return
        self._send(failure(query), addr)

    def _send(self, response: dns.message.Message, addr: tuple[str, int]) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.sendto(response.to_wire(), addr)
