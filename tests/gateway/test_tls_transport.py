"""TLS between a protocol and a socket's transport, without a socket: pieces, back-pressure, ends, damage."""

import asyncio
import contextlib
import ssl
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from essaim.gateway.protocol.tls_policy import TlsPolicy
from essaim.gateway.runtime.deadlines import Deadlines
from essaim.gateway.tls.contexts import HTTP, make_context
from essaim.gateway.tls.handshakes import Handshakes
from essaim.gateway.tls.transport import TlsTransport

from .authority import TestAuthority

AUTHORITY = TestAuthority()
CERTIFICATE = AUTHORITY.certificate("a", "a.example")
SERVER = make_context(CERTIFICATE.chain, CERTIFICATE.key, TlsPolicy(), [], HTTP)
CLIENTS = {newest: ssl.create_default_context(cadata=AUTHORITY.pem) for newest in ("1.2", "1.3")}
CLIENTS["1.2"].maximum_version = ssl.TLSVersion.TLSv1_2


class Raw:
    """The socket's transport: keeps what is written."""

    def __init__(self) -> None:
        self.written = b""
        self.reading = True
        self.closed = self.aborted = self.ended = False
        self.protocol: Any = None

    def set_protocol(self, protocol: Any) -> None:
        self.protocol = protocol

    def write(self, data: bytes) -> None:
        assert not self.ended, "written after the end"
        self.written += data

    def writelines(self, pieces: list[bytes]) -> None:
        for piece in pieces:
            self.write(piece)

    def write_eof(self) -> None:
        self.ended = True

    def _lost(self) -> None:
        if not self.closed:
            self.closed = True
            self.protocol.connection_lost(None)

    def close(self) -> None:
        self._lost()

    def abort(self) -> None:
        self.aborted = True
        self._lost()

    def is_closing(self) -> bool:
        return self.closed

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True


class Behind(asyncio.Protocol):
    """The protocol behind TLS."""

    def __init__(self) -> None:
        self.transport: Any = None
        self.received = b""
        self.ended = False
        self.lost: list[Exception | None] = []
        self.pause_at = 1 << 60

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.received += data
        if len(self.received) >= self.pause_at:
            self.transport.pause_reading()

    def eof_received(self) -> bool:
        self.ended = True
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost.append(exc)


class Pair:
    """A client's TLS and ours, whose bytes the test carries."""

    def __init__(self, newest: str = "1.3", strict: bool = False) -> None:
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.client = CLIENTS[newest].wrap_bio(self.incoming, self.outgoing, server_hostname="a.example")
        self.raw, self.behind = Raw(), Behind()
        self.handshakes = Handshakes(Deadlines())
        self.tls = TlsTransport(self.raw, SERVER, lambda tls: self.behind, self.handshakes, strict)  # type: ignore[arg-type]
        self.started = False
        self.got = b""

    def give(self, data: bytes, size: int = 1 << 17) -> None:
        """Our side gets bytes, in pieces of this size."""
        for start in range(0, len(data), size):
            piece = data[start : start + size]
            if self.raw.closed:
                return
            if self.started:
                self.tls.get_buffer(-1)[: len(piece)] = piece
                self.tls.buffer_updated(len(piece))
            else:
                self.started = True
                self.tls.start(piece, 10.0)

    def take(self) -> None:
        """The client gets what we wrote."""
        data, self.raw.written = self.raw.written, b""
        self.incoming.write(data)

    def shake(self, size: int = 1 << 17) -> None:
        for _ in range(4):
            with contextlib.suppress(ssl.SSLWantReadError):
                self.client.do_handshake()
            self.give(self.outgoing.read(), size)
            self.take()
        assert self.behind.transport is self.tls
        assert len(self.handshakes) == 0

    def read(self) -> bytes:
        self.take()
        with contextlib.suppress(ssl.SSLWantReadError):
            while data := self.client.read(1 << 17):
                self.got += data
        return self.got


