"""What clients were told of their writes, and whether what managers show agrees with it.

Pure: no I/O; who reads and writes calls in.

Each write creates one object of a unique name. It ends acknowledged, refused (the manager said that it never takes
effect) or uncertain (anything else). Rules, which are linearizability for objects that are created once and stay:
- A fresh read shows every name that was acknowledged, or shown by any manager, before the read began.
- A read marked as stale (no leader) shows at least what the same process showed before the read began.
- No read shows a name twice, a refused one, or one that nobody wrote.
"""

import itertools
from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field


class Violation(AssertionError):
    """A promise was broken; the message says which, where and by which names."""


@dataclass(frozen=True)
class Expectation:
    """What a read through one manager that begins now must show, as `fresh`, and at least if it turns out stale."""

    manager: str
    life: int
    fresh: list[str]
    stale: frozenset[str]


@dataclass
class History:
    """Call `began` before a write is sent, then one of `acknowledged`, `refused` or nothing (uncertain)."""

    written: set[str] = field(default_factory=set)
    refusals: set[str] = field(default_factory=set)
    promises: dict[str, None] = field(default_factory=dict)
    """Names that every later read shows, in the order in which that became certain."""
    acknowledgements: list[float] = field(default_factory=list)
    """When writes were acknowledged, in seconds."""
    fresh_reads: int = 0
    stale_reads: int = 0
    _lives: Counter[str] = field(default_factory=Counter)
    _shown: dict[str, frozenset[str]] = field(default_factory=dict)
    """By the process that a manager is now."""

    def began(self, name: str) -> None:
        self.written.add(name)

    def acknowledged(self, name: str, now: float) -> None:
        self.promises[name] = None
        self.acknowledgements.append(now)

    def refused(self, name: str) -> None:
        self.refusals.add(name)

    @property
    def uncertain(self) -> set[str]:
        return self.written - self.refusals - self.promises.keys()

    def restarted(self, manager: str) -> None:
        """Its process ended: until a leader is known again the next one may know less."""
        self._lives[manager] += 1
        self._shown.pop(manager, None)

    def expect(self, manager: str) -> Expectation:
        """Call before a read is sent; reads may overlap."""
        return Expectation(manager, self._lives[manager], list(self.promises), self._shown.get(manager, frozenset()))

    def read(self, expected: Expectation, names: Collection[str], *, stale: bool) -> None:
        """Check the answer to a read. Raises Violation."""
        manager = expected.manager
        self._check_possible(manager, names)
        if stale:
            self.stale_reads += 1
            _require(manager, expected.stale, names, "showed before and no longer shows")
        else:
            self.fresh_reads += 1
            _require(manager, expected.fresh, names, "does not show what was certain before")
        if expected.life == self._lives[manager]:
            self._shown[manager] = self._shown.get(manager, frozenset()).union(names)
        self.promises.update(dict.fromkeys(names))

    def _check_possible(self, manager: str, names: Collection[str]) -> None:
        twice = sorted(name for name, count in Counter(names).items() if count > 1)
        if twice:
            raise Violation(f"{manager} shows twice: {twice[:5]}")
        if wrong := self.refusals.intersection(names):
            raise Violation(f"{manager} shows what was refused for good: {sorted(wrong)[:5]}")
        if strange := set(names) - self.written:
            raise Violation(f"{manager} shows what nobody wrote: {sorted(strange)[:5]}")

    def longest_pause(self, start: float, end: float) -> float:
        """The longest time between two acknowledgements that touches `start`..`end`, in seconds."""
        before = [t for t in self.acknowledgements if t < start][-1:] or [start]
        times = [*before, *(t for t in self.acknowledgements if start <= t <= end), end]
        return max(later - earlier for earlier, later in itertools.pairwise(times))


def _require(manager: str, expected: Iterable[str], names: Collection[str], what: str) -> None:
    found = set(names)
    missing = [name for name in expected if name not in found]
    if missing:
        raise Violation(f"{manager} {what}: {len(missing)} names, {missing[:5]} first")
