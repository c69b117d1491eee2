"""Which workers hang: those whose beat stands still for too long, as far as that can be held against them.

Every worker adds one to its beat four times a second, from its event loop; the supervisor looks as often. A worker that
is stopped, loops or waits for something in the kernel does not.

Rules:
- A tick counts for twice its period at most. A supervisor that was itself stopped or late therefore holds no more than
  that against anybody, and looks again before it judges.
- Time that a worker wanted a processor and did not get one is not silence: on a busy host a healthy worker waits.
  A worker that has got nowhere for LONGEST seconds all the same is of no use to anybody.
- A worker is watched from its first tick on, whatever the counter says then.

Rejected: a question and an answer over the control connection (an answer waits behind the tables on the way); the wall
clock alone (a suspended machine would end every worker when it wakes).

Pure: readings in, verdicts out.
"""

from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)

PERIOD = 0.25
"""Seconds between two beats, and between two ticks."""
SILENT = 1.5
"""Seconds of silence that are a hung worker. A worker may be busy for a second: with collecting what is freed, or
with a big table."""
LONGEST = 15.0
"""Seconds without a beat after which it does not matter that no processor was to be had."""


@dataclass(frozen=True, slots=True)
class Reading:
    """`beat`: the worker's counter; `delayed`: seconds for which it has waited for a processor, since its start."""

    beat: int
    delayed: float


@dataclass(slots=True)
class _Watched:
    last: Reading
    silent: float = 0.0
    still: float = 0.0


class HangDetector(Generic[K]):
    def __init__(self) -> None:
        self._watched: dict[K, _Watched] = {}

    def tick(self, elapsed: float, readings: Mapping[K, Reading]) -> list[K]:
        """`elapsed`: seconds since the last tick. Returns those that hang; they are not watched any more."""
        step = min(elapsed, 2 * PERIOD)
        before, self._watched = self._watched, {}
        hung = []
        for key, reading in readings.items():
            watched = before.get(key)
            if watched is None or watched.last.beat != reading.beat:
                self._watched[key] = _Watched(reading)
                continue
            excused = max(0.0, reading.delayed - watched.last.delayed)
            watched.silent += max(0.0, step - excused)
            watched.still += step
            watched.last = reading
            if watched.silent >= SILENT or watched.still >= LONGEST:
                hung.append(key)
            else:
                self._watched[key] = watched
        return hung
