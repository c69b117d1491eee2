"""A whole client connection while an auth server is asked, without sockets: pieces, pipelining, leaving, slowness."""

import asyncio
import re
from collections.abc import Callable, Sequence
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from essaim.gateway.http.authorization import Authorization
from essaim.gateway.http.exchange import Exchange
from essaim.gateway.http.forward_auth import client as auth_servers
from essaim.gateway.http.forward_auth.client import AuthServers
from essaim.gateway.http.forward_auth.cluster import ANSWER_SECONDS, ClusterRequest
from essaim.gateway.http.http1.server import BODY, HEAD, ServerConnection
from essaim.gateway.http.listener import Listener, RequestIds
from essaim.gateway.http.pending import MAX_EARLY
from essaim.gateway.http.timeouts import STALLED_SECONDS
from essaim.gateway.protocol.messages import EndpointPlan, PortPlan, ServicePlan
from essaim.gateway.routing.middlewares.build import InFlightReq, make_middleware
from essaim.gateway.routing.router import Route, Router
from essaim.gateway.routing.rules import parse_rule
from essaim.gateway.upstream.backend import Backend
from essaim.gateway.upstream.connection import Upstream

from .plane import FakeTransport, Plane

GET = b"GET /a HTTP/1.1\r\nHost: a\r\n\r\n"
POST = b"POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello"
PUT = b"PUT / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhe\r\n0\r\n\r\n"
YES = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nX-User: ann\r\n\r\n"
NO = b"HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\nContent-Type: a/b\r\n\r\nno"
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


class Asking(Plane):
    """A plane whose requests pass an in-flight count and then an auth server with connected replicas of its own."""

    def __init__(
        self, connections: int = 1, servers: int = 2, first: dict[str, str] | None = None, **options: str
    ) -> None:
        super().__init__(connections)
        ready = EndpointPlan("x", "x", "n", "192.0.2.8", 80, True, False, None, 0)
        plan = PortPlan("auth", "http", 1, 0, [ready], target_port=80)
        turns = memoryview(bytearray(8)).cast("I")
        self.auth = Backend(plan, turns, ("n", None), lambda endpoint, reason: None, lambda: None)
        self.auth.update(ServicePlan("auth", "auth", self.options, [plan]), plan, {}, 0.0)
        self.auth_servers = AuthServers(self.deadlines, self._find)
        self.listener = Listener(
            "l", self.backend, self.deadlines, RequestIds(), {"p": self.backend}, auth_servers=self.auth_servers
        )
        self.flights = InFlightReq({"amount": "1000"})
        chain = (
            self.flights,
            make_middleware("headers", first or {}),
            make_middleware("forwardauth", {"address": "http://auth/", "authresponseheaders": "X-User"} | options),
        )
        self.listener.router = Router()
        self.listener.router.add(Route("r", parse_rule("PathPrefix(`/`)"), 1, "p", chain))
        self.connection = ServerConnection(Exchange, self.listener)
        self.near = FakeTransport(self.connection)
        self.connection.connection_made(self.near)  # type: ignore[arg-type]
        self.servers: list[Upstream] = []
        self._wires: list[FakeTransport] = []
        self._wire = self.far
        for _ in range(servers):
            self.serve()

    def _find(self, names: Sequence[str], port: int) -> Backend | None:
        return self.auth if names == ("auth",) and port == 80 else None

    def serve(self) -> Upstream:
        """Another connection to the auth server, for the next question."""
        server = Upstream(self.auth.endpoints["x"], self.deadlines)
        self._wires.append(FakeTransport(server))
        server.connection_made(self._wires[-1])  # type: ignore[arg-type]
        server.state, server.reused = 0, True
        self.auth.endpoints["x"].idle.insert(0, server)
        self.servers.append(server)
        return server

    @property
    def inquiry(self) -> ClusterRequest | None:
        return next((one for one in self.deadlines.members if isinstance(one, ClusterRequest)), None)

    @property
    def asked(self) -> list[bytes]:
        """What the auth server was sent, by connection."""
        return [wire.written for wire in self._wires]

    @property
    def sent(self) -> bytes:
        """What the replica was."""
        return bytes(self._wire.written)

    async def reply(self, *pieces: bytes, server: int = 0) -> None:
        """From the auth server, as long as it is connected."""
        await turn()
        for piece in pieces:
            if self.servers[server].transport is not None:
                self.servers[server].data_received(piece)
        await turn()

    def assert_nothing_is_left(self) -> None:
        assert (self.auth_servers.open, self.inquiry, self.auth.endpoints["x"].open) == (0, None, 0)
        assert self.flights.in_progress == 0
        assert self.auth_servers.room.left == AuthServers(self.deadlines).room.left
        assert not self.auth.waiting
        self.deadlines.stop()


