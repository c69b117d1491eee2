"""Traefik's TCP middlewares: who may have a connection that a TCP router takes.

Pure: addresses in, verdicts out.
"""

from collections.abc import Callable
from typing import Protocol

from essaim.gateway.protocol.addresses import Networks
from essaim.gateway.protocol.numbers import whole
from essaim.gateway.runtime.sources import Sources

Options = dict[str, str]


class Guard(Protocol):
    """Like `Sources`: each connection enters, refused or not, and leaves once."""

    def enter(self, address: str) -> bool: ...
    def leave(self, address: str) -> None: ...


class AllowList:
    def __init__(self, options: Options) -> None:
        self._networks = Networks(one.strip() for one in options["sourcerange"].split(",") if one.strip())

    def enter(self, address: str) -> bool:
        return address in self._networks

    def leave(self, address: str) -> None:
        pass


class InFlightConn:
    """So many connections of one source address at a time, by worker."""

    def __init__(self, options: Options) -> None:
        try:
            self._amount = whole(options["amount"], 1)
        except ValueError as error:
            raise ValueError(f"amount {error}") from None
        self._sources = Sources()

    def enter(self, address: str) -> bool:
        return self._sources.enter(address, self._amount)

    def leave(self, address: str) -> None:
        self._sources.leave(address)


KINDS: dict[str, tuple[Callable[[Options], Guard], str]] = {
    "ipallowlist": (AllowList, "sourcerange"),
    "ipwhitelist": (AllowList, "sourcerange"),
    "inflightconn": (InFlightConn, "amount"),
}


def make_guard(kind: str, options: Options) -> Guard:
    """Raises ValueError with what is wrong with it."""
    found = KINDS.get(kind)
    if found is None:
        raise ValueError(f"the gateway has no TCP middleware {kind!r}; it has: {', '.join(sorted(KINDS))}")
    make, option = found
    if option not in options:
        raise ValueError(f"{kind} needs the option {option}")
    return make(options)


class Guarded(Sources):
    """A listener's sources behind a route's guards: what layer 4 asks before it takes a connection."""

    def __init__(self, sources: Sources, guards: tuple[Guard, ...]) -> None:
        super().__init__()
        self._sources = sources
        self._guards = guards

    def enter(self, address: str, limit: int) -> bool:
        admitted = [self._sources.enter(address, limit), *(guard.enter(address) for guard in self._guards)]
        return all(admitted)

    def leave(self, address: str) -> None:
        self._sources.leave(address)
        for guard in self._guards:
            guard.leave(address)
