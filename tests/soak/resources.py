"""Memory, descriptors and processor time of every daemon and gateway worker, followed over the whole soak.

A process is known by its pid and start time: a restarted daemon begins anew. What counts as growth is decided in
`Series` (pure), which leaves the first minutes out: a process fills its caches and logs first.
"""

import os
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .world import World, command_line

WARM = 60.0
"""Seconds after which a process is taken as warmed up."""
POINTS = 50
LONG = 1800.0
"""Seconds of life after which a process must have reached its plateau."""
GROWTH_MOST = 0.3
"""MiB a minute that are no growth in the second half of that: 18 in an hour."""
MEMORY_MOST = 220.0
"""MiB that a daemon may have, whatever it has been through."""
WORKER_MOST = 120.0
DESCRIPTORS_MOST = 400
TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Sample:
    at: float
    memory: float
    """Resident, MiB."""
    descriptors: int
    cpu: float
    """Seconds of processor time since the start."""


def slope(samples: list[Sample]) -> float:
    """MiB a minute by least squares; 0 with fewer than three."""
    points = [(s.at / 60, s.memory) for s in samples]
    if len(points) < 3:
        return 0.0
    mean_x = sum(x for x, _ in points) / len(points)
    mean_y = sum(y for _, y in points) / len(points)
    spread = sum((x - mean_x) ** 2 for x, _ in points)
    return sum((x - mean_x) * (y - mean_y) for x, y in points) / spread if spread else 0.0


@dataclass
class Series:
    """One process. `name` is `h1 essaimd` or `h1 worker`."""

    name: str
    samples: list[Sample] = field(default_factory=list)

    @property
    def slope(self) -> float:
        """MiB a minute once it is warm; 0 with too little to go by."""
        return slope([s for s in self.samples if s.at >= self.samples[0].at + WARM])

    def growth(self) -> list[str]:
        """That it still grows in the second half of a long life; nothing when it has reached a plateau or is young."""
        first, last = self.samples[0].at, self.samples[-1].at
        late = slope([s for s in self.samples if s.at >= (first + last) / 2])
        if last - first < LONG or late <= GROWTH_MOST:
            return []
        minutes = (last - first) / 60
        return [f"{self.name} has no plateau: after {minutes:.0f} minutes it still grows by {late:.2f} MiB a minute"]

    def summary(self) -> dict[str, Any]:
        """`curve`: (seconds since the first look, MiB), some fifty points."""
        last = self.samples[-1]
        return {
            "process": self.name,
            "minutes": round((last.at - self.samples[0].at) / 60, 1),
            "first_mib": round(self.samples[0].memory, 1),
            "most_mib": round(max(s.memory for s in self.samples), 1),
            "last_mib": round(last.memory, 1),
            "mib_a_minute": round(self.slope, 2),
            "most_descriptors": max(s.descriptors for s in self.samples),
            "cpu_seconds": round(last.cpu, 1),
            "curve": [
                (round(s.at - self.samples[0].at), round(s.memory, 1))
                for s in self.samples[:: 1 + len(self.samples) // POINTS]
            ],
        }

    def excess(self) -> list[str]:
        """What is beyond the bounds now."""
        last = self.samples[-1]
        most = WORKER_MOST if "worker" in self.name else MEMORY_MOST
        found = []
        if last.memory > most:
            found.append(f"{self.name} has {last.memory:.0f} MiB of memory (limit {most:.0f})")
        if last.descriptors > DESCRIPTORS_MOST:
            found.append(f"{self.name} has {last.descriptors} descriptors open (limit {DESCRIPTORS_MOST})")
        return found


class Resources:
    def __init__(self, world: World) -> None:
        self._world = world
        self.series: dict[tuple[int, str], Series] = {}

    def look(self) -> list[Series]:
        """Sample every process that is there; their series."""
        seen = []
        for host in self._world.hosts:
            daemon = self._world.cluster.daemons[host.name]
            named = dict.fromkeys(self._world.gateway_workers(host), "worker")
            if daemon.poll() is None and "essaimd" in command_line(daemon.pid):
                named[daemon.pid] = "essaimd"
            for pid, kind in named.items():
                try:
                    start, sample = measured(pid)
                except (OSError, ValueError):
                    continue  # it has just ended
                series = self.series.setdefault((pid, start), Series(f"{host.name} {kind}"))
                series.samples.append(sample)
                seen.append(series)
        return seen

    def growth(self) -> list[str]:
        return [text for series in self.series.values() for text in series.growth()]

    def summary(self) -> list[dict[str, Any]]:
        return sorted((s.summary() for s in self.series.values()), key=lambda s: str(s["process"]))


def measured(pid: int) -> tuple[str, Sample]:
    """When a process started, in the kernel's ticks, and what it has now. Raises OSError."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    status = Path(f"/proc/{pid}/status").read_text()
    resident = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS:")) / 1024
    used = (int(fields[11]) + int(fields[12])) / TICKS
    return fields[19], Sample(time.monotonic(), resident, len(os.listdir(f"/proc/{pid}/fd")), used)
