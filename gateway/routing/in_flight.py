"""Traefik's inFlightReq: so many requests of one source at a time; more are answered with 429.

The source (`sourceCriterion`): the client's address (default), a field of the request, or the host that it asks for.
`ipstrategy.depth` and `.excludedips` read X-Forwarded-For from its end, as far as the connection's peer is believed to
have written it: that is `essaim.trusted`'s matter here, so both are refused with a warning.

Pure: sources in, verdicts out.
"""

from collections.abc import Callable

Criterion = Callable[[str, bytes, Callable[[bytes], bytes | None]], bytes]
"""(client's address, host asked for, a field's value by name) -> what is counted."""


class InFlight:
    """Counts by source; one that has nothing in progress is not remembered, so memory is bounded by the requests."""

    def __init__(self, amount: int) -> None:
        self._amount = amount
        self._open: dict[bytes, int] = {}

    def enter(self, source: bytes) -> bool:
        """True: counted, and `leave` must follow. False: too many."""
        count = self._open.get(source, 0)
        if count >= self._amount:
            return False
        self._open[source] = count + 1
        return True

    def leave(self, source: bytes) -> None:
        count = self._open.get(source, 0) - 1
        if count > 0:
            self._open[source] = count
        else:
            self._open.pop(source, None)

    @property
    def sources(self) -> int:
        return len(self._open)


def criterion(options: dict[str, str]) -> Criterion:
    """Raises ValueError when the options name two."""
    field = options.get("sourcecriterion.requestheadername", "").encode()
    host = options.get("sourcecriterion.requesthost", "false").lower() in ("true", "1")
    if field and host:
        raise ValueError("sourceCriterion is either requestHeaderName or requestHost")
    if field:
        return lambda address, asked, value: value(field) or b""
    if host:
        return lambda address, asked, value: asked.lower()
    return lambda address, asked, value: address.encode()
