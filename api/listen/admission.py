"""Who may hold a connection: a bound on all of them and on those of one source, and who goes when a bound is reached.

- A connection *waits* (for its TLS handshake, for its next request) or is *served*. Only one that waits is put out.
- A newcomer is always let in while somebody waits: it takes the place of the longest waiting of its own source when
  that source has its fill, otherwise of the longest waiting of the source that has most of them. So a crowd that says
  nothing puts out itself, and whoever says at once what it wants gets through, also from the same address.
- When everybody is served, the newcomer is refused.

Pure: keys and sources in, keys out.

Rejected: refusing newcomers at a bound (the first to come would keep everybody else out); a bound without sources (one
host could take all places of a thousand).
"""

from collections.abc import Hashable, Iterator
from dataclasses import dataclass
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)


@dataclass(frozen=True, slots=True)
class Limits:
    """Numbers of connections, at least 1 each."""

    total: int
    by_source: int


class Full(Exception):
    """No place, and nobody who could be put out; the message says which bound."""


class Admission(Generic[K]):
    """The connections of one kind. A key names one of them."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self._sources: dict[K, str] = {}
        self._held: dict[str, int] = {}
        self._waiting: dict[str, dict[K, None]] = {}
        """By source, the longest waiting first; no source without any."""

    def __len__(self) -> int:
        return len(self._sources)

    def __contains__(self, key: object) -> bool:
        return key in self._sources

    def enter(self, key: K, source: str) -> K | None:
        """A newcomer, which waits. Whoever is to be put out for it has left already. Raises Full."""
        victim = self._victim(source)
        if victim is not None:
            self.leave(victim)
        self._sources[key] = source
        self._held[source] = self._held.get(source, 0) + 1
        self._waiting.setdefault(source, {})[key] = None
        return victim

    def served(self, key: K) -> None:
        """It waits no more: it cannot be put out. Unknown keys have left meanwhile, and are ignored here and below."""
        source = self._sources.get(key)
        if source is not None:
            self._forget_waiting(key, source)

    def waits(self, key: K) -> None:
        """It waits again, behind all others."""
        source = self._sources.get(key)
        if source is not None:
            self._forget_waiting(key, source)
            self._waiting.setdefault(source, {})[key] = None

    def leave(self, key: K) -> None:
        source = self._sources.pop(key, None)
        if source is None:
            return
        self._forget_waiting(key, source)
        self._held[source] -= 1
        if not self._held[source]:
            del self._held[source]

    def waiting(self) -> Iterator[K]:
        """All that could be put out."""
        for keys in self._waiting.values():
            yield from keys

    def _victim(self, source: str) -> K | None:
        if self._held.get(source, 0) >= self.limits.by_source:
            own = self._waiting.get(source)
            if not own:
                raise Full(f"{self._held[source]} connections from {source} are being served already")
            return next(iter(own))
        if len(self._sources) >= self.limits.total:
            if not self._waiting:
                raise Full(f"{len(self._sources)} connections are being served already")
            crowd = max(self._waiting, key=lambda each: len(self._waiting[each]))
            return next(iter(self._waiting[crowd]))
        return None

    def _forget_waiting(self, key: K, source: str) -> None:
        keys = self._waiting.get(source)
        if keys is not None and keys.pop(key, self) is None and not keys:
            del self._waiting[source]
