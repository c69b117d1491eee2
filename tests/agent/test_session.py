"""The agent's session: introduction, liveness, coming back, and what is said again afterwards."""

import asyncio
import itertools
from pathlib import Path
from typing import Any

import pytest
import structlog

from essaim.agent.agent import Agent
from essaim.agent.runtime.interface import LogLine, Phase, View
from essaim.agent.session.session import PAUSE_MOST, Backoff
from essaim.cluster import wire
from essaim.cluster.objects import Secret, SecretSpec
from essaim.cluster.route_delta import RouteDelta
from essaim.cluster.routes import RouteEndpoint, RoutePort, RouteService, RouteTable

from .conftest import MakeAgent
from .doubles import NODE, FakeManager, FakeRuntime, make_task, until, with_desired


def table(version: int, *states: str) -> RouteTable:
    endpoints = [
        RouteEndpoint(task_id=f"t{i}", task_name="x", node_id="n", address="a", port=1, state=state)
        for i, state in enumerate(states)
    ]
    port = RoutePort(protocol="tcp", target_port=80, published_port=80, endpoints=endpoints)
    return RouteTable(version=version, services=[RouteService(id="s", name="web", ports=[port])])


async def connected(agent: Agent, manager: FakeManager, hellos: int = 1) -> None:
    await agent.start() if hellos == 1 else None
    await until(lambda: manager.hellos == hellos and agent.is_connected)


async def test_agent_says_who_it_is_and_remembers_the_managers(make_agent: MakeAgent, manager: FakeManager) -> None:
    seen: dict[str, Any] = {}
    agent = make_agent(
        FakeRuntime(),
        on_managers=lambda managers: seen.update(managers=managers),
        on_node=lambda node: seen.update(node=node),
    )
    await connected(agent, manager)
    hello = manager.of_type(wire.Hello)[0]
    assert (hello.node_id, hello.description.data_addr) == ("node1", "127.0.0.1")
    assert seen == {"managers": ["m1:2377"], "node": NODE}


async def test_agent_beats_and_leaves_a_manager_that_falls_silent(make_agent: MakeAgent) -> None:
    class Silent(FakeManager):
        async def _greet(self, end: Any) -> None:
            if self.hellos == 1:
                await end.send(wire.encode(wire.Welcome(0.01, self.node, [])))
            else:
                await super()._greet(end)

        async def _serve(self, end: Any) -> None:
            while (data := await end.receive()) is not None:
                message = wire.decode_from_agent(data)
                self.received.append(message)
                if isinstance(message, wire.Hello):
                    self.hellos += 1
                    await self._greet(end)

    manager = Silent()
    kept = structlog.testing.LogCapture()
    log = structlog.wrap_logger(structlog.testing.CapturingLogger(), processors=[kept])
    agent = make_agent(FakeRuntime(), dial=manager.dial, log=log)
    await agent.start()
    await until(lambda: manager.hellos == 2)
    logs = kept.entries
    assert len(manager.of_type(wire.Heartbeat)) >= 3
    # It is the end of a session, not a mistake of ours with a traceback.
    assert [(e["log_level"], "was silent for" in e["reason"]) for e in logs if "reason" in e] == [("warning", True)]
    assert [e["event"] for e in logs if e["log_level"] == "error"] == []
    await manager.close()


async def test_agent_redirected_tells_the_leader_and_dials_again(make_agent: MakeAgent, manager: FakeManager) -> None:
    manager.first_answer = wire.Redirect(leader="m2:2377", managers=["m1:2377", "m2:2377"])
    leaders: list[str] = []
    agent = make_agent(FakeRuntime(), on_redirect=leaders.append)
    await agent.start()
    await until(lambda: manager.hellos == 2)
    assert leaders == ["m2:2377"]


async def test_agent_refused_stops_its_tasks_and_says_why(make_agent: MakeAgent, manager: FakeManager) -> None:
    runtime, reasons = FakeRuntime(), list[str]()
    agent = make_agent(runtime, on_refused=reasons.append)
    await connected(agent, manager)
    await manager.assign(make_task())
    await until(lambda: manager.state("t1") == "running")
    manager.first_answer = wire.Refused("node removed")
    await manager.hang_up()
    await until(lambda: reasons)
    assert reasons == ["node removed"]
    assert runtime.calls[-2:] == ["stop t1", "remove t1"]


async def test_agent_back_after_a_loss_says_the_newest_states_again(
    make_agent: MakeAgent, manager: FakeManager
) -> None:
    runtime = FakeRuntime()
    agent = make_agent(runtime)
    await connected(agent, manager)
    task = make_task()
    await manager.assign(task)
    await until(lambda: manager.state("t1") == "running")
    manager.reports.clear()
    manager.full = wire.Assignments(full=True, tasks=[task])
    await manager.hang_up()
    await until(lambda: manager.hellos == 2 and manager.state("t1") == "running")
    # What ended while nobody listened is said as soon as somebody does.
    calls = list(runtime.calls)
    await manager.hang_up()
    runtime.views.put("t1", View(Phase.EXITED, exit_code=2))
    await until(lambda: manager.hellos == 3 and manager.state("t1") == "failed")
    assert runtime.calls == calls


