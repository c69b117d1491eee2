"""The L7 plane behind one HTTP/2 connection whose bytes the test hands over itself; its client is the library h2."""

from typing import Any

import h2.config
import h2.connection
import h2.events

from essaim.gateway.http.exchange import Exchange
from essaim.gateway.http.http2.server import Http2Connection

from .plane import FakeTransport, Plane

HEAD = [(":method", "GET"), (":scheme", "http"), (":authority", "a.example"), (":path", "/")]


class Multiplexed(Plane):
    """`raw`: no client of h2's; the test writes frames itself."""

    def __init__(self, connections: int = 1, *, raw: bool = False, **options: Any) -> None:
        super().__init__(connections, **options)
        self.near.close()
        self.http2 = Http2Connection(Exchange, self.listener)
        self.near = FakeTransport(self.http2)
        self.http2.connection_made(self.near)  # type: ignore[arg-type]
        config = h2.config.H2Configuration(client_side=True, header_encoding="utf-8")
        self.client = h2.connection.H2Connection(config)
        self.events: list[h2.events.Event] = []
        if not raw:
            self.client.initiate_connection()
            self.exchange_bytes()

    def send(self, data: bytes) -> None:
        """From the client."""
        if not (self.near.closed or self.near.ended):
            self.http2.data_received(data)

    @property
    def written(self) -> bytes:
        """What the client was sent; what the loop's turn has gathered is part of it."""
        self.http2._output.send_written()
        return self.near.written

    @written.setter
    def written(self, data: bytes) -> None:
        self.near.written = data

    def exchange_bytes(self) -> list[h2.events.Event]:
        """Both sides' bytes until neither has any; the client's events."""
        found: list[h2.events.Event] = []
        while True:
            out, said = self.client.data_to_send(), self.written
            self.written = b""
            if not out and not said:
                break
            if out:
                self.send(out)
            if said:
                found += self.client.receive_data(said)
        self.events += found
        return found

    def request(self, *, head: list[tuple[str, str]] | None = None, body: bytes | None = None, **more: str) -> int:
        """A request; its stream. `more`: fields, `_` for `-`."""
        number = self.client.get_next_available_stream_id()
        fields = [*(head or HEAD), *((name.replace("_", "-"), value) for name, value in more.items())]
        self.client.send_headers(number, fields, end_stream=body is None)
        if body is not None:
            self.client.send_data(number, body, end_stream=True)
        self.exchange_bytes()
        return number

    @property
    def asked(self) -> bytes:
        """What the first replica's connection was sent."""
        return bytes(self.far.written)
