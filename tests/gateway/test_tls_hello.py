"""The ClientHello reader, against what Python's own ssl sends, against a second reader, and against damage."""

import ssl
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from essaim.gateway.tls.client_hello import MAX_HELLO, BadHello, Hello, HelloReader, NotTls

NAMES = ["a.example", "WWW.Example.ORG", "x" * 63 + ".example", "xn--bcher-kva.example", ""]
PROTOCOLS = [[], ["h2", "http/1.1"], ["acme-tls/1"], ["x" * 255, "y"]]


def said_by_ssl(name: str, protocols: list[str], newest: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3) -> bytes:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.maximum_version = newest
    if protocols:
        context.set_alpn_protocols(protocols)
    outgoing = ssl.MemoryBIO()
    connection = context.wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname=name or None)
    with pytest.raises(ssl.SSLWantReadError):
        connection.do_handshake()
    return outgoing.read()


SAMPLES = {
    (name, tuple(protocols), newest): said_by_ssl(name, protocols, newest)
    for name in NAMES
    for protocols in PROTOCOLS
    for newest in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3)
}
samples = st.sampled_from(sorted(SAMPLES, key=str))


def read(pieces: list[bytes]) -> Hello | str | None:
    """What came of it, an error by its kind."""
    reader = HelloReader()
    found = None
    for piece in pieces:
        try:
            found = reader.feed(piece)
        except (BadHello, NotTls) as error:
            return type(error).__name__
        if found is not None:
            return found
    return found


def cut(data: bytes, places: list[int]) -> list[bytes]:
    edges = [0, *sorted({place % (len(data) + 1) for place in places}), len(data)]
    return [data[start:end] for start, end in pairwise(edges) if end > start]


def in_records(data: bytes, places: list[int]) -> bytes:
    """The same handshake message in several records (RFC 8446, 5.1)."""
    return b"".join(data[:3] + len(part).to_bytes(2) + part for part in cut(data[5:], places))


@given(samples, st.lists(st.integers(0, 700), max_size=8), st.lists(st.integers(0, 700), max_size=8))
def test_hello_in_any_pieces_and_records_says_what_the_client_asked(
    sample: tuple[str, tuple[str, ...], ssl.TLSVersion], places: list[int], records: list[int]
) -> None:
    name, protocols, _ = sample
    data = in_records(SAMPLES[sample], records)
    expected = Hello(name.lower(), tuple(one.encode() for one in protocols))
    assert read(cut(data, places)) == expected
    assert read([bytes([byte]) for byte in data]) == expected


@given(samples, st.integers(1, 700), st.lists(st.integers(0, 700), max_size=4))
def test_hello_that_is_cut_off_is_waited_for(
    sample: tuple[str, tuple[str, ...], ssl.TLSVersion], missing: int, records: list[int]
) -> None:
    data = in_records(SAMPLES[sample], records)
    assert read([data[: max(0, len(data) - missing)]]) is None


def naive(data: bytes) -> Hello | str | None:
    """The whole of a reader, written by slicing alone; for data that is there at once."""
    if data and data[0] != 22:
        return "NotTls"
    message, rest = b"", data
    while len(rest) >= 5:
        length = int.from_bytes(rest[3:5])
        if rest[0] != 22 or rest[1] != 3 or not 0 < length <= 16384:
            return "BadHello"
        if not message and len(rest) > 5 and rest[5] != 1:
            return "BadHello"
        if len(rest) < 5 + length:
            break
        message, rest = message + rest[5 : 5 + length], rest[5 + length :]
        if len(message) >= 4 and len(message) >= 4 + int.from_bytes(message[1:4]):
            return naive_message(message[4 : 4 + int.from_bytes(message[1:4])])
    return None if len(data) <= MAX_HELLO else "BadHello"


def vector(data: bytes, size: int) -> tuple[bytes, bytes]:
    length = int.from_bytes(data[:size])
    if len(data) < size + length:
        raise IndexError
    return data[size : size + length], data[size + length :]


def naive_message(body: bytes) -> Hello | str:
    try:
        if len(body) < 34:
            raise IndexError
        rest = body[34:]
        for size in (1, 2, 1):
            _, rest = vector(rest, size)
        if not rest:
            return Hello()
        block, rest = vector(rest, 2)
        found = naive_extensions(b"" if rest else block)
        hello = Hello(naive_name(found.get(0)), naive_protocols(found.get(16)))
    except IndexError:
        return "BadHello"
    return "BadHello" if rest else hello


def naive_extensions(block: bytes) -> dict[int, bytes]:
    found: dict[int, bytes] = {}
    while block:
        kind = int.from_bytes(block[:2])
        value, block = vector(block[2:], 2)
        if kind in found:
            raise IndexError
        found[kind] = value
    return found


def naive_name(value: bytes | None) -> str:
    if value is None:
        return ""
    names, more = vector(value, 2)
    host, others = vector(names[1:], 2)
    if more or others or names[:1] != b"\0" or not 0 < len(host) < 256 or b"\0" in host or max(host) > 127:
        raise IndexError
    name = host.decode().lower()
    return name[:-1] if name.endswith(".") else name


def naive_protocols(value: bytes | None) -> tuple[bytes, ...]:
    if value is None:
        return ()
    protocols = []
    listed, more = vector(value, 2)
    while listed:
        one, listed = vector(listed, 1)
        protocols.append(one)
    if more or not protocols or b"" in protocols:
        raise IndexError
    return tuple(protocols)


@given(samples, st.lists(st.tuples(st.integers(0, 700), st.integers(0, 255)), min_size=1, max_size=5), st.data())
def test_damaged_hello_is_read_as_the_naive_reader_does(
    sample: tuple[str, tuple[str, ...], ssl.TLSVersion], changes: list[tuple[int, int]], data: st.DataObject
) -> None:
    damaged = bytearray(SAMPLES[sample])
    for place, value in changes:
        damaged[place % len(damaged)] = value
    whole = bytes(damaged)
    expected = naive(whole)
    assert read([whole]) == expected
    pieces = cut(whole, data.draw(st.lists(st.integers(0, 700), max_size=6)))
    assert read(pieces) == expected


@given(st.binary(max_size=200))
def test_anything_behind_a_handshake_byte_ends_in_a_verdict(tail: bytes) -> None:
    assert read([b"\x16\x03" + tail]) == naive(b"\x16\x03" + tail)


def test_hello_longer_than_allowed_is_refused_without_its_end() -> None:
    record = b"\x16\x03\x01\x10\x00" + b"\x01\x00\xff\xff" + bytes(4092)
    more = b"\x16\x03\x01\x10\x00" + bytes(4096)
    assert read([record, more, more]) is None
    assert read([record, more, more, more, more]) == "BadHello"


@pytest.mark.parametrize("data", [b"GET / HTTP/1.1\r\n", b"\x80\x2e\x01\x00\x02", b"SSH-2.0-x\r\n"])
def test_other_protocols_are_not_tls(data: bytes) -> None:
    assert read([data]) == "NotTls"
