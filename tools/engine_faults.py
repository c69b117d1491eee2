"""The faults that `engine_proxy` makes, as data: which calls of the Engine's API, and what becomes of them.

A rule names calls by method and path; the first rule that fits a call and has not been used up decides. Paths are
matched without their version and query (`/v1.41/containers/x/stop?t=3` is `/containers/x/stop`), whole.

Pure: no I/O, no clock.
"""

import json
import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import Any

ACTIONS = {
    "refuse": "answer with `status` and `message`; the Engine is not asked",
    "refuse-after": "the Engine acts, and its answer is replaced by `status` and `message`",
    "delay": "wait `seconds` before the Engine is asked",
    "delay-answer": "the Engine acts at once; its answer comes `seconds` later",
    "drop": "close the connection; the Engine is not asked",
    "drop-after": "the Engine acts; the connection is closed without its answer (a lost answer)",
    "hang": "the Engine is not asked, and no answer comes until the rule is taken away",
    "hang-after": "the Engine acts, and no answer comes until the rule is taken away",
    "cut": "pass on `bytes` of the answer's body, then close the connection",
    "mute": "pass on the answer's head and nothing of its body (events that never come)",
}
BEFORE_THE_ENGINE = frozenset({"refuse", "drop", "hang"})
"""Actions for which the Engine never learns of the call."""


@dataclass(frozen=True, slots=True)
class Rule:
    """`method` and `path` are regular expressions. `skip` calls that fit pass first; `times` calls meet the fault
    after that (0: all). `seconds` and `bytes` belong to actions that name them."""

    action: str
    method: str = ".*"
    path: str = ".*"
    status: int = 500
    message: str = "refused by the fault-injection proxy"
    seconds: float = 0.0
    bytes: int = 0
    skip: int = 0
    times: int = 0

    def __post_init__(self) -> None:
        if self.action not in ACTIONS:
            raise ValueError(f"unknown action {self.action!r}; known are {', '.join(ACTIONS)}")
        re.compile(self.method), re.compile(self.path)

    def fits(self, method: str, path: str) -> bool:
        return bool(re.fullmatch(self.method, method) and re.fullmatch(self.path, path))


@dataclass(slots=True)
class Call:
    """One call that came: `met` is the action that it met, empty when it passed untouched; `status` is what the client
    was answered, 0 for no answer."""

    method: str
    path: str
    met: str = ""
    status: int = 0


@dataclass(slots=True)
class Plan:
    """The rules in force and how often each was fitted, and the calls that came."""

    rules: list[Rule] = field(default_factory=list)
    calls: list[Call] = field(default_factory=list)
    _fitted: list[int] = field(default_factory=list)

    def replace(self, rules: Iterable[Rule]) -> None:
        self.rules = list(rules)
        self._fitted = [0] * len(self.rules)

    def decide(self, method: str, path: str) -> Rule | None:
        """The rule that this call meets; it counts as met from now on."""
        for number, rule in enumerate(self.rules):
            if not rule.fits(method, path):
                continue
            self._fitted[number] += 1
            count = self._fitted[number]
            if count > rule.skip and (not rule.times or count <= rule.skip + rule.times):
                return rule
        return None

    def count(self, method: str = ".*", path: str = ".*") -> int:
        """Calls that came, by patterns as in a rule."""
        fitting = Rule("drop", method, path)
        return sum(fitting.fits(call.method, call.path) for call in self.calls)


def plain_path(target: str) -> str:
    """The path of a request's target, without its version and query."""
    path = target.partition("?")[0]
    return re.sub(r"^/v\d+\.\d+(?=/)", "", path)


def rules_of(text: str) -> list[Rule]:
    """From JSON: a list of objects with a rule's fields. Raises ValueError."""
    try:
        return [Rule(**entry) for entry in json.loads(text)]
    except (TypeError, re.error) as error:
        raise ValueError(f"no list of rules: {error}") from error


def shown(things: Iterable[Rule] | Iterable[Call]) -> list[dict[str, Any]]:
    return [asdict(thing) for thing in things]
