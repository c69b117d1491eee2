"""Drives one task through its life on this node: carries out the steps of `lifecycle` and reports what comes of them.

- Steps run one at a time. Only the intent STOP interrupts one; cancelled work is found and undone by the next step.
- A report is made for every state reached, and for every change of health, ports or ids while it runs. States that
  the manager already knows are not reported again after a restart of the agent.
- A runtime that does not answer, or refuses to stop what runs, is asked again until it has done it: the state stays,
  and the task's status says why. A task is called ended only when the runtime says so.
- What has ended and runs again all the same (a call that came late, somebody who started it by hand) is stopped.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime
from typing import TypeVar

import msgspec
import structlog

from essaim.agent.runtime.interface import (
    Phase,
    Rejected,
    Runtime,
    RuntimeUnavailable,
    StartFailed,
    UnknownTask,
    Unprepared,
    View,
    Work,
)
from essaim.cluster.task import ContainerStatus, PortStatus, TaskState, TaskStatus
from essaim.cluster.wire import TaskReport

from .lifecycle import LOST, MESSAGES, UNHEALTHY, Event, Intent, Step, follow, intent_of, judge, next_step, resume

Answer = TypeVar("Answer")

RETRY_FIRST = 0.25
RETRY_MOST = 10.0
"""Seconds between attempts to reach a runtime that does not answer, doubling from the first to the second."""


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What every task manager of an agent shares. `gone` is called after a forgotten task was removed."""

    runtime: Runtime
    report: Callable[[TaskReport], None]
    gone: Callable[[str], None]
    now: Callable[[], datetime]
    sleep: Callable[[float], Awaitable[None]]
    log: structlog.typing.FilteringBoundLogger