async def test_agent_given_a_full_assignment_ends_what_is_not_in_it(
    make_agent: MakeAgent, manager: FakeManager
) -> None:
    runtime = FakeRuntime(found={"old": View(Phase.RUNNING), "t1": View(Phase.RUNNING)})
    manager.full = wire.Assignments(full=True, tasks=[make_task("t1", state="running")])
    agent = make_agent(runtime)
    await connected(agent, manager)
    await until(lambda: "remove old" in runtime.calls)
    assert runtime.calls == ["stop old", "remove old"]
    await manager.assign(make_task("t2"), full=True)
    await until(lambda: "remove t1" in runtime.calls and manager.state("t2") == "running")


async def test_agent_without_a_manager_touches_nothing(make_agent: MakeAgent) -> None:
    async def nobody() -> wire.Channel:
        attempts.append(1)
        raise ConnectionRefusedError("nobody listens")

    attempts: list[int] = []
    runtime = FakeRuntime(found={"t1": View(Phase.RUNNING)})
    agent = make_agent(runtime, dial=nobody, sleep=lambda _: asyncio.sleep(0))
    await agent.start()
    await until(lambda: len(attempts) > 10)
    assert runtime.calls == []


async def test_agent_stopped_for_good_ends_its_tasks(make_agent: MakeAgent, manager: FakeManager) -> None:
    runtime = FakeRuntime(found={})
    agent = make_agent(runtime)
    await connected(agent, manager)
    await manager.assign(make_task())
    await until(lambda: manager.state("t1") == "running")
    await agent.stop(keep_tasks=False)
    assert runtime.calls[-2:] == ["stop t1", "remove t1"]


async def test_agent_gives_a_task_only_the_secrets_it_uses(make_agent: MakeAgent, manager: FakeManager) -> None:
    from essaim.cluster.container import SecretReference

    runtime = FakeRuntime()
    works: list[Any] = []
    prepare = runtime.prepare

    async def watched(work: Any, say: Any) -> list[str]:
        works.append(work)
        return await prepare(work, say)

    runtime.prepare = watched  # type: ignore[method-assign]
    agent = make_agent(runtime)
    await connected(agent, manager)
    secrets = [Secret(id=i, spec=SecretSpec(name=i, data=b"x")) for i in ("s1", "s2")]
    task = make_task(secrets=[SecretReference(secret_id="s1", secret_name="s1")])
    await manager.assign(task, secrets=secrets, registry_auth={"service1": "token"})
    await until(lambda: works)
    assert list(works[0].secrets) == ["s1"]
    assert works[0].registry_auth == "token"
    assert "token" not in repr(works[0])
    await manager.assign(with_desired(task, "shutdown"))
    await until(lambda: manager.state("t1") == "shutdown")


async def test_agent_reports_the_drain_until_nothing_is_open(make_agent: MakeAgent, manager: FakeManager) -> None:
    still_open = {"t1": 2}
    applied: list[int] = []

    async def apply(routes: RouteTable) -> int:
        applied.append(routes.version)
        return routes.version

    agent = make_agent(FakeRuntime(), on_routes=apply, open_requests=lambda: dict(still_open))
    await connected(agent, manager)
    await manager.send(wire.Routes(table(4, "up", "draining")))
    await until(lambda: manager.of_type(wire.RoutesApplied))
    still_open["t1"] = 1
    await until(lambda: len(manager.of_type(wire.RoutesApplied)) == 2)
    still_open.clear()
    await until(lambda: len(manager.of_type(wire.RoutesApplied)) == 3)
    assert [m.open_requests for m in manager.of_type(wire.RoutesApplied)] == [{"t1": 2}, {"t1": 1}, {"t1": 0}]
    assert [m.version for m in manager.of_type(wire.RoutesApplied)] == [4, 4, 4]
    await manager.send(wire.Routes(table(5, "up")))
    await until(lambda: len(manager.of_type(wire.RoutesApplied)) == 4)
    assert applied == [4, 5]


async def test_agent_reports_what_its_gateway_finds_unfit_until_it_is_fit_and_when_it_is_no_more(
    make_agent: MakeAgent, manager: FakeManager
) -> None:
    unfit = ["t1"]

    async def apply(routes: RouteTable) -> int:
        return routes.version

    def told() -> list[list[str] | None]:
        return [message.unfit for message in manager.of_type(wire.RoutesApplied)]

    agent = make_agent(FakeRuntime(), on_routes=apply, unfit=lambda: list(unfit))
    await connected(agent, manager)
    await manager.send(wire.Routes(table(4, "up")))
    await until(lambda: told() == [["t1"]])
    unfit.clear()
    await until(lambda: told() == [["t1"], []])
    unfit.append("t1")
    agent.gateway_changed()
    await until(lambda: told() == [["t1"], [], ["t1"]])


