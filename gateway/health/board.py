"""The verdicts that this node's gateway goes by: its own where it checks, the shared ones elsewhere.

- `share.py` says what to check, `monitor.py` checks; the workers are told (`on_turn`) when what they come to turns.
- What the checks that are assigned to this gateway found is for the leader (`findings`); what it found beyond them is
  its own affair.
- What concerns very many endpoints at once (a gateway that comes or goes, a lost leader) is worked off in slices, so
  that the daemon's loop turns on: 50,000 endpoints are 200 ms of CPU. What runs on this node, and what a small change
  brings, is taken at once.
"""

import asyncio
from collections.abc import Callable, Iterable

import structlog

from .assignment import Assignment
from .check import check
from .monitor import Checker, Monitor
from .share import Found, Share
from .targets import Target
from .witness import answers

AT_ONCE = 500
SLICE = 50
"""More endpoints than AT_ONCE are worked off in slices, between which others have their turn. What one endpoint costs
depends on whether its group's checkers are ranked already: 4 us, or 60 with 100 gateways; a slice is 3 ms at most.
"""
REVIEW_SECONDS = 1.0
"""Between looks at what time alone makes this gateway check."""

NOT_CHECKED = Found(True, "not checked yet", "")


class Board:
    """`on_turn(key, found)`: the verdict to go by has turned. `on_news()`: there are findings for the leader.

    Use `start()` and `stop()`.
    """

    def __init__(
        self,
        node_id: str,
        on_turn: Callable[[str, Found], None],
        on_news: Callable[[], None],
        checker: Checker = check,
        log: structlog.BoundLogger | None = None,
    ) -> None:
        self._node_id = node_id
        self._on_turn = on_turn
        self._on_news = on_news
        self._monitor = Monitor(self._settled, checker, log)
        self._checker = checker
        self._assignment = Assignment(())
        self._gateways: list[str] = []
        self._share = Share(node_id, 0.0)
        self._targets: dict[str, Target] = {}
        # Those on this node.
        self._here: set[str] = set()
        self._services: dict[str, set[str]] = {}
        self._extra: set[str] = set()
        self._down: set[str] = set()
        # Endpoints of which the leader may have to be told.
        self._news: set[str] = set()
        self._reviewing: asyncio.Task[None] | None = None
        # Endpoints to look at again, and whether the leader is to be told of them.
        self._due: dict[str, bool] = {}
        self._working: asyncio.Task[None] | None = None

    # -- life -------------------------------------------------------------------------------------------------------

    def start(self) -> None:
        self._share = Share(self._node_id, self._now())
        self._monitor.start()
        self._reviewing = asyncio.get_running_loop().create_task(self._review())

    async def stop(self) -> None:
        tasks = [task for task in (self._reviewing, self._working) if task]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._monitor.stop()

    async def _review(self) -> None:
        while True:
            await asyncio.sleep(REVIEW_SECONDS)
            self._look_further()

    @staticmethod
    def _now() -> float:
        return asyncio.get_running_loop().time()

    # -- what happens -----------------------------------------------------------------------------------------------

    def update(self, gateways: list[str], services: dict[str, list[Target]]) -> None:
        """What a new table changes: who serves, and of changed services the endpoints that may get traffic and can be
        checked (none, of those that have left)."""
        left, fresh = set[str](), set[str]()
        for service_id, targets in services.items():
            left |= self._services.pop(service_id, set())
            if targets:
                self._services[service_id] = {target[0] for target in targets}
                fresh |= self._services[service_id]
                self._targets.update((target[0], target) for target in targets)
                self._here |= {target[0] for target in targets if target[1] == self._node_id}
        self._forget(left - fresh)
        if gateways != self._gateways:
            self._gateways, self._assignment = gateways, Assignment(gateways)
            few = len(self._targets) <= AT_ONCE
            # In C, as a copy: 50,000 keys in 1 ms.
            self._due = {} if few else dict.fromkeys(self._targets, True)
            self._look_again(set(self._targets if few else self._here), tell=True)
        else:
            self._look_again(fresh, tell=True)
        self._look_further()

    def _look_again(self, keys: set[str], *, tell: bool) -> None:
        """Work out anew who checks these: at once if they are few or of this node, else in slices."""
        if len(keys) > AT_ONCE:
            self._due |= dict.fromkeys(keys if tell else keys - self._due.keys(), tell)
            keys = self._here & keys
        for key in keys:
            self._due.pop(key, None)
        self._work(dict.fromkeys(keys, tell))
        if self._due and self._working is None:
            self._working = asyncio.get_running_loop().create_task(self._work_off())

    async def _work_off(self) -> None:
        try:
            while self._due:
                await asyncio.sleep(0)
                self._work(dict(self._due.popitem() for _ in range(min(SLICE, len(self._due)))))
        finally:
            self._working = None

    def _work(self, keys: dict[str, bool]) -> None:
        now = self._now()
        for key in keys:
            self._share.put(self._assignment, key, self._targets[key][1], now)
        self._aim(keys)
        self._tell({key for key, tell in keys.items() if tell})

    def _forget(self, keys: set[str]) -> None:
        for key in keys:
            del self._targets[key]
            self._due.pop(key, None)
            self._here.discard(key)
            self._share.drop(key)
            self._monitor.drop(key)
        for key in self._down & keys:
            self._on_turn(key, Found(True, "not checked any more", ""))
        self._down -= keys
        self._extra -= keys
        self._tell(keys)

    def trouble(self, key: str) -> None:
        """Traffic failed there: look at once, whoever checks it otherwise."""
        self._share.trouble(key, self._now())
        self._look_further()
        self._monitor.doubt(key)

    def session(self, is_open: bool) -> None:
        """The session with the leader has begun or ended."""
        self._share.session(is_open, self._now())

    def take_verdicts(self, full: bool, found: dict[str, dict[str, str]], unknown: list[str]) -> None:
        """The leader's word on what others found (see `Share.take_verdicts`)."""
        told = self._share.take_verdicts(full, found, unknown, self._now())
        for key in self._targets.keys() & told:
            self._compare(key)
        self._look_further()

    def _settled(self, key: str, up: bool, reason: str) -> None:
        if key in self._share.assigned:
            self._tell({key})
        self._compare(key)

    def _look_further(self) -> None:
        extra = self._share.beyond(self._is_down, self._now())
        if extra != self._extra:
            moved, self._extra = self._extra ^ extra, extra
            self._look_again(moved, tell=False)

    def _aim(self, keys: Iterable[str]) -> None:
        """Check these here, or no more."""
        for key in keys:
            if key in self._share.assigned or key in self._extra:
                _, _, address, port, options = self._targets[key]
                self._monitor.put(key, address, port, options)
            else:
                self._monitor.drop(key)
            self._compare(key)

    def _tell(self, keys: set[str]) -> None:
        if keys:
            self._news |= keys
            self._on_news()

    def _compare(self, key: str) -> None:
        found = self.found(key)
        if found.up == (key in self._down):
            (self._down.discard if found.up else self._down.add)(key)
            self._on_turn(key, found)

    def _is_down(self, key: str) -> bool:
        verdict = self._monitor.verdict(key)
        return verdict is not None and not verdict.up

    # -- what is asked ----------------------------------------------------------------------------------------------

    def found(self, key: str) -> Found:
        """The verdict to go by."""
        own = self._monitor.verdict(key)
        if own is not None and own.settled:
            return Found(own.up, own.reason, self._node_id)
        shared = self._share.shared(key)
        if shared is not None:
            return shared
        return NOT_CHECKED if own is None else Found(own.up, own.reason, "")

    def down(self) -> list[str]:
        """Keys of the endpoints that are to get no traffic."""
        return sorted(self._down)

    def is_proven(self, key: str) -> bool:
        """Whether this gateway's own check has found it up."""
        own = self._monitor.verdict(key)
        return own is not None and own.proven

    def is_known(self, key: str) -> bool:
        """Whether it is checked, here or elsewhere."""
        return key in self._targets

    def is_checked(self, key: str) -> bool:
        """Whether this gateway looks at it itself."""
        return self._monitor.verdict(key) is not None

    def findings(self, full: bool) -> tuple[dict[str, str], list[str]]:
        """For the leader: what assigned checks found since the last call, as the reason why it is down, or "" if up;
        and what there is no finding of any more. With `full` all findings."""
        keys, self._news = self._share.assigned if full else self._news, set()
        found: dict[str, str] = {}
        dropped: list[str] = []
        for key in keys:
            own = self._monitor.verdict(key)
            if own is not None and own.settled and key in self._share.assigned:
                found[key] = "" if own.up else own.reason
            elif not full:
                dropped.append(key)
        return found, dropped

    async def answers(self, node_id: str) -> bool | None:
        """Whether any endpoint on that node that is not known to be down answers now; None: none is known."""
        there = [target for key, target in self._targets.items() if target[1] == node_id and key not in self._down]
        return await answers(there, self._checker)

    @property
    def checks(self) -> int:
        """How many checks were made."""
        return self._monitor.checks

    @property
    def shares(self) -> tuple[int, int]:
        """How many endpoints are checked: assigned, and beyond that."""
        return len(self._share.assigned), len(self._extra)
