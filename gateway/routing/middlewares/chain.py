"""A router's middlewares out of the names that it is given: chains taken apart, and each part tried.

Pure: names and options in, middlewares with their options out.
"""

from essaim.gateway.protocol.numbers import shown
from essaim.gateway.routing.names import Definition, Names, Scope, meaning

from .build import make_middleware
from .vocabulary import OMITTED

MAX_CHAIN = 32
MOST_MIDDLEWARES = 200
"""Of a router, chains and their parts included: twenty chains that each contain the next one twice are a million."""
MOST_COMPARED = 1000
"""Chains of other services that are taken apart to see whether they mean the same."""
Made = tuple[str, dict[str, str]]
"""A middleware's kind and its options."""


class Chain:
    """A router's middlewares, checked; chains as their parts. Raises ValueError.

    `scope`: the service whose labels name them. The names in a chain are looked up where the chain is defined.
    """

    def __init__(self, scope: Scope, everything: Names[Made]) -> None:
        self._scope = scope
        self._everything = everything
        self._taken = self._compared = 0

    def resolve(self, options: dict[str, str]) -> list[Made]:
        """Those that the option `middlewares` names."""
        return self._resolve(options, self._scope, 0)

    def _resolve(self, options: dict[str, str], scope: Scope, depth: int) -> list[Made]:
        return [found for name in names_in(options) for found in self._middleware(name, scope, depth)]

    def _middleware(self, name: str, scope: Scope, depth: int) -> list[Made]:
        self._taken += 1
        if self._taken > MOST_MIDDLEWARES:
            raise ValueError(f"it has more than {MOST_MIDDLEWARES} middlewares")
        own = scope.middlewares.get(name)
        known = [Definition(scope, own, own)] if own else self._everything.get(name, ())
        found = meaning("middleware", name, known, scope, lambda one: self._told(name, one, depth))
        if not found:
            raise ValueError(f"there is no middleware {shown(name)}")
        return self._parts(name, found[0].meant, found[0].scope, depth)

    def _told(self, name: str, one: Definition[Made], depth: int) -> object:
        """What equal definitions share. Chains that read alike may lead to different parts, each in its own stack."""
        if one.meant[0] != "chain":
            return one.meant
        self._compared += 1
        if self._compared > MOST_COMPARED:
            raise ValueError(f"the chain {shown(name)} is defined by too many services: rename all but one")
        taken = self._taken
        parts = self._parts(name, one.meant, one.scope, depth)
        self._taken = taken
        return parts

    def _parts(self, name: str, made: Made, scope: Scope, depth: int) -> list[Made]:
        kind, options = made
        if kind in OMITTED:
            return []
        if kind != "chain":
            make_middleware(kind, options)
            return [made]
        if depth > MAX_CHAIN:
            raise ValueError(f"the chain {shown(name)} contains itself")
        return self._resolve(options, scope, depth + 1)


def names_in(options: dict[str, str]) -> list[str]:
    """The names of the option `middlewares`, without the provider's suffix."""
    return [one.strip().lower().partition("@")[0] for one in options.get("middlewares", "").split(",") if one.strip()]
