"""The agent: a node's hands. It does what the leading manager assigns, and tells it what became of it.

- Without a manager everything that runs carries on; the agent never acts on the lack of a message.
- After a restart it takes charge again of what it finds (`Runtime.recover`). The first full assignment decides what of
  it is right and stays untouched, and what is stopped and removed.
- A runtime that does not answer (an Engine that starts after the daemon) is waited for: the session is open meanwhile,
  the cluster is told why no task can start here, and what is assigned waits. After a minute without any word on
  the tasks of the last run the agent leaves its session, and the cluster replaces them elsewhere.
- Each task has a manager of its own (`task_manager`); this module only hands out messages.
"""

import asyncio
import contextlib
import random
from collections.abc import Awaitable, Callable, Coroutine
from datetime import datetime
from functools import partial
from pathlib import Path

import structlog

from essaim.agent.keepers.certificates import BookKeeper, OnBook
from essaim.agent.keepers.networks import NetworkKeeper
from essaim.agent.keepers.routes import RouteKeeper
from essaim.agent.keepers.verdicts import Health, VerdictKeeper
from essaim.agent.runtime.interface import Runtime, RuntimeUnavailable, View
from essaim.agent.session.description import Describing
from essaim.agent.session.guarded import Steady
from essaim.agent.session.log_streams import LogStreams
from essaim.agent.session.outbox import Outbox
from essaim.agent.session.session import Hooks, Refusal, Session, SessionEnded
from essaim.agent.session.witness import Look, Witness
from essaim.agent.tasks.assigned import Assigned
from essaim.agent.tasks.clearing import SLACK, longest_grace, until_ended
from essaim.agent.tasks.task_manager import RETRY_FIRST, RETRY_MOST, Surroundings, TaskManager
from essaim.cluster import wire
from essaim.cluster.node import Node, NodeSpec, TLSInfo
from essaim.cluster.overlay import OverlayNetwork
from essaim.cluster.routes import RouteTable
from essaim.cluster.task import Task, TaskStatus
from essaim.cluster.walls import words
from essaim.cluster.wire import Channel, ToAgent

GOODBYE_SECONDS = 2.0
"""How long a daemon that stops waits for the leader to know that it means to come back."""
END_SECONDS = 3.0
"""How long `stop` waits for what it has cancelled."""


def _ignore(_: object) -> None:
    """A callback that nobody asked for."""


