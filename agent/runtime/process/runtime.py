"""The process runtime: each task is a process of its own on this host, under a supervisor of its own (shim.py).

Rules:
- A task's directory is written before anything is started, and removed last: whatever runs can be found again, and
  killed, from the directory alone.
- A supervisor that dies takes its task with it; what it left is killed by process group and by the task's id.
"""

import asyncio
import contextlib
import os
import signal
import socket
import sys
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec
import structlog

from essaim.agent.runtime import whoami
from essaim.agent.runtime.host import host_description
from essaim.agent.runtime.interface import (
    Health,
    LogLine,
    Phase,
    Rejected,
    RuntimeUnavailable,
    StartFailed,
    UnknownTask,
    View,
    Work,
)
from essaim.agent.runtime.memory_files import usual_roots
from essaim.agent.runtime.payloads import payloads
from essaim.agent.runtime.unfinished import Unfinished
from essaim.agent.runtime.views import Views
from essaim.cluster.node import EngineDescription, NodeDescription
from essaim.cluster.wire import LogRequest

from .health import check_forever
from .logs import read_logs
from .plan import DEFAULT_PORT, Place, ProcessPlan, User, make_plan, wanted_ports
from .ports import PortPool
from .supervision import Ids, ended, is_alive, kill_all_of, read_exit, read_ids, reap, spawn_shim
from .task_dirs import TaskDirs
from .users import resolve_user

STOP_SLACK = 5.0
"""Seconds beyond its grace period after which a supervisor that does not end is killed itself."""
KILL_AGAIN = 1.0
"""Seconds between attempts to kill what does not die."""
LOST = "its supervisor was killed"


@dataclass(slots=True)
class _Held:
    """A task in hand. `child` is its supervisor when this process started it; `follower` waits for the supervisor's
    end and runs the health check."""

    plan: ProcessPlan
    ids: Ids | None = None
    child: int | None = None
    follower: asyncio.Task[None] | None = None


