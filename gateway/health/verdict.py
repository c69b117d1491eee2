"""When checks turn an endpoint's verdict: `fall` failures in a row take it down, `rise` successes bring it back.

A new endpoint is up until a check says otherwise, so that a replica that has just been declared healthy by the cluster
serves at once.

Pure: outcomes in, verdict out.
"""

from essaim.gateway.protocol.options import HealthOptions


class Verdict:
    """The verdict on one endpoint. `reason` says why, in words for a user."""

    __slots__ = ("_streak", "proven", "reason", "up")

    def __init__(self) -> None:
        self.up = True
        # A check has passed since it last went down: it is up for more than the benefit of the doubt.
        self.proven = False
        self.reason = "not checked yet"
        # Outcomes in a row that speak against the verdict.
        self._streak = 0

    @property
    def settled(self) -> bool:
        """Checks have come to a conclusion."""
        return self.proven or not self.up

    @property
    def doubted(self) -> bool:
        """The last checks contradict the verdict, but not often enough to turn it yet."""
        return self._streak > 0

    def observe(self, failure: str | None, options: HealthOptions) -> bool:
        """Take one check's outcome (None: passed). Returns whether the verdict turned."""
        if (failure is None) == self.up:
            self._streak = 0
            self.proven = self.up
            self.reason = failure or "check passed"
            return False
        self._streak += 1
        needed = options.fall if self.up else options.rise
        if self._streak < needed:
            outcome = f"failed ({failure})" if failure else "passed"
            self.reason = f"{self._streak} of {needed} checks {outcome}"
            return False
        self._streak = 0
        self.up = self.proven = failure is None
        self.reason = failure or "check passed"
        return True