class Agent:
    """`dial` opens a session to some manager and raises OSError when none can be reached.

    Callbacks, all from the event loop: `on_routes` applies a route table and returns the version served by from then
    on; `open_requests` tells what is open per draining task; `on_managers` gets the addresses to remember,
    `on_redirect` that of the leader (empty: unknown), `on_node` the node's own object, `on_refused` the reason why
    the cluster does not know this node any more (its tasks have been stopped by then), `on_tunnel` the address of a
    manager that wants a connection to this node's Engine, and its key, `on_networks` the overlay networks that the
    node is to be on, `on_certificates` the certificate book. `networks_settled` returns when the networks hold here.
    `health` are the gateway's verdicts, `look` tells whether any replica on another node answers the gateway.
    `tls_info` tells what the node trusts, for its description, `on_trust` hears what it is to trust.
    """

    def __init__(
        self,
        *,
        node_id: str,
        runtime: Runtime,
        dial: Callable[[], Awaitable[Channel]],
        state_dir: Path,
        now: Callable[[], datetime],
        monotonic: Callable[[], float],
        log: structlog.typing.FilteringBoundLogger,
        on_routes: Callable[[RouteTable], Awaitable[int]] | None = None,
        open_requests: Callable[[], dict[str, int]] = dict,
        unfit: Callable[[], list[str]] | None = None,
        health: Health | None = None,
        look: Look | None = None,
        on_certificates: OnBook | None = None,
        on_managers: Callable[[list[str]], None] = _ignore,
        on_redirect: Callable[[str], None] = _ignore,
        on_node: Callable[[Node], None] = _ignore,
        on_refused: Callable[[str], None] = _ignore,
        on_networks: Callable[[list[OverlayNetwork]], None] = _ignore,
        networks_settled: Callable[[], Awaitable[None]] | None = None,
        on_tunnel: Callable[[str, str], None] | None = None,
        tls_info: Callable[[], TLSInfo | None] = lambda: None,
        on_trust: Callable[[TLSInfo], None] = _ignore,
        chance: Callable[[], float] = random.random,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self.node_id = node_id
        self._on_trust = on_trust
        self._runtime = runtime
        self._sleep = sleep
        self._monotonic = monotonic
        self._log = log.bind(node_id=node_id)
        self._on_managers, self._on_redirect = on_managers, on_redirect
        self._on_node, self._on_refused = on_node, on_refused
        self._networks = NetworkKeeper(state_dir / "networks.msgpack", on_networks, networks_settled, self._log)
        self._steady = Steady(sleep, self._log)
        self._outbox = Outbox()
        self._assigned = Assigned()
        self._managers: dict[str, TaskManager] = {}
        self._found: dict[str, View] = {}
        self._node = Node(id=node_id, spec=NodeSpec())
        self._recovered = asyncio.Event()
        self._early: list[wire.Assignments] = []
        self._describing = Describing(
            node_id, runtime, self._recovered, tls_info=tls_info, monotonic=monotonic, sleep=sleep
        )
        self._around = Surroundings(runtime, self._outbox.put, self._gone, now, sleep, self._log)
        self._routes = RouteKeeper(
            state_dir / "routes.msgpack", on_routes, open_requests, unfit=unfit, sleep=sleep, log=self._log
        )
        self._verdicts = VerdictKeeper(health, sleep)
        self._books = BookKeeper(on_certificates)
        hooks = Hooks(self._hello, self._handle, self._jobs)
        self._session = Session(dial, hooks, chance=chance, monotonic=monotonic, sleep=sleep, log=self._log)
        self._logs = LogStreams(runtime, self._session.send)
        self._witness = Witness(look, self._session.send)
        self._farewell = asyncio.Event()
        self._handlers: dict[type[ToAgent], Callable[..., Awaitable[None] | None]] = {
            wire.Welcome: self._welcomed,
            wire.Redirect: self._redirected,
            wire.Managers: lambda message: self._on_managers(message.managers),
            wire.NodeChanged: lambda message: self._node_changed(message.node),
            wire.Trust: lambda message: self._on_trust(message.tls_info),
            wire.Assignments: self._assign,
            wire.Routes: lambda message: self._routes.offer(message.table),
            wire.RoutesChanged: lambda message: self._routes.change(message.delta),
            wire.Verdicts: self._verdicts.take,
            wire.Certificates: self._books.take,
            wire.Networks: self._networks.take,
            wire.OpenTunnel: lambda message: on_tunnel(message.address, message.key) if on_tunnel else None,
            wire.LogRequest: self._logs.open,
            wire.LogCredit: self._logs.credit,
            wire.Ask: self._witness.ask,
            wire.Farewell: lambda message: self._farewell.set(),
            wire.LogCancel: lambda message: self._logs.cancel(message.request),
        }
        self._life: asyncio.Task[None] | None = None
        self._strays: dict[str, asyncio.Task[None]] = {}
        self._turned_away: set[str] = set()

    async def start(self) -> None:
        """Returns at once; the session is opened, and opened again, in the background."""
        self._life = asyncio.create_task(self._live(), name="agent")

    async def stop(self, *, keep_tasks: bool) -> list[str]:
        """End the session; with `keep_tasks` what runs goes on, without it is stopped and removed.

        Takes bounded time, whatever the runtime and the manager do. The names of tasks that could not be stopped.
        """
        if keep_tasks:
            await self._say_goodbye()
        if self._life is not None:
            self._life.cancel()
            await asyncio.wait([self._life], timeout=END_SECONDS)
        await self._logs.close()
        await self._witness.close()
        left = [] if keep_tasks else await self._clear_in_time()
        for stray in self._strays.values():
            stray.cancel()
        ends = [asyncio.ensure_future(manager.close()) for manager in self._managers.values()]
        if ends or self._strays:
            await asyncio.wait([*ends, *self._strays.values()], timeout=END_SECONDS)
        return left

    async def _say_goodbye(self) -> None:
        """Have the leader know that this node means to come back, so that its tasks are left where they are."""
        if not self._session.is_open or self._session.manager_version < wire.SESSION:
            return
        self._farewell.clear()
        with contextlib.suppress(SessionEnded, TimeoutError):
            async with asyncio.timeout(GOODBYE_SECONDS):
                await self._session.send(wire.Goodbye())
                await self._farewell.wait()

    def gateway_changed(self) -> None:
        """A verdict of the node's gateway has turned."""
        self._routes.poke()

    def findings_changed(self) -> None:
        """The gateway's share of the checks has found something."""
        self._verdicts.poke()

    @property
    def is_connected(self) -> bool:
        """A session with the leader is open."""
        return self._session.is_open

    async def _live(self) -> None:
        with self._steady.contained("serving by the last run's route table"):
            await self._routes.recover()
        with self._steady.contained("serving by the last run's networks"):
            await self._networks.recover()
        self._describing.begin()
        recovering = asyncio.create_task(self._recover(), name="recovering tasks")
        try:
            await self._session.run()
        except Refusal as refusal:
            self._log.error("the cluster does not know this node any more; its tasks are stopped", reason=str(refusal))
            await recovering
            await self._clear()
            self._on_refused(str(refusal))
        finally:
            recovering.cancel()
            await asyncio.gather(recovering, return_exceptions=True)

    async def _recover(self) -> None:
        pause = RETRY_FIRST
        while True:
            try:
                self._found = await self._runtime.recover(self.node_id)
            except RuntimeUnavailable as problem:
                self._log.warning("the runtime does not answer; trying again", reason=str(problem), in_seconds=pause)
                self._describing.cannot_recover(str(problem))
            else:
                break
            await self._sleep(pause)
            pause = min(pause * 2, RETRY_MOST)
        if self._found:
            self._log.info("tasks of the last run found", tasks=len(self._found))
        self._recovered.set()
        early, self._early = self._early, []
        for message in early:
            self._take_up(message)

    # The session's hooks

    async def _hello(self) -> wire.Hello:
        self._networks.begin()
        return await self._describing.hello()

    def _jobs(self) -> list[Awaitable[None]]:
        self._outbox.reopen()
        send = self._session.send
        return [
            self._send_reports(),
            self._steady.job("applying the route table", partial(self._routes.run, send), lambda: self._routes.newest),
            self._steady.job("exchanging health verdicts", partial(self._verdicts.run, send)),
            self._steady.job("applying the networks", partial(self._networks.run, send), lambda: self._networks.newest),
            self._steady.job("applying the certificates", partial(self._books.run, send), lambda: self._books.newest),
            self._steady.job("describing the node", partial(self._describing.run, send)),
            self._steady.job("telling what the node trusts", partial(self._describing.run_at_once, send)),
            self._end_logs(),
        ]

    async def _handle(self, message: ToAgent) -> None:
        handler = self._handlers.get(type(message))
        if handler is not None:
            with self._steady.contained(f"carrying out the manager's message {type(message).__name__}"):
                waiting = handler(message)
                if waiting is not None:
                    await waiting

    async def _send_reports(self) -> None:
        while True:
            await self._session.send(wire.Reports(await self._outbox.take()))

    def trust_changed(self) -> None:
        """What the node trusts is no more what its description says."""
        self._describing.trust_changed()

    async def _end_logs(self) -> None:
        """Log streams belong to the session that asked for them."""
        try:
            await asyncio.Event().wait()
        finally:
            self._logs.end()

    # Messages

    def _welcomed(self, message: wire.Welcome) -> None:
        self._books.begin()
        self._on_managers(message.managers)
        self._node_changed(message.node)

    def _redirected(self, message: wire.Redirect) -> None:
        if message.managers:
            self._on_managers(message.managers)
        self._on_redirect(message.leader)

    def _node_changed(self, node: Node) -> None:
        self._node = node
        self._on_node(node)

    def _assign(self, message: wire.Assignments) -> None:
        if message.full and not any(task.networks_attachments for task in message.tasks):
            self._networks.take(wire.Networks([]))
        if self._recovered.is_set():
            self._take_up(message)
        elif message.full:
            self._early = [message]
        else:
            self._early.append(message)

    def _take_up(self, message: wire.Assignments) -> None:
        difference = self._assigned.apply(message)
        for task_id in difference.forget:
            if task_id in self._managers:
                self._managers[task_id].forget()
            elif task_id in self._turned_away:
                self._turned_away.discard(task_id)
                self._outbox.forget(task_id)
        for task in difference.tasks:
            if task.id in self._turned_away:
                continue  # it may run elsewhere by now, even if this version of it can be read
            try:
                self._take_on(task)
            except Exception as error:
                self._turn_away(task, error)
        if message.full:
            self._clear_strays()

    def _take_on(self, task: Task) -> None:
        work = self._assigned.work(task, self._node)
        if task.id in self._managers:
            self._managers[task.id].update(work)
        else:
            manager = TaskManager(work, self._found.get(task.id), self._around)
            self._found.pop(task.id, None)
            self._managers[task.id] = manager
            manager.start()

    def _turn_away(self, task: Task, error: Exception) -> None:
        """A task that this agent cannot even read: the others of the message are taken on.

        A task that is rejected is replaced elsewhere, so what the last run left of it ends first. One that this run
        manages goes on as it was last understood, and nothing is reported of it that could have it replaced.
        """
        self._steady.note(f"taking on task {task.name or task.id}", error)
        if task.id in self._managers:
            return
        self._turned_away.add(task.id)
        why = f"the agent of this node cannot take it on: {words(error)}"
        if self._found.pop(task.id, None) is None:
            self._reject(task.id, why)
        else:
            self._keep_until_done(self._end_and_reject(task.id, why), task.id)

    async def _end_and_reject(self, task_id: str, why: str) -> None:
        await self._end(task_id)
        if task_id in self._turned_away:
            self._reject(task_id, why)

    def _reject(self, task_id: str, why: str) -> None:
        status = TaskStatus(timestamp=self._around.now(), state="rejected", message="preparing", err=why)
        self._outbox.put(wire.TaskReport(task_id, status))

    # What is not to run here

    def _clear_strays(self) -> None:
        """What the last run left and the cluster does not want."""
        for task_id in self._found:
            self._log.warning("a task that the cluster does not want here is stopped", task_id=task_id)
            self._keep_until_done(self._end(task_id), task_id)
        self._found = {}

    def _keep_until_done(self, ending: Coroutine[None, None, None], task_id: str) -> None:
        self._strays[task_id] = asyncio.create_task(ending, name=f"stray {task_id}")
        self._strays[task_id].add_done_callback(lambda _: self._strays.pop(task_id, None))

    async def _end(self, task_id: str) -> None:
        """Until it is gone: what is not wanted here may run elsewhere."""
        pause = RETRY_FIRST
        while True:
            try:
                await self._runtime.stop(task_id)
                await self._runtime.remove(task_id)
            except RuntimeUnavailable as problem:
                self._log.warning("a task is not removed yet; trying again", task_id=task_id, reason=str(problem))
            except Exception as error:
                self._steady.note(f"removing task {task_id}", error)
            else:
                return
            await self._sleep(pause)
            pause = min(pause * 2, RETRY_MOST)

    async def _clear(self) -> None:
        """Stop and remove every task; those of the last run are asked for first, if that was not answered yet."""
        self._early.clear()
        if not self._recovered.is_set():
            await self._recover()
        self._clear_strays()
        managers = list(self._managers.values())
        for manager in managers:
            manager.forget()
        await asyncio.gather(*(manager.finished() for manager in managers), *self._strays.values())

    async def _clear_in_time(self) -> list[str]:
        """The same, for as long as the runtime answers; the names of the tasks that are left."""
        tasks = {task_id: manager.work.task for task_id, manager in self._managers.items()}
        found = [*self._found, *self._strays]
        ending = asyncio.ensure_future(self._clear())
        limit = longest_grace(tasks.values()) + SLACK
        why = await until_ended([ending], self._runtime, limit, self._monotonic)
        if not why:
            return []
        ending.cancel()
        left = [task.name or task_id for task_id, task in tasks.items() if task_id in self._managers] + found
        if not self._recovered.is_set():
            left.append("those of the daemon's last run")
        self._log.error("tasks were left behind and may still run", tasks=left, reason=why)
        return left

    def _gone(self, task_id: str) -> None:
        self._managers.pop(task_id, None)
        self._outbox.forget(task_id)