class ProcessRuntime:
    """`data_addr`: the address that tasks bind; `environment`: the daemon's own, of which
    tasks inherit a little; `memory_dirs` are where secrets may lie, if not the usual."""

    def __init__(
        self,
        *,
        state_dir: Path,
        data_addr: str,
        environment: Mapping[str, str],
        chance: Callable[[], float],
        monotonic: Callable[[], float],
        log: structlog.typing.FilteringBoundLogger,
        hostname: str = "",
        memory_dirs: Sequence[Path] = (),
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        open_files: tuple[int, int] | None = None,
        node_dir: Path | None = None,
    ) -> None:
        """`open_files`: tasks' limit of descriptors, soft and hard, where their service names none; the daemon's own by
        default. `node_dir`: the directory above `state_dir` that is closed to other users, and opened a little for
        tasks that run as such."""
        self._open_files = open_files
        self._dirs = TaskDirs(state_dir / "tasks", memory_dirs or usual_roots(environment), node_dir)
        self._data_addr = data_addr
        self._environment = dict(environment)
        self._hostname = hostname or socket.gethostname()
        self._monotonic = monotonic
        self._sleep = sleep
        self._log = log
        self._ports = PortPool(chance)
        self._views = Views()
        self._unfinished = Unfinished()
        self._held: dict[str, _Held] = {}

    # Runtime

    async def describe(self) -> NodeDescription:
        description = await asyncio.to_thread(host_description, self._hostname)
        return msgspec.structs.replace(
            description,
            runtime="process",
            data_addr=self._data_addr,
            engine=EngineDescription(engine_version="process"),
        )

    async def recover(self, node_id: str) -> dict[str, View]:
        plans = await asyncio.to_thread(self._dirs.load, node_id)
        for plan in plans:
            self._held[plan.task_id] = one = _Held(plan)
            self._ports.keep(plan.task_id, [(e.protocol, e.address, e.port) for e in plan.endpoints])
            await self._take_up(one)
        return {plan.task_id: view for plan in plans if (view := self._views.get(plan.task_id))}

    async def prepare(self, work: Work, say: Callable[[str], None] = lambda _: None) -> list[str]:
        task_id = work.task.id
        if task_id in self._held:
            return _left_out(self._held[task_id].plan)
        return await self._unfinished.carry(task_id, self._write(work))

    async def start(self, task_id: str) -> None:
        one = self._one(task_id)
        view = self._views.get(task_id)
        if view is None or view.phase is not Phase.CREATED:
            return
        await self._unfinished.carry(task_id, self._spawn(one))

    def watch(self, task_id: str) -> AsyncGenerator[View, None]:
        return self._views.watch(task_id)

    async def revived(self, task_id: str) -> None:
        await self._views.until_running(task_id)

    async def stop(self, task_id: str) -> None:
        await self._unfinished.settled(task_id)
        one, view = self._held.get(task_id), self._views.get(task_id)
        if one is None or view is None or view.phase is not Phase.RUNNING or one.ids is None:
            return
        await self._signal_shim(one, signal.SIGTERM)
        try:
            async with asyncio.timeout(one.plan.shim.stop_grace + STOP_SLACK):
                await self._views.until_exited(task_id)
        except TimeoutError:
            await self._kill(one)

    async def remove(self, task_id: str) -> None:
        await self._unfinished.settled(task_id)
        one = self._held.get(task_id)
        if one is None:
            return
        one.ids = one.ids or await asyncio.to_thread(read_ids, self._dirs.of(task_id))
        if one.ids is not None:
            await self._kill(one)
        await self._reap(one)
        await asyncio.to_thread(self._dirs.erase, one.plan.node_id, task_id)
        self._ports.release(task_id)
        self._held.pop(task_id, None)
        self._views.drop(task_id)

    async def logs(self, request: LogRequest) -> AsyncGenerator[LogLine, None]:
        self._one(request.task_id)
        lines = read_logs(
            self._dirs.of(request.task_id) / "log", request, lambda: self._has_ended(request.task_id), self._sleep
        )
        async with contextlib.aclosing(lines):
            async for line in lines:
                yield line

    async def close(self) -> None:
        await self._unfinished.close()
        followers = [one.follower for one in self._held.values() if one.follower is not None]
        for follower in followers:
            follower.cancel()
        await asyncio.gather(*followers, return_exceptions=True)
        await asyncio.to_thread(self._dirs.tidy)

    def directory_of(self, task_id: str) -> Path:
        """Where the task's files are (plan.json, log/ ...)."""
        return self._dirs.of(task_id)

    # One task

    async def _write(self, work: Work) -> list[str]:
        task_id = work.task.id
        plan = await self._plan(work)
        try:
            await asyncio.to_thread(self._dirs.write, plan, payloads(work))
        except (OSError, Rejected) as error:
            await asyncio.to_thread(self._dirs.erase, plan.node_id, task_id)
            self._ports.release(task_id)
            raise Rejected(f"the task's files could not be made: {error}") from error
        self._held[task_id] = _Held(plan)
        self._views.put(task_id, View(Phase.CREATED))
        return _left_out(plan)

    async def _spawn(self, one: _Held) -> None:
        task_id = one.plan.task_id
        one.child, answer = await asyncio.to_thread(spawn_shim, self._dirs.of(task_id))
        if answer != "ok":
            await self._reap(one)
            await self._put_exit(one, View(Phase.EXITED, exit_code=127, error=answer))
            raise StartFailed(answer)
        await self._take_up(one)

    def _one(self, task_id: str) -> _Held:
        try:
            return self._held[task_id]
        except KeyError:
            raise UnknownTask(f"task {task_id} is not on this node") from None

    def _has_ended(self, task_id: str) -> bool:
        view = self._views.get(task_id)
        return view is None or view.phase is Phase.EXITED

    async def _plan(self, work: Work) -> ProcessPlan:
        spec = work.task.spec.container_spec
        user = await asyncio.to_thread(resolve_user, spec.user if spec else None, spec.groups if spec else None)
        needed = bool(payloads(work))
        files = await asyncio.to_thread(lambda: self._dirs.files_of(work.node.id, work.task.id, needed=needed))
        ports: dict[tuple[str, int], int] = {}
        try:
            for port, fixed in wanted_ports(work.task):
                key = (port.protocol or "tcp", port.target_port or DEFAULT_PORT)
                if key not in ports:
                    ports[key] = self._ports.take(work.task.id, key[0], self._data_addr, fixed)
            return make_plan(work, self._place(work.task.id, files, ports, user))
        except Rejected:
            self._ports.release(work.task.id)
            raise

    def _place(self, task_id: str, files: Path, ports: Mapping[tuple[str, int], int], user: User | None) -> Place:
        inherited = ("PATH", "HOME", "LANG", "LC_ALL", "TZ", "USER", "LOGNAME", "SHELL")
        return Place(
            address=self._data_addr,
            ports=ports,
            work_dir=str(self._dirs.of(task_id) / "work"),
            secrets_dir=str(files / "secrets"),
            configs_dir=str(files / "configs"),
            user=user,
            environment={name: self._environment[name] for name in inherited if name in self._environment},
            python=sys.executable,
            whoami=whoami.__file__,
            open_files=self._open_files,
        )

    async def _take_up(self, one: _Held) -> None:
        """Learn from the task's directory where it stands, and follow it from there."""
        task_id = one.plan.task_id
        stand = await asyncio.to_thread(self._dirs.stand, task_id)
        one.ids = ids = stand.ids
        if stand.exit is not None:
            await self._put_exit(one, View(Phase.EXITED, exit_code=stand.exit.code, error=stand.exit.error))
        elif ids is None:
            self._views.put(task_id, View(Phase.CREATED))
        elif not stand.alive:
            while await asyncio.to_thread(kill_all_of, task_id, ids) != []:
                await self._sleep(KILL_AGAIN)
            await self._put_exit(one, View(Phase.EXITED, exit_code=137, error=LOST, pid=ids.pid))
        else:
            health = Health.STARTING if one.plan.health else Health.NONE
            self._views.put(task_id, _running(one, ids, health))
            one.follower = asyncio.create_task(self._follow(one, ids), name=f"process {task_id}")

    async def _put_exit(self, one: _Held, view: View) -> None:
        """It has ended; its secrets go first, so that they are gone when anybody knows."""
        await asyncio.to_thread(self._dirs.erase_files, one.plan.node_id, one.plan.task_id)
        self._views.put(one.plan.task_id, view)

    async def _follow(self, one: _Held, ids: Ids) -> None:
        task_id = one.plan.task_id
        checks = asyncio.ensure_future(self._check(one, ids))
        try:
            await ended(ids.shim_pid, ids.shim_start)
        finally:
            checks.cancel()
            [problem] = await asyncio.gather(checks, return_exceptions=True)
            if isinstance(problem, Exception):
                self._log.error("the health check broke", task=one.plan.name, exc_info=problem)
        await self._reap(one)
        exited = await asyncio.to_thread(read_exit, self._dirs.of(task_id))
        while exited is None and await asyncio.to_thread(kill_all_of, task_id, ids) != []:
            await self._sleep(KILL_AGAIN)  # it has not ended while something of it lives
        code, error = (exited.code, exited.error) if exited else (137, LOST)
        await self._put_exit(one, View(Phase.EXITED, exit_code=code, error=error, pid=ids.pid))

    async def _check(self, one: _Held, ids: Ids) -> None:
        if one.plan.health is not None:
            await check_forever(
                one.plan.health,
                one.plan.shim,
                lambda health: self._views.put(one.plan.task_id, _running(one, ids, health)),
                monotonic=self._monotonic,
                sleep=self._sleep,
            )

    @staticmethod
    async def _reap(one: _Held) -> None:
        """Once only: the id may be another child's afterwards."""
        child, one.child = one.child, None
        if child is not None:
            await asyncio.to_thread(reap, child)

    async def _signal_shim(self, one: _Held, number: int) -> None:
        assert one.ids is not None
        if await asyncio.to_thread(is_alive, one.ids.shim_pid, one.ids.shim_start):
            with contextlib.suppress(ProcessLookupError):
                os.kill(one.ids.shim_pid, number)

    async def _kill(self, one: _Held) -> None:
        """The hard way: the supervisor dies, and all that it supervised with it."""
        await self._signal_shim(one, signal.SIGKILL)
        if left := await asyncio.to_thread(kill_all_of, one.plan.task_id, one.ids):
            raise RuntimeUnavailable(f"processes of the task cannot be killed: {', '.join(map(str, left))}")
        if one.follower is not None:
            await asyncio.wait([one.follower])


def _running(one: _Held, ids: Ids, health: Health) -> View:
    return View(
        Phase.RUNNING,
        health,
        pid=ids.pid,
        endpoints=tuple(one.plan.endpoints),
        host_ports=tuple(one.plan.host_ports),
    )


def _left_out(plan: ProcessPlan) -> list[str]:
    return [f"{key} has no meaning for a plain process" for key in plan.ignored]
