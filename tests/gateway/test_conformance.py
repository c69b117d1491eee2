"""HTTP/1.1's rules for a request, one row a rule, over raw sockets against a real worker (RFC 9110, RFC 9112).

A row: what is sent, and the status that answers it. Refused requests must be answered once, and the connection closed;
nothing of them may reach the replica.
"""

import asyncio
import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from essaim.gateway.control.supervisor import Gateway
from tests.ports import free_port

from .conftest import Backends, endpoint, exchange, service, table

H = b"Host: a\r\n"
POST = b"POST / HTTP/1.1\r\n" + H

ACCEPTED: dict[str, bytes] = {
    "plain request": b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
    "9112 2.2 one empty line before the request line is ignored": b"\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
    "9112 3.2.1 query": b"GET /?a=b&c HTTP/1.1\r\nHost: a\r\n\r\n",
    "9112 3.2.2 absolute form": b"GET http://a/x HTTP/1.1\r\nHost: a\r\n\r\n",
    "9112 3.2.2 absolute form without path": b"GET http://a HTTP/1.1\r\nHost: a\r\n\r\n",
    "9112 3.2.4 asterisk form of OPTIONS": b"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n",
    "9112 3.2 HTTP/1.0 needs no Host": b"GET / HTTP/1.0\r\n\r\n",
    "9112 3.2 an empty Host is valid": b"GET / HTTP/1.1\r\nHost:\r\n\r\n",
    "9110 7.2 Host with port": b"GET / HTTP/1.1\r\nHost: a:8080\r\n\r\n",
    "9110 7.2 Host is an IPv6 address": b"GET / HTTP/1.1\r\nHost: [::1]:80\r\n\r\n",
    "9110 5.1 field names are case-insensitive": b"GET / HTTP/1.1\r\nhOsT: a\r\n\r\n",
    "9112 3.2 byte over 127 in the target": b"GET /\xe9 HTTP/1.1\r\nHost: a\r\n\r\n",
    "9110 5.5 obs-text in a value": b"GET / HTTP/1.1\r\nHost: a\r\nX: \xe9\r\n\r\n",
    "9110 5.6.3 white space around a value": b"GET / HTTP/1.1\r\nHost:\t a \t\r\n\r\n",
    "9110 9.1 any token is a method": b"M-SEARCH / HTTP/1.1\r\nHost: a\r\n\r\n",
    "9112 6.2 Content-Length": POST + b"Content-Length: 3\r\n\r\nabc",
    "9112 6.2 Content-Length 0": POST + b"Content-Length: 0\r\n\r\n",
    "9112 7.1 chunked": POST + b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
    "9112 7.1 a coding's name is case-insensitive": POST + b"Transfer-Encoding: Chunked\r\n\r\n0\r\n\r\n",
    "9112 7.1.1 chunk extension": POST + b"Transfer-Encoding: chunked\r\n\r\n3;a=b\r\nabc\r\n0\r\n\r\n",
    "9112 7.1.2 trailer": POST + b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nX-Sum: 1\r\n\r\n",
    "9112 7.1 leading zeros and upper case": POST
    + b"Transfer-Encoding: chunked\r\n\r\n00A\r\n0123456789\r\n000\r\n\r\n",
    "9110 10.1.1 Expect: 100-continue": POST + b"Expect: 100-continue\r\nContent-Length: 1\r\n\r\nx",
}
REFUSED: dict[str, tuple[int, bytes]] = {
    "9112 2.2 bare LF": (400, b"GET / HTTP/1.1\nHost: a\n\n"),
    "9112 2.2 bare LF at one line": (400, b"GET / HTTP/1.1\r\nHost: a\nX: b\r\n\r\n"),
    "9112 2.2 bare CR": (400, b"GET / HTTP/1.1\r\nHost: a\rX: b\r\n\r\n"),
    "9112 2.2 white space before the first field": (400, b"GET / HTTP/1.1\r\n Host: a\r\n\r\n"),
    "9112 2.2 many empty lines": (400, b"\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n"),
    "9112 3 two blanks": (400, b"GET  / HTTP/1.1\r\nHost: a\r\n\r\n"),
    "9112 3 blank at the end": (400, b"GET / HTTP/1.1 \r\nHost: a\r\n\r\n"),
    "9112 3 tab for blank": (400, b"GET\t/ HTTP/1.1\r\nHost: a\r\n\r\n"),
    "9112 3 HTTP/0.9": (400, b"GET /\r\n\r\n"),
    "9112 3 blank in the target": (400, b"GET /a b HTTP/1.1\r\nHost: a\r\n\r\n"),
    "9112 3.2 fragment in the target": (400, b"GET /a#b HTTP/1.1\r\nHost: a\r\n\r\n"),
    "9112 3.2 control character in the target": (400, b"GET /\x01 HTTP/1.1\r\nHost: a\r\n\r\n"),
    "9112 3 invalid method": (400, b"G@T / HTTP/1.1\r\nHost: a\r\n\r\n"),
    "9112 3 target too long": (414, b"GET /" + b"a" * 33000 + b" HTTP/1.1\r\nHost: a\r\n\r\n"),
    "9110 2.5 major version 2": (505, b"GET / HTTP/2.0\r\nHost: a\r\n\r\n"),
    "9110 2.5 lower case http": (400, b"GET / http/1.1\r\nHost: a\r\n\r\n"),
    "9112 3.2 no Host": (400, b"GET / HTTP/1.1\r\n\r\n"),
    "9112 3.2 two Hosts": (400, b"GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n"),
    "9112 3.2 Host is no host": (400, b"GET / HTTP/1.1\r\nHost: a/b\r\n\r\n"),
    "9112 3.2 Host with user": (400, b"GET / HTTP/1.1\r\nHost: u@a\r\n\r\n"),
    "9112 3.2 Host is a list": (400, b"GET / HTTP/1.1\r\nHost: a, b c\r\n\r\n"),
    "9112 3.2.2 absolute form differs from Host": (400, b"GET http://b/ HTTP/1.1\r\nHost: a\r\n\r\n"),
    "9112 3.2.2 other scheme": (400, b"GET ftp://a/ HTTP/1.1\r\nHost: a\r\n\r\n"),
    "9112 3.2.3 CONNECT": (501, b"CONNECT a:80 HTTP/1.1\r\nHost: a:80\r\n\r\n"),
    "9112 3.2.4 asterisk form of GET": (400, b"GET * HTTP/1.1\r\nHost: a\r\n\r\n"),
    "9112 5.1 blank before the colon": (400, b"GET / HTTP/1.1\r\nHost : a\r\n\r\n"),
    "9112 5.2 folded line": (400, b"GET / HTTP/1.1\r\nHost: a\r\nX: a\r\n b\r\n\r\n"),
    "9110 5.1 empty field name": (400, b"GET / HTTP/1.1\r\nHost: a\r\n: b\r\n\r\n"),
    "9110 5.1 invalid field name": (400, b"GET / HTTP/1.1\r\nHost: a\r\nX(: b\r\n\r\n"),
    "9110 5.1 no colon": (400, b"GET / HTTP/1.1\r\nHost: a\r\nX\r\n\r\n"),
    "9110 5.5 NUL in a value": (400, b"GET / HTTP/1.1\r\nHost: a\r\nX: a\0b\r\n\r\n"),
    "9110 5.4 too many fields": (431, b"GET / HTTP/1.1\r\nHost: a\r\n" + b"X: a\r\n" * 1100 + b"\r\n"),
    "9110 5.4 head too long": (431, b"GET / HTTP/1.1\r\nHost: a\r\n" + (b"X: " + b"a" * 4000 + b"\r\n") * 20 + b"\r\n"),
    "9112 6.1 Content-Length and Transfer-Encoding": (
        400,
        POST + b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    ),
    "9112 6.1 unknown coding before chunked": (501, POST + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n"),
    "9112 6.3 chunked is not last": (400, POST + b"Transfer-Encoding: chunked, gzip\r\n\r\n0\r\n\r\n"),
    "9112 6.3 chunked twice": (400, POST + b"Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n"),
    "9112 6.3 Transfer-Encoding twice": (
        400,
        POST + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    ),
    "9112 6.3 Transfer-Encoding: identity": (400, POST + b"Transfer-Encoding: identity\r\n\r\n"),
    "9112 6.3 odd Transfer-Encoding": (400, POST + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n"),
    "9112 6.3 quoted Transfer-Encoding": (400, POST + b'Transfer-Encoding: "chunked"\r\n\r\n0\r\n\r\n'),
    "9112 6.3 vertical tab before chunked": (400, POST + b"Transfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n"),
    "9112 6.1 Transfer-Encoding in HTTP/1.0": (
        400,
        b"POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    ),
    "9112 6.3 two Content-Lengths": (400, POST + b"Content-Length: 3\r\nContent-Length: 4\r\n\r\nabcd"),
    "9112 6.3 Content-Length list": (400, POST + b"Content-Length: 3, 3\r\n\r\nabc"),
    "9112 6.3 signed Content-Length": (400, POST + b"Content-Length: +3\r\n\r\nabc"),
    "9112 6.3 negative Content-Length": (400, POST + b"Content-Length: -1\r\n\r\n"),
    "9112 6.3 hexadecimal Content-Length": (400, POST + b"Content-Length: 0x3\r\n\r\nabc"),
    "9112 6.3 empty Content-Length": (400, POST + b"Content-Length:\r\n\r\n"),
    "9112 6.3 enormous Content-Length": (400, POST + b"Content-Length: " + b"9" * 30 + b"\r\n\r\n"),
    "9112 7.1 invalid chunk size": (400, POST + b"Transfer-Encoding: chunked\r\n\r\nx\r\nabc\r\n0\r\n\r\n"),
    "9112 7.1 chunk size with prefix": (400, POST + b"Transfer-Encoding: chunked\r\n\r\n0x3\r\nabc\r\n0\r\n\r\n"),
    "9112 7.1 chunk size with blank before": (400, POST + b"Transfer-Encoding: chunked\r\n\r\n 3\r\nabc\r\n0\r\n\r\n"),
    "9112 7.1 chunk size too big": (400, POST + b"Transfer-Encoding: chunked\r\n\r\n" + b"F" * 17 + b"\r\nabc"),
    "9112 7.1 chunk longer than its size": (400, POST + b"Transfer-Encoding: chunked\r\n\r\n3\r\nabcd\r\n0\r\n\r\n"),
    "9112 7.1 chunk line ended by LF": (400, POST + b"Transfer-Encoding: chunked\r\n\r\n3\nabc\r\n0\r\n\r\n"),
    "9112 7.1 CR in a chunk extension": (400, POST + b"Transfer-Encoding: chunked\r\n\r\n3;a\rb\r\nabc\r\n0\r\n\r\n"),
    "9110 6.5.1 framing in the trailer": (
        400,
        POST + b"Transfer-Encoding: chunked\r\n\r\n0\r\nContent-Length: 5\r\n\r\n",
    ),
    "9110 10.1.1 unknown expectation": (417, POST + b"Expect: magic\r\nContent-Length: 0\r\n\r\n"),
    "9110 7.6.1 Connection names Host": (400, b"GET / HTTP/1.1\r\nHost: a\r\nConnection: Host\r\n\r\n"),
    "9110 7.6.1 Connection names X-Forwarded-For": (
        400,
        b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close, X-Forwarded-For\r\n\r\n",
    ),
}


@pytest.fixture
async def served(tmp_path: Path, backends: Backends) -> AsyncIterator[int]:
    """A published HTTP port with one replica that answers with the head it saw."""
    running = Gateway(mesh_addr="127.0.0.1", state_dir=tmp_path, node_id="n1", workers=1)
    await running.start()
    port = free_port()
    await running.apply(table(1, service("web", port, [endpoint("t", await backends.web("t"))], "http")))
    yield port
    await running.stop(grace=0.2)


async def test_conformance_invalid_requests_are_refused_and_nothing_reaches_the_replica(
    served: int, backends: Backends
) -> None:
    wrong = {}
    for rule, (status, request) in REFUSED.items():
        # A second request behind the refused one: must never be served.
        answer = await exchange(served, request + b"GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n")
        if not answer.startswith(b"HTTP/1.1 %d " % status) or len(re.findall(rb"(?m)^HTTP/1.1 ", answer)) != 1:
            wrong[rule] = answer[:100]
        elif b"Connection: close\r\n" not in answer:
            wrong[rule] = b"not announced: " + answer[:200]
    assert wrong == {}
    # A head may have gone out before its body turned out to be invalid; a whole request never.
    assert backends.hits.get("t", 0) <= sum(rule.startswith(("9112 7.1", "9110 6.5")) for rule in REFUSED)


async def test_conformance_valid_requests_are_served_on_one_connection_each(served: int) -> None:
    wrong = {}
    for rule, request in ACCEPTED.items():
        reader, writer = await asyncio.open_connection("127.0.0.1", served)
        writer.write(request)
        async with asyncio.timeout(20):
            line = await reader.readline()
        if line != b"HTTP/1.1 200 OK\r\n":
            wrong[rule] = line + await reader.read(300)
        writer.close()
    assert wrong == {}
