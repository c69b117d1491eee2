"""TLS on a connection that is there already: towards the socket a protocol, towards layer 4 and 7 a transport.

OpenSSL works on two buffers in memory; what it has to send is written to the socket's transport at once. The protocol
behind it (`Client`, `Front`) is made when the handshake is done, and does not notice that there is TLS.

Rules:
- A handshake has a deadline and a place among a bounded number (`handshakes.py`).
- Back-pressure passes through both ways: paused, nothing more is decrypted; what was read from the socket stays.
- The end is `close_notify` from either side. An end of the connection without it is one for layer 7, whose messages
  have lengths; at layer 4, where the end of the data is all that says that it is complete, it is a reset.
- TLS 1.3's session ticket waits for the first answer instead of taking a packet of its own.

Rejected: `loop.start_tls` (uvloop's own SSL): it cannot be handed what was read before it (the ClientHello that was
looked at, what came behind a PROXY header).

Measured against uvloop's SSL (one core, CPU): keep-alive with small answers 0.9 of it, a connection for each request
0.7, 1 MiB the same. A `bytes` object for each read instead of one buffer for all connections costs a tenth more.
Asking OpenSSL for more than it has raises an exception, which costs more than looking whether anything is left.
"""

import asyncio
import contextlib
import ssl
from collections.abc import Callable
from typing import Any

from .handshakes import Handshakes

READ_SIZE = 16 << 10
"""A record's most."""
_BUFFER = bytearray(256 << 10)
_VIEW = memoryview(_BUFFER)

Ready = Callable[["TlsTransport"], asyncio.Protocol | None]


class TlsTransport(asyncio.BufferedProtocol):
    """`ready(self)` is called after the handshake and gives the protocol behind; None ends the connection in order."""

    __slots__ = (
        "_closed", "_ended", "_handshakes", "_incoming", "_outgoing", "_paused", "_peer_ended", "_protocol", "_raw",
        "_read", "_ready", "_strict_end", "_write", "deadline", "tls",
    )  # fmt: skip

    def __init__(
        self, raw: asyncio.Transport, context: ssl.SSLContext, ready: Ready, handshakes: Handshakes, strict_end: bool
    ) -> None:
        self._raw = raw
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self._incoming, self._outgoing, server_side=True)
        self._read, self._write = self.tls.read, self.tls.write
        self._ready = ready
        self._handshakes = handshakes
        self._strict_end = strict_end
        self._protocol: asyncio.Protocol | None = None
        # `ended`: nothing more is written; `closed`: because we said so in order.
        self._paused = self._ended = self._closed = self._peer_ended = False
        self.deadline = 0.0

    def start(self, data: bytes | bytearray, deadline: float) -> None:
        """Take the connection over, of which `data` was read."""
        self.deadline = deadline
        self._handshakes.enter(self)
        self._raw.set_protocol(self)
        # uvloop reads into a protocol's own buffer only from the next start of reading on.
        self._raw.pause_reading()
        self._raw.resume_reading()
        self._incoming.write(data)
        self._shake()

    # -- from the socket --------------------------------------------------------------------------------------------

    def get_buffer(self, sizehint: int) -> bytearray:
        return _BUFFER

    def buffer_updated(self, nbytes: int) -> None:
        self._incoming.write(_VIEW[:nbytes])
        if self._protocol is not None:
            self._decrypt()
        elif not self._ended:
            self._shake()

    def _shake(self) -> None:
        try:
            self.tls.do_handshake()
        except ssl.SSLWantReadError:
            self._flush()
            return
        except (ssl.SSLError, OSError):
            # What there is in the way of an alert is sent.
            self._handshakes.failures += 1
            self._ended = True
            self._flush()
            self._raw.close()
            return
        self._handshakes.leave(self)
        protocol = self._ready(self)
        if protocol is None:
            self.close()
            return
        if self.tls.version() != "TLSv1.3":
            self._flush()
        self._protocol = protocol
        protocol.connection_made(self)  # type: ignore[arg-type]
        if self._incoming.pending:
            self._decrypt()

    def _decrypt(self) -> None:
        read, protocol, incoming, pending = self._read, self._protocol, self._incoming, self.tls.pending
        assert protocol is not None
        try:
            while not self._paused:
                data = read(READ_SIZE)
                if not data:
                    self._end_of_input()
                    return
                protocol.data_received(data)
                if not incoming.pending and not pending():
                    return
        except ssl.SSLWantReadError:
            # A record is not complete, or was TLS's own: a key update wants an answer.
            if self._outgoing.pending and not self._ended:
                self._flush()
        except ssl.SSLZeroReturnError:
            # The client's end, after ours.
            self._end_of_input()
        except (ssl.SSLError, OSError):
            self.abort()

    def _end_of_input(self) -> None:
        """The client's `close_notify`."""
        if self._peer_ended:
            return
        self._peer_ended = True
        if self._protocol is not None and not self._protocol.eof_received():
            self.close()

    def eof_received(self) -> bool:
        if self._protocol is None or (self._strict_end and not self._peer_ended):
            self._raw.abort()
        else:
            self._end_of_input()
        return True

    def pause_writing(self) -> None:
        if self._protocol is not None:
            self._protocol.pause_writing()

    def resume_writing(self) -> None:
        if self._protocol is not None:
            self._protocol.resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        self._ended = True
        self._handshakes.leave(self)
        protocol, self._protocol = self._protocol, None
        if protocol is not None:
            if exc is None and self._strict_end and not (self._peer_ended or self._closed):
                exc = ConnectionResetError("the connection ended without close_notify")
            protocol.connection_lost(exc)

    def spare(self) -> int | None:
        """It is a member of the deadlines's during the handshake only."""
        return 0

    def evict(self) -> None:
        self.expire()

    def expire(self) -> None:
        """The handshake takes too long."""
        self._handshakes.failures += 1
        self._raw.abort()

    # -- the transport ----------------------------------------------------------------------------------------------

    def write(self, data: bytes) -> None:
        if self._ended or not data:
            return
        try:
            sent = self._write(data)
            if sent == len(data):
                self._raw.write(self._outgoing.read())
                return
            view = memoryview(data)
            pieces = [self._outgoing.read()]
            while sent < len(data):
                sent += self._write(view[sent : sent + READ_SIZE])
                pieces.append(self._outgoing.read())
            self._raw.writelines(pieces)
        except (ssl.SSLError, OSError):
            self.abort()

    def _flush(self) -> None:
        if self._outgoing.pending:
            self._raw.write(self._outgoing.read())

    def _notify(self) -> None:
        """Send `close_notify`: nothing more will come."""
        if self._ended:
            return
        self._ended = True
        # An error says that the client's own `close_notify` is not there yet, or never will be.
        with contextlib.suppress(ssl.SSLError, OSError, ValueError):
            self.tls.unwrap()
        self._flush()

    def write_eof(self) -> None:
        self._notify()
        if not self._raw.is_closing():
            self._raw.write_eof()

    def close(self) -> None:
        self._notify()
        self._closed = True
        self._raw.close()

    def abort(self) -> None:
        self._ended = True
        self._raw.abort()

    def is_closing(self) -> bool:
        return self._raw.is_closing()

    def pause_reading(self) -> None:
        self._paused = True
        self._raw.pause_reading()

    def resume_reading(self) -> None:
        if not self._paused:
            return
        self._paused = False
        self._raw.resume_reading()
        if self._incoming.pending or self.tls.pending():
            asyncio.get_running_loop().call_soon(self._go_on)

    def _go_on(self) -> None:
        if self._protocol is not None and not self._paused:
            self._decrypt()

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return self._raw.get_extra_info(name, default)
