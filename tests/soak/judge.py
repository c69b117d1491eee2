"""Which failed requests a fault explains, and which slots ran twice.

Pure: times are passed in, as seconds of one monotonic clock.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Failure:
    """A request through `node` to the published port `port`, under way from `began` to `ended`."""

    node: str
    port: str
    began: float
    ended: float
    what: str

    def __str__(self) -> str:
        return f"{self.port} through {self.node} after {self.ended - self.began:.1f} s: {self.what}"


@dataclass(frozen=True)
class Permit:
    """Requests that a fault may make fail: through these nodes, to these ports; None stands for all."""

    nodes: frozenset[str] | None
    ports: frozenset[str] | None
    within: float = math.inf
    """Seconds after the fault's beginning in which such a request began."""

    def covers(self, failure: Failure, since: float) -> bool:
        return (
            (self.nodes is None or failure.node in self.nodes)
            and (self.ports is None or failure.port in self.ports)
            and failure.began <= since + self.within
        )


def through(*nodes: str) -> Permit:
    """Whatever goes through these nodes."""
    return Permit(frozenset(nodes), None)


def to(*ports: str, within: float = math.inf) -> Permit:
    """These ports, through any node."""
    return Permit(None, frozenset(ports), within)


def unexplained(failures: Iterable[Failure], permits: list[Permit], since: float, until: float) -> list[Failure]:
    """Failures that no permit covers; permits hold for requests that were under way between `since` and `until`."""
    return [
        failure
        for failure in failures
        if not (failure.began <= until and failure.ended >= since and any(p.covers(failure, since) for p in permits))
    ]


@dataclass
class Run:
    """A container that ran for certain from `first` to `last`: each is a time between two looks that saw it running."""

    slot: str
    container: str
    host: str
    first: float
    last: float


@dataclass
class Slots:
    """Which containers ran at the same time for one slot, found out by looks that come one after the other.

    A look at an Engine takes time: what it shows was so at some moment between `asked` and `answered`. Hence a
    container ran for certain from the first answer to the last question, and never in doubt by a slow look. While a
    host is in doubt (cut off, frozen, without Engine) its containers count neither way.
    """

    runs: dict[tuple[str, str], Run] = field(default_factory=dict)

    def seen(self, host: str, running: dict[str, str], asked: float, answered: float) -> None:
        """What an Engine shows as running: container -> slot."""
        for key in [key for key in self.runs if key[0] == host and key[1] not in running]:
            del self.runs[key]
        for container, slot in running.items():
            run = self.runs.get((host, container))
            if run is None:
                self.runs[host, container] = Run(slot, container, host, answered, answered)
            else:
                run.last = max(run.last, asked)

    def doubt(self, host: str) -> None:
        """Forget what was seen there."""
        for key in [key for key in self.runs if key[0] == host]:
            del self.runs[key]

    def twice(self) -> list[tuple[Run, Run, float]]:
        """Pairs that ran together for one slot, and for how many seconds at least."""
        found = []
        by_slot: dict[str, list[Run]] = {}
        for run in self.runs.values():
            for other in by_slot.setdefault(run.slot, []):
                together = min(run.last, other.last) - max(run.first, other.first)
                if together > 0:
                    found.append((other, run, together))
            by_slot[run.slot].append(run)
        return found
