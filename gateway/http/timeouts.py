"""How long an exchange may take: who is waited for, until when, and who is to blame when it has not come.

Times are those of the loop, in seconds.
"""

from typing import Protocol

from essaim.gateway.codec.interface import ClientStream
from essaim.gateway.protocol.options import ServiceOptions
from essaim.gateway.runtime.deadlines import NEVER

STALLED_SECONDS = 60.0
"""A client that takes nothing of a response for so long, or sends a body at less than SLOWEST, is given up."""
SLOWEST = 64
"""Bytes of a request's body a second, averaged over STALLED_SECONDS: below, the client is given up."""


class Timed(Protocol):
    """What of an exchange matters here. `held`: the client does not take what it is sent. `received`, `sent`: bytes of
    the request's and the response's body so far; `looked`: their sum when it was last looked at."""

    held: bool
    looked: int
    received: int
    request_done: bool
    responding: bool
    sent: int
    tunnel: bool
    stream: ClientStream

    def answer(self, status: int, reason: str) -> None: ...
    def refuse(self, status: int, reason: str) -> None: ...


def streaming_deadline(exchange: Timed, options: ServiceOptions, now: float) -> float:
    """While a response (or a tunnel) is on its way: what the client has yet to send must move, or what it gets."""
    if exchange.tunnel:
        return now + (options.idle_timeout or NEVER)
    return now + STALLED_SECONDS if exchange.held or not exchange.request_done else NEVER


def response_deadline(exchange: Timed, options: ServiceOptions, now: float) -> float:
    """The request is complete."""
    if exchange.responding:
        return streaming_deadline(exchange, options, now)
    return now + (options.response_timeout or NEVER)


def _moved(exchange: Timed) -> int:
    """Bytes of both directions since this was last asked."""
    seen = exchange.received + exchange.sent
    moved, exchange.looked = seen - exchange.looked, seen
    return moved


def expire(exchange: Timed, options: ServiceOptions, now: float, *, queued: bool, gathering: bool) -> None:
    """The deadline has passed. `queued`: no replica was ready yet; `gathering`: a middleware wants the whole body."""
    if queued:
        exchange.answer(503, "no replica of the service became ready in time")
    elif gathering or not (exchange.request_done or exchange.held):
        _expire_body(exchange, now)
    elif exchange.request_done and not exchange.responding:
        exchange.answer(504, "the replica did not answer in time")
    elif exchange.tunnel and not exchange.held and _moved(exchange):
        exchange.stream.deadline = streaming_deadline(exchange, options, now)
    else:
        exchange.stream.abort()


def _expire_body(exchange: Timed, now: float) -> None:
    """The request's body is not complete: it must arrive at a rate, or the response that has begun must flow."""
    if _moved(exchange) > SLOWEST * STALLED_SECONDS:
        exchange.stream.deadline = now + STALLED_SECONDS
    elif exchange.responding:
        exchange.stream.abort()
    elif exchange.stream.reading:
        exchange.refuse(408, "the body of the request arrives too slowly")
    else:
        exchange.answer(504, "the replica does not take the body of the request")