async def turn() -> None:
    """What was called soon, and what that called soon."""
    for _ in range(4):
        await asyncio.sleep(0)


def cut(data: bytes, cuts: list[int]) -> list[bytes]:
    places = sorted({one % (len(data) + 1) for one in cuts} | {0, len(data)})
    return [data[start:end] for start, end in pairwise(places)] or [b""]


async def test_request_passes_when_the_auth_server_says_so() -> None:
    plane = Asking()
    plane.ask(GET)
    await turn()
    assert plane.sent == b""
    assert plane.asked[0].startswith(b"GET / HTTP/1.1\r\nHost: auth\r\nX-Forwarded-Method: GET\r\n")
    await plane.reply(YES)
    assert b"\r\nX-User: ann\r\n" in plane.sent
    plane.answer(ANSWER)
    assert plane.near.written == ANSWER
    plane.assert_nothing_is_left()


async def test_refusal_leaves_the_connection_for_the_next_request() -> None:
    plane = Asking()
    plane.ask(GET)
    await plane.reply(NO)
    assert plane.near.written.startswith(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\nContent-Type: a/b\r\n\r\nno")
    assert plane.sent == b""
    plane.ask(GET)
    await plane.reply(YES)
    plane.answer(ANSWER)
    assert plane.near.written.endswith(ANSWER)
    plane.assert_nothing_is_left()


async def test_refused_request_with_a_body_ends_the_connection_and_none_of_it_is_a_request() -> None:
    plane = Asking()
    plane.ask(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 29\r\n\r\n" + GET)
    await plane.reply(NO)
    assert plane.near.written.count(b"HTTP/1.1") == 1
    assert b"Connection: close\r\n" in plane.near.written
    assert plane.near.ended
    assert plane.asked[1] == b""
    plane.near.abort()
    plane.assert_nothing_is_left()


async def test_pipelined_requests_are_asked_about_one_after_the_other() -> None:
    plane = Asking()
    plane.ask(GET + GET.replace(b"/a", b"/b") + POST)
    for number, path in enumerate((b"/a", b"/b", b"/a")):
        await turn()
        assert plane.asked[0].count(b"X-Forwarded-Uri") == number + 1
        assert plane.asked[0].endswith(b"X-Real-IP: 192.0.2.7\r\n\r\n")
        assert b"X-Forwarded-Uri: " + path in plane.asked[0]
        await plane.reply(YES)
        assert plane.sent.count(b" HTTP/1.1\r\n") == number + 1
        plane.answer(ANSWER)
    assert plane.near.written == ANSWER * 3
    assert plane.sent.endswith(b"hello")
    plane.assert_nothing_is_left()


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.integers(0, 400), max_size=5), st.lists(st.integers(0, 400), max_size=5),
    st.sampled_from([YES, NO, b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
                     b"HTTP/1.1 103 Early\r\nLink: x\r\n\r\n" + YES]),
    st.sampled_from([GET, POST, PUT]),
    st.booleans(),
)  # fmt: skip
def test_any_split_of_request_and_verdict_gives_the_same(
    cuts: list[int], verdict_cuts: list[int], verdict: bytes, request: bytes, forwards: bool
) -> None:
    async def run(pieces: list[bytes], verdicts: list[bytes]) -> tuple[bytes, ...]:
        plane = Asking(forwardbody=str(forwards))
        for piece in pieces:
            plane.ask(piece)
        await plane.reply(*verdicts)
        plane.answer(ANSWER)
        found = plane.near.written, without_id(plane.sent), plane.asked[0]
        plane.near.abort()
        plane.assert_nothing_is_left()
        return found

    whole = asyncio.run(run([request], [verdict]))
    assert asyncio.run(run(cut(request, cuts), cut(verdict, verdict_cuts))) == whole


def without_id(head: bytes) -> bytes:
    return b"\r\n".join(line for line in head.split(b"\r\n") if not line.startswith(b"X-Request-Id"))


WORDS = [b"\r\n", b"\n", b"\0", b"HTTP/1.1 ", b"200", b"999", b"Content-Length: 99999999\r\n", b"0\r\n\r\n",
         b"Transfer-Encoding: chunked\r\n", b"X: " + b"y" * 40_000, b"\xff", b"HTTP/1.1 101 Switching\r\n\r\n",
         b"z" * (1 << 20)]  # fmt: skip


