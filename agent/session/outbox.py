"""Task states on their way to the manager: newest by task, sent again in each new session.

There is no acknowledgement of a report: a session delivers in order, and when it breaks, whatever was sent last may
be lost. So the newest report of each task that the node still holds is kept and opens the next session.
"""

import asyncio

from essaim.cluster.wire import TaskReport


class Outbox:
    """`put` never waits. Reports of one task that pile up are merged to the last."""

    def __init__(self) -> None:
        self._latest: dict[str, TaskReport] = {}
        self._due: dict[str, TaskReport] = {}
        self._wake = asyncio.Event()

    def put(self, report: TaskReport) -> None:
        report = self._merged(report)
        self._latest[report.task_id] = report
        # Taken out first, so that the order is that of the newest reports.
        self._due.pop(report.task_id, None)
        self._due[report.task_id] = report
        self._wake.set()

    def forget(self, task_id: str) -> None:
        """The task is gone from the node; a report that has not left yet still does."""
        self._latest.pop(task_id, None)

    def reopen(self) -> None:
        """A new session begins: everything is due again."""
        self._due = self._latest | self._due
        if self._due:
            self._wake.set()

    async def take(self) -> list[TaskReport]:
        """Wait for reports and take all that are due."""
        await self._wake.wait()
        self._wake.clear()
        due, self._due = list(self._due.values()), {}
        return due

    def _merged(self, report: TaskReport) -> TaskReport:
        """A report without endpoints keeps those of the one before: they have not changed."""
        before = self._latest.get(report.task_id)
        if report.endpoints is None and before is not None and before.endpoints is not None:
            return TaskReport(report.task_id, report.status, before.endpoints)
        return report
