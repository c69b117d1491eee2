"""A router's middlewares out of the names that it is given: chains taken apart, and each part tried.

Pure: names and options in, middlewares with their options out.
"""

from collections.abc import Mapping

from essaim.gateway.numbers import shown

from .middlewares import make_middleware
from .vocabulary import OMITTED

MAX_CHAIN = 32
MOST_MIDDLEWARES = 200
"""Of a router, chains and their parts included: twenty chains that each contain the next one twice are a million."""
Made = tuple[str, dict[str, str]]
"""A middleware's kind and its options."""


class Chain:
    """A router's middlewares, checked; chains as their parts. Raises ValueError."""

    def __init__(self, own: Mapping[str, Made], everything: Mapping[str, Made]) -> None:
        self._own = own
        self._everything = everything
        self._taken = 0

    def resolve(self, options: dict[str, str], depth: int) -> list[Made]:
        """Those that the option `middlewares` names."""
        return [found for name in names_in(options) for found in self._middleware(name, depth)]

    def _middleware(self, name: str, depth: int) -> list[Made]:
        self._taken += 1
        if self._taken > MOST_MIDDLEWARES:
            raise ValueError(f"it has more than {MOST_MIDDLEWARES} middlewares")
        # A service's own come first: another one's that is called alike changes nothing for it.
        known = self._own.get(name) or self._everything.get(name)
        if known is None:
            raise ValueError(f"there is no middleware {shown(name)}")
        kind, options = known
        if kind in OMITTED:
            return []
        if kind != "chain":
            make_middleware(kind, options)
            return [(kind, options)]
        if depth > MAX_CHAIN:
            raise ValueError(f"the chain {shown(name)} contains itself")
        return self.resolve(options, depth + 1)


def names_in(options: dict[str, str]) -> list[str]:
    """The names of the option `middlewares`, without the provider's suffix."""
    return [one.strip().lower().partition("@")[0] for one in options.get("middlewares", "").split(",") if one.strip()]
