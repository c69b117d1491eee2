"""Status reports on their way into the log: whatever comes in while one proposal is under way goes with the next.

So a lone report is written at once, and a flood of them at the pace of the log, some hundreds a proposal.
"""

import asyncio

from essaim.cluster.changes import NodeReport, Report, Verdict
from essaim.cluster.errors import Unavailable
from essaim.cluster.writer import Writer

from .loop import Logger

MOST = 500
"""Reports a proposal."""
RETRY = 0.5
"""Seconds to wait when the log takes nothing."""


class ReportWriter:
    """`add` from anywhere; `run` writes until it is cancelled."""

    def __init__(self, writer: Writer, log: Logger) -> None:
        self._writer = writer
        self._log = log
        self._pending: list[Report | Verdict | NodeReport] = []
        self._wake = asyncio.Event()

    def add(self, report: Report | Verdict | NodeReport) -> None:
        self._pending.append(report)
        self._wake.set()

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
                batch = self._pending[:MOST]
                try:
                    await self._writer.write(batch, atomic=False)
                except Unavailable as error:
                    self._log.warning("status reports wait for the log", waiting=len(self._pending), error=str(error))
                    await asyncio.sleep(RETRY)
                else:
                    del self._pending[: len(batch)]
