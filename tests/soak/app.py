"""The program in the soak's containers, of the standard library alone: `app.py echo|store|probe`.

- `echo`: lines come back over TCP (port 9000), datagrams over UDP (port 9001).
- `store`: HTTP; answers with the fingerprint of its secret and with its config, read anew for each request.
- `probe`: HTTP; asks `http://store/` by name over the overlay network and passes the answer on, or 502 with the reason.
"""

import asyncio
import contextlib
import hashlib
import pathlib
import signal
import socket
import sys
from typing import cast

PATIENCE = 8.0
"""Seconds that the probe gives the store; less than the soak's clients give the probe."""


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while line := await reader.readline():
            writer.write(line)
            await writer.drain()
    writer.close()


class Datagrams(asyncio.DatagramProtocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.DatagramTransport", transport)

    def datagram_received(self, data: bytes, address: tuple[str, int]) -> None:
        self.transport.sendto(data, address)


def stored() -> tuple[int, str]:
    secret = pathlib.Path("/run/secrets/token").read_bytes()
    config = pathlib.Path("/etc/soak.conf").read_text().strip()
    return 200, f"store {socket.gethostname()} {hashlib.sha256(secret).hexdigest()[:12]} {config}"


async def probed() -> tuple[int, str]:
    try:
        async with asyncio.timeout(PATIENCE):
            reader, writer = await asyncio.open_connection("store", 80)
            writer.write(b"GET / HTTP/1.1\r\nHost: store\r\nConnection: close\r\n\r\n")
            answer = (await reader.read()).decode()
            writer.close()
    except (OSError, TimeoutError) as error:
        return 502, f"the store does not answer: {error!r}"
    head, _, body = answer.partition("\r\n\r\n")
    return (200, body) if " 200 " in head.partition("\r\n")[0] else (502, f"the store answers {answer[:200]!r}")


async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """One request a connection."""
    with contextlib.suppress(OSError, EOFError):
        await reader.readuntil(b"\r\n\r\n")
        status, text = stored() if sys.argv[1] == "store" else await probed()
        body = text.encode()
        head = f"HTTP/1.1 {status} -\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
        writer.write(head.encode() + body)
        await writer.drain()
    writer.close()


async def main() -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, stop.set)
    if sys.argv[1] == "echo":
        server = await asyncio.start_server(echo, "0.0.0.0", 9000)
        await loop.create_datagram_endpoint(Datagrams, ("0.0.0.0", 9001))
    else:
        server = await asyncio.start_server(serve, "0.0.0.0", 80)
    async with server:
        await stop.wait()
        server.close()
        # What was accepted is answered; docker's own time-out ends what takes longer.
        others = asyncio.all_tasks() - {asyncio.current_task()}
        if others:
            await asyncio.wait(others, timeout=PATIENCE)


if __name__ == "__main__":
    asyncio.run(main())
