"""One request as an object, between a client's codec and a replica's that the test plays; no bytes of a protocol."""

from collections.abc import Callable

import pytest

from essaim.gateway.codec.message import CHUNKED, Request, Response
from essaim.gateway.http.timeouts import SLOWEST, STALLED_SECONDS

from .scripted import OK, Scripted, ScriptedReplica


def answered(scripted: Scripted) -> None:
    scripted.exchange.respond(OK, b"ok", 0, True)
    scripted.exchange.response_done()


def test_exchange_passes_a_request_on_and_its_response_back() -> None:
    replica = ScriptedReplica()
    scripted = Scripted(replica)
    scripted.ask()
    assert replica.sent.startswith(b"GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 192.0.2.7\r\n")
    assert replica.client is scripted.exchange
    answered(scripted)
    assert scripted.stream.told == [("respond", 200, OK.head, b"ok", True), ("end",)]
    assert scripted.counted == {200: 1}
    assert scripted.endpoint.open == 0


def test_exchange_body_that_has_come_with_the_head_goes_out_with_it() -> None:
    replica = ScriptedReplica()
    scripted = Scripted(replica)
    exchange = scripted.exchange
    exchange.head(scripted.request(b"POST", 4), False)
    exchange.data(b"ab", False)
    assert replica.sent == b""
    exchange.proceed()
    assert replica.sent.endswith(b"\r\n\r\nab")
    assert not exchange.request_done
    exchange.data(b"cd", True)
    assert replica.sent.endswith(b"abcd")
    assert exchange.request_done


def test_exchange_response_in_pieces_and_trailers_come_in_order() -> None:
    scripted = Scripted(ScriptedReplica())
    scripted.ask()
    exchange = scripted.exchange
    exchange.interim(Response(103, 1, b"HTTP/1.1 103 Early Hints\r\n"))
    exchange.respond(OK, b"", 0, False)
    exchange.forward(b"o")
    exchange.forward(b"k")
    exchange.trailers(b"T: v\r\n")
    exchange.response_done()
    assert [one[0] for one in scripted.stream.told] == [
        "interim", "respond", "write", "write", "trailers", "end",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("method", "untouched", "again"),
    [(b"GET", True, True), (b"PUT", True, True), (b"POST", True, False), (b"GET", False, False)],
)
def test_exchange_is_sent_again_only_where_that_has_no_effect(method: bytes, untouched: bool, again: bool) -> None:
    first, second = ScriptedReplica(), ScriptedReplica()
    scripted = Scripted(first, second)
    scripted.ask(method)
    scripted.exchange.upstream_failed("it broke", untouched)
    assert first.closed
    assert (second.sent == first.sent) == again
    assert scripted.stream.statuses == ([] if again else [502])
    assert scripted.endpoint.open == (1 if again else 0)
    assert scripted.counted == ({} if again else {502: 1})


def test_exchange_response_that_breaks_off_is_reset_and_counted_once() -> None:
    scripted = Scripted(ScriptedReplica(), ScriptedReplica())
    scripted.ask()
    scripted.exchange.respond(OK, b"o", 0, False)
    scripted.exchange.upstream_failed("it broke", False)
    assert [one[0] for one in scripted.stream.told] == ["respond", "reset"]
    assert scripted.counted == {200: 1}
    assert scripted.endpoint.open == 0


@pytest.mark.parametrize("responding", [False, True])
def test_exchange_body_out_of_order_is_refused_or_ends_the_response(responding: bool) -> None:
    replica = ScriptedReplica()
    scripted = Scripted(replica)
    scripted.ask(b"POST", length=CHUNKED, complete=False)
    if responding:
        scripted.exchange.respond(OK, b"", 0, False)
    scripted.exchange.refuse(400, "no chunk")
    assert replica.closed
    assert [one[0] for one in scripted.stream.told] == ["respond", "abort" if responding else "drop"]
    assert scripted.counted == {200 if responding else 400: 1}
    assert scripted.endpoint.open == 0


def test_exchange_without_a_head_can_be_refused() -> None:
    scripted = Scripted(ScriptedReplica())
    scripted.exchange.refuse(431, "too long")
    assert scripted.stream.statuses == [431]
    assert not scripted.stream.keep_alive
    assert scripted.counted == {431: 1}


@pytest.mark.parametrize("responding", [False, True])
def test_exchange_whose_client_leaves_is_counted_and_lets_the_replica_go(responding: bool) -> None:
    replica = ScriptedReplica()
    scripted = Scripted(replica)
    scripted.ask()
    if responding:
        scripted.exchange.respond(OK, b"", 0, False)
    scripted.exchange.reset(True)
    assert replica.closed
    assert scripted.counted == {200 if responding else 499: 1}
    assert scripted.endpoint.open == 0


def ends() -> list[Callable[[Scripted], None]]:
    return [
        answered,
        lambda scripted: scripted.exchange.reset(False),
        lambda scripted: scripted.exchange.refuse(400, "odd"),
        lambda scripted: scripted.exchange.upstream_failed("it broke", False),
        lambda scripted: scripted.exchange.answer(504, "late"),
    ]


@pytest.mark.parametrize("end", ends())
def test_exchange_that_is_over_says_and_counts_nothing_more(end: Callable[[Scripted], None]) -> None:
    scripted = Scripted(ScriptedReplica(), ScriptedReplica())
    scripted.ask()
    end(scripted)
    told, counted, idle = list(scripted.stream.told), scripted.counted, len(scripted.endpoint.idle)
    scripted.exchange.proceed()
    scripted.exchange.data(b"x", True)
    scripted.exchange.answer(500, "again")
    scripted.exchange.refuse(400, "again")
    scripted.exchange.reset(True)
    assert (scripted.stream.told, scripted.counted, len(scripted.endpoint.idle)) == (told, counted, idle)
    assert scripted.endpoint.open == 0


