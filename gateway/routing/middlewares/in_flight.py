"""Traefik's inFlightReq: so many requests of one source at a time; more are answered with 429.

Pure: sources in, verdicts out.
"""


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
