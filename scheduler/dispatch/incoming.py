"""What agents say: each kind of message goes to the part of the leader that it concerns.

Nothing here waits: reports wait on their own (`reports.py`), output goes to its reader's own store (`log_readers.py`).
A message that a bug makes impossible to take in is logged and ends no session, since the agent would send it again.
"""

from collections.abc import Callable

import msgspec

from essaim.cluster import wire
from essaim.cluster.changes import Report
from essaim.cluster.store import Store
from essaim.cluster.wire import Channel, FromAgent, TaskReport
from essaim.scheduler.loop import Logger

from .broadcast import Broadcast
from .node_states import NodeStates
from .reports import ReportWriter
from .session import Session
from .sessions import Sessions


class Incoming:
    def __init__(
        self,
        store: Store,
        sessions: Sessions,
        states: NodeStates,
        told: Broadcast,
        reports: ReportWriter,
        monotonic: Callable[[], float],
        log: Logger,
    ) -> None:
        self._store = store
        self._sessions = sessions
        self._states = states
        self._told = told
        self._reports = reports
        self._monotonic = monotonic
        self._log = log
        self._handlers: dict[type[FromAgent], Callable[..., None]] = {
            wire.Heartbeat: lambda session, _: session.heartbeat(),
            wire.Reports: self._take_reports,
            wire.RoutesApplied: self._take_routed,
            wire.Findings: lambda session, word: told.found(session.node_id, word),
            wire.NetworksApplied: lambda session, word: told.netted(session.node_id, word),
            wire.CertificatesApplied: lambda session, word: told.certified(session.node_id, word),
            wire.LogChunk: lambda session, chunk: session.logs.deliver(chunk),
            wire.Answered: lambda _, word: states.told(word, monotonic()),
            wire.Goodbye: lambda session, _: states.left(session, monotonic()),
            wire.Describe: self._take_description,
        }

    async def read(self, session: Session, channel: Channel) -> None:
        """Until the other side closes, sends what cannot be decoded, or another session has taken the place of this
        one."""
        while (data := await channel.receive()) is not None:
            try:
                message = wire.decode_from_agent(data)
            except msgspec.DecodeError as error:
                self._log.warning("cannot decode a message from an agent", node=session.node_id, error=str(error))
                return
            if not self._sessions.is_live(session):
                return
            self._states.heard(session, self._monotonic())
            self._take(session, message)

    def _take(self, session: Session, message: FromAgent) -> None:
        handler = self._handlers.get(type(message))
        try:
            if handler is not None:
                handler(session, message)
        except Exception as error:
            self._log.error(
                "a message of an agent could not be taken in",
                node=session.node_id,
                message=type(message).__name__,
                error=repr(error),
            )

    def _take_routed(self, session: Session, message: wire.RoutesApplied) -> None:
        for verdict in self._told.routed(session.node_id, message):
            self._reports.add(verdict)

    def _take_description(self, session: Session, message: wire.Describe) -> None:
        session.problem = message.problem
        self._states.described(session, message.description)

    def _take_reports(self, session: Session, message: wire.Reports) -> None:
        for report in message.reports:
            self._take_report(session.node_id, report)

    def _take_report(self, node_id: str, report: TaskReport) -> None:
        task = self._store.tasks.get(report.task_id)
        try:
            if task is not None and task.node_id == node_id and not task.is_terminal:
                status = self._told.traffic.as_reported(task, report)
                self._reports.add(Report(report.task_id, node_id, status, report.endpoints, report.kept))
        except KeyError as error:
            self._log.warning("a report of a task names no known state", node=node_id, task=report.task_id, state=error)