def test_exchange_passes_back_pressure_both_ways() -> None:
    replica = ScriptedReplica()
    scripted = Scripted(replica)
    scripted.ask(b"POST", length=9, complete=False)
    scripted.exchange.pause_sending()
    assert not scripted.stream.reading
    scripted.exchange.resume_sending()
    assert scripted.stream.reading
    scripted.exchange.pause()
    assert replica.held
    scripted.exchange.resume()
    assert not replica.held


def test_exchange_keeps_a_bounded_part_of_a_body_that_no_replica_takes_yet() -> None:
    scripted = Scripted()
    scripted.endpoint.usable = False
    scripted.backend.refresh(0.0)
    scripted.ask(b"POST", length=1 << 20, complete=False)
    assert len(scripted.backend.waiting) == 1
    scripted.exchange.data(b"x" * (60 << 10), False)
    assert scripted.stream.reading
    scripted.exchange.data(b"x" * (60 << 10), False)
    assert not scripted.stream.reading
    replica = ScriptedReplica()
    scripted.endpoint.idle.append(replica)  # type: ignore[arg-type]
    scripted.endpoint.usable = True
    scripted.backend.refresh(0.0)
    assert replica.sent.count(b"x") >= 120 << 10
    assert scripted.stream.reading


def test_exchange_that_waits_for_a_replica_in_vain_is_a_503_and_leaves_the_queue() -> None:
    scripted = Scripted(queue_timeout=5.0)
    scripted.endpoint.usable = False
    scripted.backend.refresh(0.0)
    scripted.ask()
    assert scripted.stream.deadline == 5.0
    scripted.exchange.expire()
    assert scripted.stream.statuses == [503]
    assert not scripted.backend.waiting


def test_exchange_times_the_replica_from_the_whole_request_on() -> None:
    replica = ScriptedReplica()
    scripted = Scripted(replica, response_timeout=7.0)
    scripted.ask(b"POST", length=2, complete=False)
    assert scripted.stream.deadline == STALLED_SECONDS
    scripted.exchange.data(b"ab", True)
    assert scripted.stream.deadline == 7.0
    scripted.exchange.expire()
    assert scripted.stream.statuses == [504]
    assert scripted.endpoint.codes == {504: 1}
    assert replica.closed


def test_exchange_body_must_arrive_at_a_rate() -> None:
    scripted = Scripted(ScriptedReplica())
    scripted.ask(b"POST", length=1 << 20, complete=False)
    scripted.exchange.data(b"x" * (int(SLOWEST * STALLED_SECONDS) + 1), False)
    scripted.exchange.expire()
    assert scripted.stream.told == []
    scripted.exchange.expire()
    assert scripted.stream.statuses == [408]


def test_exchange_tunnel_ends_side_by_side() -> None:
    replica = ScriptedReplica()
    scripted = Scripted(replica)
    scripted.exchange.head(_upgrade(scripted), True)
    scripted.exchange.switch(Response(101, 1, b"HTTP/1.1 101 Switching Protocols\r\n"), b"hi")
    scripted.exchange.data(b"up", False)
    scripted.exchange.data(b"", True)
    assert replica.sent.endswith(b"up")
    assert replica.input_ended
    assert not replica.closed
    scripted.exchange.tunnel_ended()
    assert scripted.stream.told == [("switch", b"tcp", b"hi"), ("tunnel_ended",)]
    scripted.exchange.reset(True)
    assert replica.ended_in_order
    assert scripted.endpoint.codes == {101: 1}


def test_exchange_tunnel_whose_replica_has_ended_closes_with_its_client() -> None:
    scripted = Scripted(ScriptedReplica(ended=True))
    scripted.exchange.head(_upgrade(scripted), True)
    scripted.exchange.switch(Response(101, 1, b"HTTP/1.1 101 Switching Protocols\r\n"), b"")
    scripted.exchange.data(b"", True)
    assert scripted.stream.told[-1] == ("tunnel_ended",)


def _upgrade(scripted: Scripted) -> Request:
    request = scripted.request(b"GET")
    request.upgrade = b"tcp"
    return request


def test_exchange_body_beyond_the_limit_is_a_413() -> None:
    for length, pieces in ((11, ()), (CHUNKED, (b"x" * 11,))):
        scripted = Scripted(ScriptedReplica(), max_body=10)
        scripted.ask(b"POST", length=length, complete=False)
        for piece in pieces:
            scripted.exchange.data(piece, False)
        assert scripted.stream.statuses == [413]
        assert scripted.stream.told[-1] == ("drop",)


def test_exchange_sticky_cookie_is_set_once_and_followed() -> None:
    replica = ScriptedReplica()
    scripted = Scripted(replica, sticky_cookie="s")
    scripted.ask()
    answered(scripted)
    assert b"Set-Cookie: s=" + scripted.endpoint.tag in scripted.stream.told[0][2]
    known = Scripted(ScriptedReplica(), sticky_cookie="s")
    known.ask(fields=b"Cookie: s=" + known.endpoint.tag + b"\r\n")
    answered(known)
    assert b"Set-Cookie" not in known.stream.told[0][2]


async def test_exchange_method_that_is_not_idempotent_needs_a_fresh_connection() -> None:
    for method, rested, rides in ((b"POST", 5.0, False), (b"POST", 0.5, True), (b"GET", 5.0, True)):
        replica = ScriptedReplica(rested_since=-rested)
        scripted = Scripted(replica)
        scripted.ask(method)
        assert bool(replica.sent) == rides
        scripted.exchange.reset(False)