@settings(max_examples=200, deadline=None)
@given(
    st.sampled_from([YES, NO]), st.lists(st.tuples(st.integers(0, 200), st.sampled_from(WORDS)), max_size=4),
    st.lists(st.integers(0, 2_000_000), max_size=5), st.booleans(),
)  # fmt: skip
def test_damaged_verdicts_end_in_an_answer_and_leave_nothing(
    verdict: bytes, damage: list[tuple[int, bytes]], cuts: list[int], ends: bool
) -> None:
    async def run() -> None:
        plane = Asking(servers=5)
        data = verdict
        for at, word in damage:
            data = data[:at] + word + data[at:]
        plane.ask(GET)
        await plane.reply(*cut(data, cuts), server=-1)
        if ends and plane.servers[-1].transport is not None:
            plane.servers[-1].transport.close()
            await turn()
        if plane.inquiry is not None:
            plane.inquiry.expire()
            await turn()
        plane.answer(ANSWER)
        assert re.match(rb"HTTP/1\.1 [2-5][0-9][0-9] ", plane.near.written)
        assert not plane.sent or b"HTTP/1.1 2" in data
        plane.near.abort()
        plane.assert_nothing_is_left()

    asyncio.run(run())


@pytest.mark.parametrize("when", ["asked", "answering", "answered", "connecting", "gathering", "waiting"])
async def test_client_that_goes_away_takes_its_question_with_it(when: str) -> None:
    plane = Asking(servers=0 if when == "connecting" else 2, forwardbody="true")
    if when == "waiting":
        plane.auth.ready = []
    plane.ask(POST[:-2] if when == "gathering" else POST)
    await asyncio.sleep(0)
    if when == "answering":
        await plane.reply(NO[:-1])
    if when == "answered":
        await asyncio.sleep(0)
        plane.servers[0].data_received(YES)
    plane.near.abort()
    await turn()
    if when in ("asked", "answering"):
        assert plane.servers[0].transport is None
    assert plane.sent == b""
    plane.assert_nothing_is_left()


async def test_auth_server_that_is_silent_is_a_500_in_the_end() -> None:
    plane = Asking()
    plane.ask(GET)
    await turn()
    assert plane.inquiry is not None
    assert plane.inquiry.deadline <= plane.deadlines.now + ANSWER_SECONDS + 1
    plane.inquiry.expire()
    await turn()
    assert plane.near.written.startswith(b"HTTP/1.1 500 ")
    assert plane.auth.endpoints["x"].codes == {504: 1}
    plane.assert_nothing_is_left()


async def test_connection_that_breaks_before_the_verdict_is_asked_again_on_another() -> None:
    plane = Asking()
    plane.ask(GET)
    await turn()
    first = plane.servers[0]
    assert first.transport is not None
    first.transport.close()
    await turn()
    assert plane.asked[1].startswith(b"GET / HTTP/1.1\r\nHost: auth\r\n")
    await plane.reply(YES, server=1)
    plane.answer(ANSWER)
    assert plane.near.written == ANSWER
    plane.assert_nothing_is_left()


async def test_question_waits_for_a_replica_of_the_auth_server() -> None:
    plane = Asking()
    ready, plane.auth.ready = plane.auth.ready, []
    plane.ask(GET)
    await turn()
    assert list(plane.auth.waiting) == [plane.inquiry]
    plane.auth.ready = ready
    plane.auth.wake()
    await plane.reply(YES)
    plane.answer(ANSWER)
    assert plane.near.written == ANSWER
    plane.assert_nothing_is_left()


@pytest.mark.parametrize("end", [lambda plane: plane.inquiry.expire(), lambda plane: plane.inquiry.refuse_waiting("x")])
async def test_question_that_waits_in_vain_is_a_500(end: Callable[[Asking], None]) -> None:
    plane = Asking()
    plane.auth.ready = []
    plane.ask(GET)
    await turn()
    end(plane)
    await turn()
    assert plane.near.written.startswith(b"HTTP/1.1 500 ")
    plane.assert_nothing_is_left()


async def test_answer_beyond_the_limit_is_a_401_and_is_not_read_on() -> None:
    plane = Asking(maxresponsebodysize="10")
    plane.ask(GET)
    await plane.reply(b"HTTP/1.1 403 No\r\nContent-Length: 1000000\r\n\r\n" + b"x" * 11)
    assert plane.near.written.startswith(b"HTTP/1.1 401 ")
    assert plane.servers[0].transport is None
    plane.assert_nothing_is_left()


async def test_answers_beyond_the_room_of_the_worker_are_a_503() -> None:
    plane = Asking()
    plane.auth_servers.room.left = 1
    plane.ask(GET)
    await plane.reply(NO)
    assert plane.near.written.startswith(b"HTTP/1.1 503 ")
    assert plane.auth_servers.room.left == 1


