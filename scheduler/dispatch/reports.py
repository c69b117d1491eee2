"""Status reports on their way into the log: whatever comes in while one proposal is under way goes with the next.

So a lone report is written at once, and a flood of them at the pace of the log, some hundreds a proposal. While the log
takes nothing they wait, one for each state of a task, each verdict and each node: a newer one takes the place of the
older, so that what waits is bounded, and nothing outdated is written after what came later.
"""

import asyncio
from collections.abc import Hashable, Iterable
from itertools import islice

import msgspec

from essaim.cluster.changes import NodeReport, Report, Verdict
from essaim.cluster.errors import Unavailable
from essaim.cluster.kept import Kept
from essaim.cluster.task import TaskState
from essaim.cluster.writer import Writer
from essaim.scheduler.loop import Logger

MOST = 500
"""Reports a proposal."""
RETRY = 0.5
"""Seconds to wait when the log takes nothing."""

AnyReport = Report | Verdict | NodeReport


class Pending:
    """What waits, in the order in which it is to be written."""

    def __init__(self) -> None:
        self._reports: dict[Hashable, AnyReport] = {}
        self._latest: dict[tuple[str, str], TaskState] = {}
        """The latest state that waits of each task on a node. It is the last of them to be written: an earlier one
        waits only if it came first."""

    def __len__(self) -> int:
        return len(self._reports)

    def add(self, report: AnyReport) -> None:
        if isinstance(report, Report) and not self._is_news(report):
            return
        key = _key_of(report)
        # Taken out first, so that the order is that of the newest reports.
        older = self._reports.pop(key, None)
        self._reports[key] = report if older is None else _merged(older, report)

    def get(self, key: Hashable) -> AnyReport | None:
        return self._reports.get(key)

    def first(self, count: int) -> list[AnyReport]:
        return list(islice(self._reports.values(), count))

    def written(self, reports: Iterable[AnyReport]) -> None:
        """Forget these, but for what a newer one has taken the place of meanwhile."""
        for report in reports:
            key = _key_of(report)
            if self._reports.get(key) is not report:
                continue
            del self._reports[key]
            if isinstance(report, Report):
                task = (report.task_id, report.node_id)
                if self._latest.get(task) == report.status.progress:
                    del self._latest[task]

    def clear(self) -> None:
        self._reports.clear()
        self._latest.clear()

    def _is_news(self, report: Report) -> bool:
        """Not so when a later state of the task is before it in the queue: the store would take no notice."""
        task, progress = (report.task_id, report.node_id), report.status.progress
        if self._latest.get(task, progress) > progress:
            return False
        self._latest[task] = progress
        return True


def _key_of(report: AnyReport) -> Hashable:
    """Reports of one key take each other's place."""
    if isinstance(report, NodeReport):
        return report.node_id
    if isinstance(report, Verdict):
        return (report.task_id, report.node_id)
    return (report.task_id, report.node_id, report.status.state)


def _merged(older: AnyReport, newer: AnyReport) -> AnyReport:
    """The newer one, with what only the older one says."""
    if isinstance(older, NodeReport) and isinstance(newer, NodeReport):
        kept = newer.kept if newer.description else _kept_of_both(older, newer, "description")
        return msgspec.structs.replace(newer, description=newer.description or older.description, kept=kept)
    if isinstance(older, Report) and isinstance(newer, Report) and newer.endpoints is None:
        return msgspec.structs.replace(newer, endpoints=older.endpoints, kept=_kept_of_both(older, newer, "endpoints"))
    return newer


def _kept_of_both(older: Report | NodeReport, newer: Report | NodeReport, part: str) -> Kept | msgspec.UnsetType:
    """What is unknown of the newer one, and inside the part that it takes from the older one."""
    if not isinstance(older.kept, Kept):
        return newer.kept
    known = newer.kept if isinstance(newer.kept, Kept) else Kept()
    return known.with_parts({part: older.kept.inside.get(part)}) or msgspec.UNSET


class ReportWriter:
    """`add` from anywhere; `run` writes until it is cancelled."""

    def __init__(self, writer: Writer, log: Logger) -> None:
        self._writer = writer
        self._log = log
        self._pending = Pending()
        self._wake = asyncio.Event()

    def add(self, report: AnyReport) -> None:
        self._pending.add(report)
        self._wake.set()

    @property
    def is_waiting(self) -> bool:
        """Anything is on its way."""
        return len(self._pending) > 0

    def of_node(self, node_id: str) -> NodeReport | None:
        """What is on its way about a node's own state."""
        found = self._pending.get(node_id)
        return found if isinstance(found, NodeReport) else None

    def clear(self) -> None:
        """Forget what was not written: agents tell the next leader again."""
        self._pending.clear()

    async def run(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            # All that has arrived in this turn of the event loop goes together.
            await asyncio.sleep(0)
            while self._pending:
                batch = self._pending.first(MOST)
                try:
                    await self._write(batch)
                except Unavailable as error:
                    self._log.warning("status reports wait for the log", waiting=len(self._pending), error=str(error))
                    await asyncio.sleep(RETRY)
                else:
                    self._pending.written(batch)

    async def _write(self, reports: list[AnyReport]) -> None:
        """One that cannot be written holds up no other. Raises Unavailable."""
        try:
            await self._writer.write(reports, atomic=False)
        except Unavailable:
            raise
        except Exception as error:
            if len(reports) == 1:
                self._log.error("a status report cannot be written", report=repr(reports[0]), error=repr(error))
                return
            middle = len(reports) // 2
            await self._write(reports[:middle])
            await self._write(reports[middle:])