class TaskManager:
    """`found` is what the runtime recovered of the task, if anything."""

    def __init__(self, work: Work, found: View | None, surroundings: Surroundings) -> None:
        self.work = work
        self.task_id = work.task.id
        self._around = surroundings
        self._log = surroundings.log.bind(task=work.task.name or work.task.id, task_id=work.task.id)
        self._known = work.task.state
        self._state = resume(self._known, found)
        self._view = found
        self._left_out: list[str] = []
        self._intent = intent_of(work.task.desired)
        self._forget = False
        self._changed = asyncio.Event()
        self._running: asyncio.Task[None] | None = None

    @property
    def state(self) -> TaskState:
        return self._state

    def start(self) -> None:
        self._running = asyncio.create_task(self._run(), name=f"task {self.task_id}")
        self._running.add_done_callback(self._broke)

    def update(self, work: Work) -> None:
        """The manager's newer version of the task; its intent never goes back."""
        self.work = work
        self._set_intent(intent_of(work.task.desired))

    def forget(self) -> None:
        """Stop it if it runs, remove everything of it, and end."""
        self._forget = True
        self._set_intent(Intent.STOP)
        self._changed.set()

    async def close(self) -> None:
        """End without touching what runs."""
        if self._running is not None:
            self._running.cancel()
            await asyncio.gather(self._running, return_exceptions=True)

    async def finished(self) -> None:
        """Wait until a forgotten task is gone."""
        if self._running is not None:
            await asyncio.wait([self._running])

    def _broke(self, done: asyncio.Task[None]) -> None:
        """A second mistake of ours ends one task's manager, not the agent."""
        error = None if done.cancelled() else done.exception()
        if error is not None:
            self._log.error("the task's manager broke", exc_info=error)

    def _set_intent(self, intent: Intent) -> None:
        if intent > self._intent:
            self._intent = intent
            self._changed.set()

    # The loop

    async def _run(self) -> None:
        try:
            await self._settle_the_past()
            await self._live()
        except Exception as error:
            await self._fail_by_mistake(error)
            await self._live()
        await self._insist(lambda: self._around.runtime.remove(self.task_id))
        self._around.gone(self.task_id)

    async def _live(self) -> None:
        """Step after step, until the task is to be forgotten."""
        while True:
            step = next_step(self._state, self._intent)
            if step is not Step.REST:
                outcome = await self._uninterrupted(step)
                if outcome is not None:
                    self._move(*outcome)
            elif self._forget:
                return
            else:
                await self._rest()

    async def _rest(self) -> None:
        """Until the intent changes. What has ended is not to run again meanwhile: another may have taken its place."""
        changed = asyncio.ensure_future(self._changed.wait())
        revived = asyncio.ensure_future(self._around.runtime.revived(self.task_id))
        waiting = [changed, revived] if self._state >= TaskState.COMPLETE else [changed]
        try:
            await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for each in (changed, revived):
                each.cancel()
        if changed.done():
            self._changed.clear()
        elif revived.done():
            self._log.warning("what had ended runs again, and is stopped")
            await self._insist(lambda: self._around.runtime.stop(self.task_id))

    async def _fail_by_mistake(self, error: Exception) -> None:
        """A mistake of ours: nothing of the task is to run when it is called failed. Its user learns of it."""
        self._log.error("the task's manager broke", exc_info=error)
        while True:
            try:
                await self._insist(lambda: self._around.runtime.stop(self.task_id))
            except Exception as again:
                self._log.error("a broken task could not be stopped", exc_info=again)
                await self._around.sleep(RETRY_MOST)
            else:
                break
        self._state = max(self._state, TaskState.FAILED)
        self._report("", f"task: internal error of the agent: {error!r}")

    async def _settle_the_past(self) -> None:
        """What a restart of the agent or the loss of the node left behind."""
        if self._state is TaskState.FAILED and self._known < TaskState.COMPLETE:
            self._report("started", LOST)
        elif self._state >= TaskState.COMPLETE and self._view and self._view.phase is Phase.RUNNING:
            # The manager gave the task up while this node could not be reached; it may run elsewhere by now.
            await self._insist(lambda: self._around.runtime.stop(self.task_id))

    async def _uninterrupted(self, step: Step) -> tuple[Event, str] | None:
        """The outcome of a step, or None when the intent STOP came first."""
        work = asyncio.ensure_future(self._carry_out(step))
        try:
            while not work.done():
                if self._intent is Intent.STOP and step not in (Step.STOP, Step.DISCARD):
                    return None
                changed = asyncio.ensure_future(self._changed.wait())
                try:
                    await asyncio.wait([work, changed], return_when=asyncio.FIRST_COMPLETED)
                finally:
                    changed.cancel()
                self._changed.clear()
            return work.result()
        finally:
            if not work.done():
                work.cancel()
                await asyncio.gather(work, return_exceptions=True)

    async def _carry_out(self, step: Step) -> tuple[Event, str]:
        if step in (Step.ACCEPT, Step.BEGIN_PREPARE, Step.BEGIN_START):
            return Event.WENT_ON, ""
        if step is Step.PREPARE:
            return await self._prepare()
        if step is Step.START:
            return await self._start()
        if step is Step.OBSERVE:
            return await self._observe(lambda view: None)
        if step is Step.DISCARD:
            await self._insist(lambda: self._around.runtime.remove(self.task_id), "stopping")
        else:
            await self._insist(lambda: self._around.runtime.stop(self.task_id), "stopping")
            await self._look_again()
        return Event.STOPPED, ""

    # Steps

    async def _prepare(self) -> tuple[Event, str]:
        try:
            self._left_out = await self._insist(lambda: self._around.runtime.prepare(self.work, self._say), "preparing")
        except (Rejected, StartFailed) as problem:
            return Event.REJECTED, str(problem)
        return Event.PREPARED, ""

    def _say(self, progress: str) -> None:
        """How far preparing is; not after its end, nor when the manager knows the task as further already."""
        if self._state is TaskState.PREPARING >= self._known and self._intent is not Intent.STOP:
            self._report(progress, "")

    async def _start(self) -> tuple[Event, str]:
        try:
            await self._insist(lambda: self._around.runtime.start(self.task_id), "starting")
        except Unprepared:
            return Event.UNDONE, ""
        except (StartFailed, Rejected, UnknownTask) as problem:
            return Event.ENDED_BADLY, str(problem)
        return await self._observe(lambda view: (Event.CAME_UP, "") if view.is_up else None)

    async def _observe(self, decide: Callable[[View], tuple[Event, str] | None]) -> tuple[Event, str]:
        """Follow the task until `decide` or its end says what became of it; tell the manager what changes meanwhile."""
        try:
            async with contextlib.aclosing(self._around.runtime.watch(self.task_id)) as views:
                async for view in views:
                    before, self._view = self._view, view
                    outcome = judge(view) or decide(view)
                    is_undecided = self._state is TaskState.RUNNING or outcome is None
                    if is_undecided and view.phase is Phase.RUNNING and view != before:
                        # While starting: its container runs, and its health is not known yet.
                        self._report(MESSAGES[self._state], "")
                    if outcome is not None:
                        break
        except UnknownTask:
            return Event.ENDED_BADLY, LOST
        assert outcome is not None, "a watch ends with EXITED, which always decides"
        if outcome[1] == UNHEALTHY:
            # Its replacement may need the same ports, and nobody should be served by it any longer.
            await self._insist(lambda: self._around.runtime.stop(self.task_id), "stopping")
            await self._look_again()
        return outcome

    async def _look_again(self) -> None:
        """The exit code of what was stopped, for its status."""
        with contextlib.suppress(UnknownTask):
            async with contextlib.aclosing(self._around.runtime.watch(self.task_id)) as views:
                async for view in views:
                    self._view = view
                    break

    async def _insist(self, call: Callable[[], Awaitable[Answer]], doing: str = "") -> Answer:
        """Call until the runtime has done it; what it answers (also an error) stands. `doing`: what the task's status
        says while it has not."""
        pause, said = RETRY_FIRST, ""
        while True:
            try:
                return await call()
            except RuntimeUnavailable as problem:
                self._log.warning("the runtime does not do what it is asked; trying again", reason=str(problem))
                if doing and str(problem) != said and self._known <= self._state < TaskState.COMPLETE:
                    said = str(problem)
                    self._report(f"{doing}: trying again", said)
            await self._around.sleep(pause)
            pause = min(pause * 2, RETRY_MOST)

    # Reports

    def _move(self, event: Event, error: str) -> None:
        before = self._state
        self._state = follow(before, event)
        if self._state <= self._known and self._state is not TaskState.RUNNING:
            return
        failed_early = self._state is TaskState.FAILED and before is TaskState.STARTING
        self._report("starting" if failed_early else MESSAGES[self._state], error)

    def _report(self, message: str, error: str) -> None:
        view = self._view
        if self._left_out and self._state is TaskState.RUNNING:
            message = f"{message}; left out: {', '.join(self._left_out)}"
        status = TaskStatus(
            timestamp=self._around.now(),
            state=self._state.label,
            message=message,
            err=error or None,
            healthy=view.health.verdict if view and view.phase is Phase.RUNNING else None,
        )
        if view is not None and self._state >= TaskState.STARTING:
            status = _with_view(status, view)
        self._known = max(self._known, self._state)
        self._log.info("task state", state=self._state.label, **({"error": error} if error else {}))
        up = self._state is TaskState.RUNNING and view is not None
        self._around.report(TaskReport(self.task_id, status, list(view.endpoints) if up and view else None))


def _with_view(status: TaskStatus, view: View) -> TaskStatus:
    container = ContainerStatus(container_id=view.container_id, pid=view.pid, exit_code=view.exit_code)
    ports = PortStatus(ports=list(view.host_ports)) if view.host_ports else None
    return msgspec.structs.replace(status, container_status=container, port_status=ports)