async def test_questions_beyond_the_limit_are_refused_and_the_next_one_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(auth_servers, "MAX_OPEN", 0)
    plane = Asking()
    plane.ask(GET)
    await turn()
    assert plane.near.written.startswith(b"HTTP/1.1 503 ")
    assert plane.asked == [b"", b""]
    plane.near.abort()
    plane.assert_nothing_is_left()


async def test_early_body_waits_within_its_bound_and_goes_on_in_order() -> None:
    plane = Asking()
    body = bytes(range(256)) * 1024
    plane.ask(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % len(body))
    sent = 0
    while plane.near.reading:
        plane.ask(body[sent : sent + 9000])
        sent += 9000
    assert sent <= MAX_EARLY + 9000
    await plane.reply(YES)
    assert plane.near.reading
    plane.ask(body[sent:])
    plane.answer(ANSWER)
    assert plane.sent.endswith(body)
    assert plane.near.written == ANSWER
    plane.assert_nothing_is_left()


async def test_forwarded_body_is_asked_for_shown_and_sent_on() -> None:
    plane = Asking(forwardbody="true")
    plane.ask(b"POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n")
    assert plane.near.written == b"HTTP/1.1 100 Continue\r\n\r\n"
    plane.ask(b"hel")
    await turn()
    assert plane.asked == [b"", b""]
    plane.ask(b"lo" + GET)
    await turn()
    assert plane.asked[0].endswith(b"Content-Length: 5\r\n\r\nhello")
    await plane.reply(YES)
    assert b"Expect" not in plane.sent
    assert plane.sent.endswith(b"\r\n\r\nhello")
    plane.answer(ANSWER)
    await plane.reply(YES)
    plane.answer(ANSWER)
    assert plane.near.written.endswith(ANSWER * 2)
    plane.assert_nothing_is_left()


async def test_body_that_is_gathered_may_be_longer_than_what_arrives_early() -> None:
    plane = Asking(forwardbody="true")
    body = b"x" * (MAX_EARLY * 4)
    data = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)
    plane.ask(*(data[start : start + 30_000] for start in range(0, len(data), 30_000)))
    assert plane.near.reading
    await plane.reply(YES)
    plane.answer(ANSWER)
    assert plane.sent.endswith(b"\r\n\r\n" + body)
    plane.assert_nothing_is_left()


@pytest.mark.parametrize(
    ("rest", "status"),
    [(b"zz\r\n", b"400"), (b"400000\r\n", b""), (b"", b"")],
)
async def test_body_that_is_gathered_is_framed_strictly(rest: bytes, status: bytes) -> None:
    plane = Asking(forwardbody="true")
    plane.ask(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhe\r\n" + rest)
    assert plane.near.written[9:12] == status
    plane.near.abort()
    plane.assert_nothing_is_left()


async def test_body_that_is_cut_short_while_gathered_is_a_400() -> None:
    plane = Asking(forwardbody="true")
    plane.ask(POST[:-1])
    plane.connection.eof_received()
    assert plane.near.written.startswith(b"HTTP/1.1 400 ")
    plane.near.abort()
    plane.assert_nothing_is_left()


async def test_body_that_is_gathered_too_slowly_is_a_408() -> None:
    plane = Asking(forwardbody="true")
    plane.ask(POST.replace(b"Length: 5", b"Length: 500000"), b"x" * 10_000)
    assert plane.connection.deadline == plane.deadlines.now + STALLED_SECONDS
    plane.connection.expire()
    assert plane.near.written == b""
    plane.connection.expire()
    assert plane.near.written.startswith(b"HTTP/1.1 408 ")
    plane.near.abort()
    plane.assert_nothing_is_left()


async def test_client_that_has_ended_its_side_gets_its_answer() -> None:
    plane = Asking()
    plane.ask(POST)
    plane.connection.eof_received()
    await plane.reply(YES)
    plane.answer(ANSWER.replace(b"200", b"201"))
    assert plane.near.written.startswith(b"HTTP/1.1 201 ")
    assert plane.near.closed
    plane.assert_nothing_is_left()


async def test_time_to_answer_includes_the_question() -> None:
    plane = Asking()
    plane.ask(GET)
    began = plane.exchange.started
    await plane.reply(YES)
    assert plane.exchange.started == began
    plane.answer(ANSWER)
    plane.ask(GET)
    assert plane.exchange.started > began
    assert plane.connection.state not in (HEAD, BODY)
    plane.near.abort()
    await turn()
    plane.assert_nothing_is_left()


async def test_nobody_knows_how_to_settle_an_unknown_kind() -> None:
    with pytest.raises(TypeError):
        Authorization(Asking().auth_servers).settle(Exception(), lambda: None)  # type: ignore[arg-type]
