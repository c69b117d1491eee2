"""How many of a replica's latest requests failed, for `essaim.eject.rate`.

Rules:
- The past is a window of time in PARTS parts of equal length, the last of which has only begun: a request is forgotten
  with its part, at an age between nine tenths of the window and all of it.
- Below `essaim.eject.least` requests there is no verdict: one failure of two is no rate.

Rejected: the last N requests by number. A replica that is asked once a minute would be judged by what it did an hour
ago.

Pure: outcomes and times in seconds in, verdict out. Memory is two lists of PARTS numbers, whatever the traffic.
"""

PARTS = 10


class FailureRate:
    """`now` never goes back."""

    __slots__ = ("_failed", "_part", "_seen", "failures", "requests", "seconds")

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.clear()

    def clear(self) -> None:
        self._part = 0
        self._seen = [0] * PARTS
        self._failed = [0] * PARTS
        # Sums of the two.
        self.requests = self.failures = 0

    def add(self, failed: bool, now: float) -> None:
        part = int(now * PARTS / self.seconds)
        if part != self._part:
            self._forget(part)
        place = part % PARTS
        self._seen[place] += 1
        self.requests += 1
        if failed:
            self._failed[place] += 1
            self.failures += 1

    def _forget(self, part: int) -> None:
        """Make room for a new part, and for those between in which nothing happened."""
        for old in range(max(self._part + 1, part - PARTS + 1), part + 1):
            place = old % PARTS
            self.requests -= self._seen[place]
            self.failures -= self._failed[place]
            self._seen[place] = self._failed[place] = 0
        self._part = part

    def reaches(self, percent: int, least: int) -> bool:
        """As of the last `add`."""
        return self.requests >= least and self.failures * 100 >= percent * self.requests

    def explain(self) -> str:
        return f"{self.failures} of {self.requests} requests in {self.seconds:g} s failed"