@settings(deadline=None, max_examples=40)
@given(
    st.sampled_from(["1.2", "1.3"]),
    st.integers(1, 400),
    st.lists(st.tuples(st.booleans(), st.integers(0, 70_000)), max_size=5),
)
def test_contents_are_the_same_in_whatever_pieces_they_come(
    newest: str, size: int, messages: list[tuple[bool, int]]
) -> None:
    pair = Pair(newest)
    pair.shake(size)
    sent, answered = b"", b""
    for ours, length in messages:
        data = bytes([length % 251]) * length
        if ours:
            answered += data
            pair.tls.write(data)
        else:
            sent += data
            at = 0
            while at < length:
                at += pair.client.write(data[at:])
            pair.give(pair.outgoing.read(), max(size, length // 50))
    assert pair.behind.received == sent
    assert pair.read() == answered


async def test_paused_protocol_gets_nothing_until_it_goes_on() -> None:
    pair = Pair()
    pair.shake()
    pair.behind.pause_at = 20_000
    at, data = 0, bytes(range(250)) * 400
    while at < len(data):
        at += pair.client.write(data[at:])
    pair.give(pair.outgoing.read(), 250_000)
    held = len(pair.behind.received)
    assert 20_000 <= held < 20_000 + 16_384
    assert not pair.raw.reading
    pair.behind.pause_at = 1 << 60
    pair.tls.resume_reading()
    assert pair.raw.reading
    async with asyncio.timeout(5):
        while len(pair.behind.received) < len(data):
            await asyncio.sleep(0)
    assert pair.behind.received == data


@settings(deadline=None, max_examples=100)
@given(st.integers(0, 4000), st.integers(1, 255), st.booleans(), st.sampled_from(["1.2", "1.3"]))
def test_damaged_bytes_end_the_connection_and_nothing_else(place: int, flip: int, late: bool, newest: str) -> None:
    pair = Pair(newest)
    if late:
        pair.shake()
        pair.client.write(b"hello" * 100)
        with contextlib.suppress(ssl.SSLError):
            pair.client.unwrap()
    else:
        with pytest.raises(ssl.SSLWantReadError):
            pair.client.do_handshake()
    data = bytearray(pair.outgoing.read())
    data[place % len(data)] ^= flip
    pair.give(bytes(data))
    # A length that was damaged may ask for a record's worth more.
    pair.give(bytes(20_000))
    if late:
        assert pair.behind.received in (b"", b"hello" * 100)
        assert pair.raw.closed
        assert len(pair.behind.lost) == 1
    pair.tls.write(b"after the end")
    pair.tls.close()


@pytest.mark.parametrize(("strict", "notified"), [(True, True), (True, False), (False, True), (False, False)])
def test_end_without_close_notify_is_a_reset_where_the_end_means_something(strict: bool, notified: bool) -> None:
    pair = Pair(strict=strict)
    pair.shake()
    pair.client.write(b"all of it")
    if notified:
        with pytest.raises(ssl.SSLWantReadError):
            pair.client.unwrap()
    pair.give(pair.outgoing.read())
    pair.tls.eof_received()
    assert pair.behind.received == b"all of it"
    if strict and not notified:
        assert pair.raw.aborted
        assert isinstance(pair.behind.lost[0], ConnectionResetError)
        return
    assert pair.behind.ended
    assert not pair.raw.closed
    pair.tls.write(b"answer")
    assert pair.read() == b"answer"


def test_our_end_is_told_and_the_client_may_still_send() -> None:
    pair = Pair(strict=True)
    pair.shake()
    pair.tls.write(b"the last")
    pair.tls.write_eof()
    assert pair.raw.ended
    pair.tls.write(b"not any more")
    assert pair.read() == b"the last"
    pair.client.write(b"thanks")
    pair.give(pair.outgoing.read())
    assert pair.behind.received == b"thanks"
    with contextlib.suppress(ssl.SSLError):
        pair.client.unwrap()
    pair.give(pair.outgoing.read())
    assert pair.behind.ended
    assert not pair.raw.aborted


def test_our_close_is_no_reset_and_damage_is_one() -> None:
    pair = Pair(strict=True)
    pair.shake()
    pair.tls.close()
    assert pair.behind.lost == [None]
    pair = Pair(strict=True)
    pair.shake()
    pair.give(b"\x17\x03\x03\x00\x20" + bytes(32))
    assert isinstance(pair.behind.lost[0], ConnectionResetError)


def test_handshake_that_takes_too_long_is_ended() -> None:
    pair = Pair()
    with pytest.raises(ssl.SSLWantReadError):
        pair.client.do_handshake()
    pair.give(pair.outgoing.read())
    assert len(pair.handshakes) == 1
    pair.tls.expire()
    assert pair.raw.aborted
    assert (len(pair.handshakes), pair.handshakes.failures) == (0, 1)
    assert pair.behind.transport is None