async def test_agent_restarted_without_a_manager_serves_by_the_last_routes(
    make_agent: MakeAgent, manager: FakeManager, tmp_path: Path
) -> None:
    applied: list[int] = []

    async def apply(routes: RouteTable) -> int:
        applied.append(routes.version)
        return routes.version

    async def nobody() -> wire.Channel:
        raise ConnectionRefusedError

    first = make_agent(FakeRuntime(), on_routes=apply)
    await connected(first, manager)
    await manager.send(wire.Routes(table(7, "up")))
    await until(lambda: (tmp_path / "node" / "routes.msgpack").exists())
    await first.stop(keep_tasks=True)
    second = make_agent(FakeRuntime(), on_routes=apply, dial=nobody)
    await second.start()
    await until(lambda: applied == [7, 7])


async def test_agent_streams_logs_and_ends_them_with_the_session(make_agent: MakeAgent, manager: FakeManager) -> None:
    runtime = FakeRuntime(lines=[LogLine(1, "2026-01-01T00:00:00.5Z", b"hello")])
    agent = make_agent(runtime)
    await connected(agent, manager)
    await manager.send(wire.LogRequest(request=1, task_id="t1"))
    await until(lambda: len(manager.of_type(wire.LogChunk)) == 2)
    line, end = manager.of_type(wire.LogChunk)
    assert (line.line, line.stream, line.timestamp, line.end) == (b"hello", 1, "2026-01-01T00:00:00.5Z", False)
    assert end.end
    await manager.send(wire.LogRequest(request=2, task_id="t1", follow=True))
    await until(lambda: len(manager.of_type(wire.LogChunk)) == 3)
    await manager.send(wire.LogCancel(request=2))
    await manager.hang_up()
    await until(lambda: manager.hellos == 2)
    assert len(manager.of_type(wire.LogChunk)) == 3


async def test_agent_that_receives_garbage_opens_a_new_session(make_agent: MakeAgent, manager: FakeManager) -> None:
    agent = make_agent(FakeRuntime())
    await connected(agent, manager)
    await manager._ends[-1].send(b"\xc1garbage")
    await until(lambda: manager.hellos == 2)


@pytest.mark.parametrize("chance", [0.0, 0.5, 0.999])
def test_backoff_doubles_to_its_limit_and_starts_again(chance: float) -> None:
    backoff = Backoff(lambda: chance)
    pauses = [backoff.next() for _ in range(12)]
    assert pauses[0] == 0
    assert all(later >= earlier for earlier, later in itertools.pairwise(pauses))
    assert PAUSE_MOST / 2 <= pauses[-1] <= PAUSE_MOST
    backoff.reset()
    assert 0 < backoff.next() <= 0.1


async def test_agent_applies_changes_of_routes_keeps_them_and_begins_anew_when_one_does_not_fit(
    make_agent: MakeAgent, manager: FakeManager, tmp_path: Path
) -> None:
    applied: list[RouteTable] = []

    async def apply(routes: RouteTable) -> int:
        applied.append(routes)
        return routes.version

    async def nobody() -> wire.Channel:
        raise ConnectionRefusedError

    agent = make_agent(FakeRuntime(), on_routes=apply)
    await connected(agent, manager)
    first, second = table(4, "up"), table(5, "up", "draining")
    await manager.send(wire.Routes(first))
    await until(lambda: applied == [first])
    fits = RouteDelta(base=4, version=5, services=second.services)
    await manager.send(wire.RoutesChanged(fits))
    await until(lambda: applied == [first, second])
    await until(lambda: manager.of_type(wire.RoutesApplied)[-1].version == 5)
    await until(lambda: (tmp_path / "node" / "routes.changes").exists())
    await manager.send(wire.RoutesChanged(fits))
    await until(lambda: manager.hellos == 2)
    assert applied == [first, second]
    await agent.stop(keep_tasks=True)
    again = make_agent(FakeRuntime(), on_routes=apply, dial=nobody)
    await again.start()
    await until(lambda: applied == [first, second, second])


async def test_agent_carries_verdicts_between_its_gateway_and_the_leader(
    make_agent: MakeAgent, manager: FakeManager
) -> None:
    calls: list[object] = []
    waiting: list[tuple[dict[str, str], list[str]]] = [({}, [])]

    class Gateway:
        def session(self, is_open: bool) -> None:
            calls.append(is_open)

        def findings(self, full: bool) -> tuple[dict[str, str], list[str]]:
            return ({"a": "", "b": "refused"}, []) if full else waiting.pop()

        def take_verdicts(self, full: bool, found: dict[str, dict[str, str]], unknown: list[str]) -> None:
            calls.append((full, found, unknown))

    agent = make_agent(FakeRuntime(), health=Gateway())
    await connected(agent, manager)
    await until(lambda: manager.of_type(wire.Findings) == [wire.Findings(True, {"a": "", "b": "refused"})])
    agent.findings_changed()
    await until(lambda: not waiting)
    waiting.append(({"b": ""}, ["a"]))
    agent.findings_changed()
    await until(lambda: manager.of_type(wire.Findings)[1:] == [wire.Findings(False, {"b": ""}, ["a"])])
    await manager.send(wire.Verdicts(True, {"n2": {"c": "refused"}}, []))
    await until(lambda: calls == [True, (True, {"n2": {"c": "refused"}}, [])])
    await agent.stop(keep_tasks=True)
    assert calls[-1] is False
