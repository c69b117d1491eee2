"""What a soak found: a line a fault as it happens, and a summary at the end that says how to repeat what went wrong."""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any


@dataclass
class Outcome:
    """One fault. Times in seconds. `findings`: what nothing excuses, in words."""

    index: int
    kind: str
    target: str = ""
    at: float = 0.0
    """Since the soak's start."""
    held: float = 0.0
    mended: float = 0.0
    """From the end of `heal` until all was well."""
    answered: int = 0
    failed: int = 0
    """Requests that failed and were allowed to."""
    write_pause: float = 0.0
    findings: list[str] = field(default_factory=list)
    kept: str = ""
    """Where logs and state are, if there are findings."""

    def line(self) -> str:
        head = f"#{self.index} at {self.at:.0f} s: {self.kind} ({self.target})"
        numbers = (
            f"held {self.held:.1f} s, well after {self.mended:.1f} s, {self.answered} answered, "
            f"{self.failed} failed as they may, writes paused {self.write_pause:.1f} s"
        )
        kept = [f"    logs and state are kept in {self.kept}"] if self.kept else []
        verdict = "ok" if not self.findings else f"{len(self.findings)} FINDINGS"
        return "\n".join([f"{head}: {verdict}; {numbers}", *(f"    {text}" for text in self.findings), *kept])


@dataclass
class Report:
    seed: str
    outcomes: list[Outcome] = field(default_factory=list)
    processes: list[dict[str, Any]] = field(default_factory=list)
    growth: list[str] = field(default_factory=list)
    """Processes that did not stop growing."""
    clusters: int = 0
    seconds: float = 0.0

    @property
    def bad(self) -> list[Outcome]:
        return [outcome for outcome in self.outcomes if outcome.findings]

    @property
    def failed(self) -> bool:
        return bool(self.bad or self.growth)

    def repeat(self, outcome: Outcome) -> str:
        return f"python -m tests.soak --seed {self.seed} --first {outcome.index} --count 1"

    def text(self) -> str:
        mended = sorted(outcome.mended for outcome in self.outcomes) or [0.0]
        answered, failed = (sum(getattr(o, name) for o in self.outcomes) for name in ("answered", "failed"))
        head = (
            f"soak of seed {self.seed}: {len(self.outcomes)} faults in {self.seconds:.0f} s on {self.clusters} clusters"
        )
        lines = [
            f"{head}, {len(self.bad)} with findings",
            f"    {answered} requests answered, {failed} failed as they may",
            f"    all was well {mended[len(mended) // 2]:.1f} s after a fault (median), {mended[-1]:.1f} s (most)",
        ]
        lines += [
            "    " + ", ".join(f"{k} {v}" for k, v in p.items() if k != "curve")
            for p in self.processes
            if p["minutes"] >= 2
        ]
        lines += self.growth
        for outcome in self.bad:
            lines.append(f"{outcome.line()}\n    repeat it: {self.repeat(outcome)}")
        return "\n".join(lines)

    def save(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(asdict(self), indent=1) + "\n")
