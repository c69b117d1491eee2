"""Sessions: who may hold one, what is sent, what the passing of time does, and drain before stop."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import msgspec
import pytest

from essaim.cluster import changes, wire
from essaim.cluster.container import ContainerSpec, FileTarget, SecretReference
from essaim.cluster.node import NodeSpec
from essaim.cluster.objects import Secret, SecretSpec
from essaim.cluster.service import Endpoint, EndpointSpec, PortConfig, Service, TaskSpec
from essaim.cluster.shape import Version
from essaim.cluster.swarm import Cluster, DispatcherConfig, default_spec
from essaim.cluster.task import Task, TaskState, TaskStatus
from essaim.cluster.wire import Assignments, LogChunk, LogRequest, NodeChanged, Redirect, Refused, Welcome
from essaim.scheduler.dispatch.session import VERDICTS_BEHIND, Session
from essaim.scheduler.tasks import is_up
from tests.scheduler.agents import Manager, SimulatedAgent, description, node, pipes, until
from tests.scheduler.world import replicated

WEB_PORT = PortConfig(protocol="tcp", target_port=80, published_port=4000, publish_mode="ingress")


class Bench:
    def __init__(self) -> None:
        self.manager = Manager()
        self.stack = AsyncExitStack()

    async def put(self, table: str, value: object) -> None:
        await self.manager.writer.commit([changes.put(table, value, force=True)])  # type: ignore[arg-type]

    async def agent(self, node_id: str, *, certificate: str = "", acknowledges: bool = True) -> SimulatedAgent:
        agent = SimulatedAgent(node_id, self.manager.dispatcher, certificate=certificate)
        agent.acknowledges = acknowledges
        return await self.stack.enter_async_context(agent)

    def task(self, task_id: str) -> Task:
        task = self.manager.store.tasks.get(task_id)
        assert task is not None
        return task

    async def change(self, task_id: str, **fields: object) -> None:
        await self.put("tasks", msgspec.structs.replace(self.task(task_id), **fields))


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    bench = Bench()
    for name in ("n1", "n2"):
        await bench.put("nodes", node(name))
    await bench.manager.dispatcher.start()
    yield bench
    await bench.stack.aclose()
    await bench.manager.dispatcher.stop()
    assert bench.manager.quiet.errors == []


def make_task(task_id: str, node_id: str, *, image: str = "web:1", state: str = "assigned", **fields: object) -> Task:
    return Task(
        id=task_id,
        spec=TaskSpec(container_spec=ContainerSpec(image=image)),
        service_id="web",
        node_id=node_id,
        status=TaskStatus(state=state),
        **fields,  # type: ignore[arg-type]
    )


def messages(agent: SimulatedAgent, kind: type) -> list[object]:
    return [message for message in agent.received if isinstance(message, kind)]


# -- the beginning of a session ------------------------------------------------------------------------------------


async def test_session_begins_with_welcome_full_assignments_and_routes(bench: Bench) -> None:
    await bench.put("tasks", make_task("t1", "n1"))
    agent = await bench.agent("n1")
    await until(lambda: len(agent.received) >= 3)
    kinds = [type(m) for m in agent.received if not isinstance(m, wire.HeartbeatAck)][:3]
    assert kinds == [Welcome, Assignments, wire.Routes]
    full = messages(agent, Assignments)[0]
    assert isinstance(full, Assignments)
    assert full.full
    assert [t.id for t in full.tasks] == ["t1"]
    await until(lambda: bench.task("t1").state == TaskState.RUNNING)
    stored = bench.manager.store.nodes.get("n1")
    assert stored is not None
    assert stored.is_ready
    assert stored.hostname == "n1"


async def test_manager_that_does_not_lead_redirects(bench: Bench) -> None:
    await bench.manager.dispatcher.stop()
    bench.manager.leader = "10.0.0.9:2377"
    bench.manager.managers = ["10.0.0.9:2377", "10.0.0.8:2377"]
    agent = await bench.agent("n1")
    await until(lambda: agent.channel.closed)
    assert agent.received == [Redirect("10.0.0.9:2377", bench.manager.managers)]


@pytest.mark.parametrize(("node_id", "certificate"), [("unknown", ""), ("n1", "n2"), ("n1", "wrong")])
async def test_agent_that_is_unknown_or_another_is_refused(bench: Bench, node_id: str, certificate: str) -> None:
    agent = await bench.agent(node_id, certificate=certificate)
    await until(lambda: agent.channel.closed)
    assert [type(m) for m in agent.received] == [Refused]
    assert not bench.manager.dispatcher.sessions.connected


@pytest.mark.parametrize("first", [b"", b"nonsense", wire.encode(wire.Heartbeat())])
async def test_session_that_does_not_say_hello_is_closed(bench: Bench, first: bytes) -> None:
    near, far = pipes()
    await near.send(first)
    await bench.manager.dispatcher.serve(far, "n1")
    assert await near.receive() is None


async def test_session_that_says_nothing_is_closed(bench: Bench) -> None:
    near, far = pipes()
    await bench.manager.dispatcher.serve(far, "n1", hello_timeout=0.01)
    assert await near.receive() is None


async def test_serve_can_be_cancelled_while_it_waits_for_hello(bench: Bench) -> None:
    near, far = pipes()
    serving = asyncio.create_task(bench.manager.dispatcher.serve(far, "n1"))
    await asyncio.sleep(0)
    serving.cancel()
    await asyncio.gather(serving, return_exceptions=True)
    assert await near.receive() is None


async def test_serve_can_be_cancelled_while_it_holds_a_session(bench: Bench) -> None:
    near, far = pipes()
    serving = asyncio.create_task(bench.manager.dispatcher.serve(far, "n1"))
    await near.send(wire.encode(wire.Hello("n1", description("n1"))))
    await until(lambda: "n1" in bench.manager.dispatcher.sessions.connected)
    serving.cancel()
    await asyncio.gather(serving, return_exceptions=True)
    assert bench.manager.dispatcher.sessions.connected == frozenset()


async def test_second_session_of_a_node_replaces_the_first(bench: Bench) -> None:
    first = await bench.agent("n1")
    await until(lambda: bool(first.received))
    second = await bench.agent("n1")
    await until(lambda: bool(second.received) and first.channel.closed)
    await bench.put("tasks", make_task("t1", "n1"))
    await until(lambda: "t1" in second.tasks)
    assert bench.manager.dispatcher.sessions.connected == {"n1"}


# -- what is sent --------------------------------------------------------------------------------------------------


async def test_only_a_tasks_own_node_gets_it_and_its_secrets(bench: Bench) -> None:
    for name in ("used", "other"):
        await bench.put("secrets", Secret(id=name, spec=SecretSpec(name=name, data=b"x")))
    one, two = await bench.agent("n1"), await bench.agent("n2")
    reference = SecretReference(secret_id="used", secret_name="used", file=FileTarget(name="used"))
    spec = TaskSpec(container_spec=ContainerSpec(image="x", secrets=[reference]))
    await bench.put("tasks", msgspec.structs.replace(make_task("t1", "n1"), spec=spec))
    await until(lambda: "t1" in one.tasks)
    assert set(one.secrets) == {"used"}
    assert not two.tasks
    assert not two.secrets


async def test_registry_credentials_go_to_the_nodes_of_the_services_tasks(bench: Bench) -> None:
    for name, auth in (("web", "token"), ("other", None)):
        await bench.put("services", Service(id=name, spec=replicated(name, 0), registry_auth=auth))
    agent = await bench.agent("n1")
    await bench.put("tasks", make_task("t1", "n1"))
    await bench.put("tasks", msgspec.structs.replace(make_task("t2", "n1"), service_id="other"))
    await until(lambda: {"t1", "t2"} <= set(agent.tasks))
    sent = [m.registry_auth for m in messages(agent, Assignments) if isinstance(m, Assignments)]
    assert {service: auth for known in sent for service, auth in known.items()} == {"web": "token"}


async def test_task_is_not_sent_again_for_its_own_reports(bench: Bench) -> None:
    agent = await bench.agent("n1")
    await bench.put("tasks", make_task("t1", "n1"))
    await until(lambda: bench.task("t1").state == TaskState.RUNNING)
    await bench.put("tasks", make_task("t2", "n1"))
    await until(lambda: "t2" in agent.tasks)
    sent = [t.id for m in messages(agent, Assignments) if isinstance(m, Assignments) for t in m.tasks]
    assert sent == ["t1", "t2"]


async def test_deleted_task_is_to_be_forgotten(bench: Bench) -> None:
    agent = await bench.agent("n1")
    await bench.put("tasks", make_task("t1", "n1"))
    await until(lambda: "t1" in agent.tasks)
    await bench.manager.writer.commit([changes.Delete("tasks", "t1")])
    await until(lambda: "t1" not in agent.tasks)


async def test_changes_of_routes_follow_the_whole_table(bench: Bench) -> None:
    spec = replicated("web", 1, ports=[(4000, 80)])
    await bench.put("services", Service(id="web", spec=spec, endpoint=Endpoint(ports=[WEB_PORT])))
    agent = await bench.agent("n1")
    await until(lambda: bool(messages(agent, wire.Routes)))
    await bench.put("tasks", make_task("t1", "n1", ports=[WEB_PORT]))
    await until(lambda: bool(agent.table.services and agent.table.services[0].ports[0].endpoints))
    assert len(messages(agent, wire.Routes)) == 1
    assert messages(agent, wire.RoutesChanged)
    late = await bench.agent("n2")
    await until(lambda: bool(late.table.services) and late.table == agent.table)
    assert len(messages(late, wire.Routes)) == 1


async def test_verdicts_go_to_every_gateway_and_end_with_the_session_that_told_them(bench: Bench) -> None:
    one, other = await bench.agent("n1"), await bench.agent("n2")
    await until(lambda: bool(messages(one, wire.Verdicts) and messages(other, wire.Verdicts)))
    assert messages(other, wire.Verdicts) == [wire.Verdicts(True)]
    await one.send(wire.Findings(True, {"k": "refused", "m": ""}))
    told = wire.Verdicts(False, {"n1": {"k": "refused", "m": ""}})
    await until(lambda: messages(other, wire.Verdicts)[1:] == [told])
    await until(lambda: messages(one, wire.Verdicts)[1:] == [told])
    again = await bench.agent("n2")
    await until(lambda: messages(again, wire.Verdicts) == [wire.Verdicts(True, {"n1": {"k": "refused", "m": ""}})])
    await one.channel.close()
    await until(lambda: messages(again, wire.Verdicts)[1:] == [wire.Verdicts(False, {}, ["k", "m"])])


async def test_session_that_falls_behind_with_verdicts_gets_the_whole(bench: Bench) -> None:
    near, _ = pipes()
    session = Session(node("n1"), near, bench.manager.store, lambda task_id: False)
    session.begin_verdicts(lambda: b"whole")
    session.add_verdicts(b"in the whole already")
    writing = asyncio.create_task(session.run_writer(1.0, []))
    await until(lambda: near.sent[2:] == [b"whole"])
    for number in range(VERDICTS_BEHIND):
        session.add_verdicts(b"%d" % number)
    await until(lambda: near.sent[3:] == [b"%d" % number for number in range(VERDICTS_BEHIND)])
    for number in range(VERDICTS_BEHIND + 1):
        session.add_verdicts(b"%d" % number)
    await until(lambda: near.sent[3 + VERDICTS_BEHIND :] == [b"whole"])
    session.end()
    await writing


async def test_node_hears_of_its_own_changes_and_of_managers(bench: Bench) -> None:
    agent = await bench.agent("n1")
    await until(lambda: bool(messages(agent, wire.Routes)))
    stored = bench.manager.store.nodes.get("n1")
    assert stored is not None
    await bench.put("nodes", msgspec.structs.replace(stored, spec=NodeSpec(availability="drain")))
    await until(lambda: bool(messages(agent, NodeChanged)))
    bench.manager.managers = ["10.0.0.1:2377"]
    await until(lambda: wire.Managers(["10.0.0.1:2377"]) in agent.received)


async def test_removed_node_is_told_so_and_cut_off(bench: Bench) -> None:
    agent = await bench.agent("n1")
    await until(lambda: bool(agent.received))
    await bench.manager.writer.commit([changes.Delete("nodes", "n1")])
    await until(lambda: agent.channel.closed)
    assert isinstance(agent.received[-1], Refused)


async def test_reports_of_other_nodes_tasks_and_of_ended_ones_count_for_nothing(bench: Bench) -> None:
    await bench.put("tasks", make_task("theirs", "n2"))
    await bench.put("tasks", make_task("done", "n1", state="complete"))
    agent = await bench.agent("n1")
    await until(lambda: bool(agent.received))
    lies = [wire.TaskReport(i, TaskStatus(state="failed")) for i in ("theirs", "done", "nowhere")]
    await agent.send(wire.Reports(lies))
    await bench.put("tasks", make_task("mine", "n1"))
    await until(lambda: bench.task("mine").state == TaskState.RUNNING)
    assert bench.task("theirs").state == TaskState.ASSIGNED
    assert bench.task("done").state == TaskState.COMPLETE


async def test_reports_survive_a_log_without_quorum(bench: Bench) -> None:
    agent = await bench.agent("n1")
    await bench.put("tasks", make_task("t1", "n1"))
    await until(lambda: bench.task("t1").state == TaskState.RUNNING)
    bench.manager.log.has_quorum = False
    await agent.send(wire.Reports([wire.TaskReport("t1", TaskStatus(state="failed"))]))
    await until(lambda: any("wait for the log" in line[1] for line in bench.manager.quiet.lines))
    bench.manager.log.has_quorum = True
    await until(lambda: bench.task("t1").state == TaskState.FAILED)


async def test_other_heartbeat_period_has_agents_begin_anew(bench: Bench) -> None:
    agent = await bench.agent("n1")
    await until(lambda: bool(messages(agent, wire.Routes)))
    spec = msgspec.structs.replace(default_spec(), dispatcher=DispatcherConfig(heartbeat_period=2_500_000_000))
    await bench.put("clusters", Cluster(id="cluster", spec=spec))
    await until(lambda: agent.channel.closed)
    again = await bench.agent("n1")
    await until(lambda: bool(messages(again, Welcome)))
    welcome = messages(again, Welcome)[0]
    assert isinstance(welcome, Welcome)
    assert welcome.heartbeat == 2.5


# -- drain before stop ---------------------------------------------------------------------------------------------


async def served(bench: Bench, *, labels: dict[str, str] | None = None) -> tuple[SimulatedAgent, SimulatedAgent]:
    """A published service with one running task on n1, and gateways on both nodes."""
    spec = replicated("web", 1, labels=labels, endpoint_spec=EndpointSpec(ports=[WEB_PORT]))
    endpoint = Endpoint(spec=spec.endpoint_spec, ports=[WEB_PORT])
    await bench.put("services", Service(id="web", spec=spec, endpoint=endpoint, spec_version=Version(index=1)))
    one, two = await bench.agent("n1"), await bench.agent("n2")
    await bench.put("tasks", make_task("t1", "n1", ports=[WEB_PORT], service_labels=labels))
    await until(lambda: states(two) == ["up"])
    return one, two


def states(agent: SimulatedAgent) -> list[str]:
    return [e.state for s in agent.table.services for p in s.ports for e in p.endpoints]


async def test_stop_waits_until_no_gateway_has_open_requests(bench: Bench) -> None:
    one, two = await served(bench, labels={"essaim.drain": "1h"})
    two.open_requests = {"t1": 3}
    await bench.change("t1", desired_state="shutdown")
    await until(lambda: states(one) == states(two) == ["draining"])
    assert one.tasks["t1"].desired_state == "running"
    two.open_requests = {"t1": 1}
    await two.acknowledge()
    await bench.put("tasks", make_task("marker", "n1"))
    await until(lambda: "marker" in one.tasks)
    assert one.tasks["t1"].desired_state == "running"
    two.open_requests = {}
    await two.acknowledge()
    await until(lambda: one.tasks["t1"].desired_state == "shutdown")
    await until(lambda: bench.task("t1").state == TaskState.SHUTDOWN)


async def test_stop_waits_for_a_gateway_that_has_not_answered_the_table(bench: Bench) -> None:
    one, two = await served(bench, labels={"essaim.drain": "1h"})
    two.acknowledges = False
    await bench.change("t1", desired_state="shutdown")
    await until(lambda: states(two) == ["draining"])
    await bench.put("tasks", make_task("marker", "n1"))
    await until(lambda: "marker" in one.tasks)
    assert one.tasks["t1"].desired_state == "running"
    await two.__aexit__()  # a gateway that is gone sends nothing any more
    await until(lambda: one.tasks["t1"].desired_state == "shutdown")


async def test_stop_comes_at_the_drain_limit_whatever_is_open(bench: Bench) -> None:
    one, two = await served(bench, labels={"essaim.drain": "50ms"})
    two.open_requests = {"t1": 3}
    await bench.change("t1", desired_state="shutdown")
    await until(lambda: one.tasks["t1"].desired_state == "shutdown")


async def test_stop_of_a_task_without_endpoints_is_immediate(bench: Bench) -> None:
    one, two = await served(bench, labels={"essaim.drain": "1h"})
    two.acknowledges = False
    await bench.put("tasks", msgspec.structs.replace(make_task("batch", "n1"), service_id="other"))
    await until(lambda: bench.task("batch").state == TaskState.RUNNING)
    await bench.change("batch", desired_state="shutdown")
    await until(lambda: one.tasks["batch"].desired_state == "shutdown")


async def test_crashed_task_leaves_the_routes_at_once(bench: Bench) -> None:
    one, two = await served(bench)
    await one.send(wire.Reports([wire.TaskReport("t1", TaskStatus(state="failed"))]))
    await until(lambda: states(two) == [])


async def test_unhealthy_task_leaves_the_routes_at_once(bench: Bench) -> None:
    one, two = await served(bench)
    sick = TaskStatus(state="running", healthy=False)
    await one.send(wire.Reports([wire.TaskReport("t1", sick)]))
    await until(lambda: states(two) == [])
    await one.send(wire.Reports([wire.TaskReport("t1", TaskStatus(state="running", healthy=True))]))
    await until(lambda: states(two) == ["up"])


# -- fitness -------------------------------------------------------------------------------------------------------


async def test_task_is_up_only_once_its_gateway_found_it_fit(bench: Bench) -> None:
    one, two = await served(bench)
    assert is_up(bench.task("t1")), "gateways that say nothing are not waited for"
    one.unfit = []
    await one.acknowledge()
    one.unfit = ["t2"]
    await bench.put("tasks", make_task("t2", "n1", ports=[WEB_PORT]))
    await until(lambda: states(one) == states(two) == ["up", "up"])
    await bench.put("tasks", make_task("marker", "n1"))
    await until(lambda: bench.task("marker").state == TaskState.RUNNING)
    assert bench.task("t2").state == TaskState.RUNNING
    assert not is_up(bench.task("t2"))
    assert is_up(bench.task("marker")), "what no gateway serves needs no proof"
    one.unfit = []
    await one.acknowledge()
    await until(lambda: is_up(bench.task("t2")))
    one.unfit = ["t2"]
    await one.acknowledge()
    await until(lambda: not is_up(bench.task("t2")))
    one.unfit = None
    await one.acknowledge()
    await until(lambda: is_up(bench.task("t2")))


# -- logs ----------------------------------------------------------------------------------------------------------


async def test_logs_come_from_the_tasks_node_under_the_callers_number(bench: Bench) -> None:
    agent = await bench.agent("n1")
    await bench.put("tasks", make_task("t1", "n1"))
    await until(lambda: "t1" in agent.tasks)
    chunks: list[LogChunk] = []

    async def read() -> None:
        async for chunk in bench.manager.dispatcher.logs.read(LogRequest(77, "t1", tail=5)):
            chunks.append(chunk)

    reading = asyncio.create_task(read())
    await until(lambda: bool(messages(agent, LogRequest)))
    request = messages(agent, LogRequest)[0]
    assert isinstance(request, LogRequest)
    assert (request.task_id, request.tail) == ("t1", 5)
    await agent.send(LogChunk(request.request, "t1", line=b"hello"))
    await agent.send(LogChunk(request.request, "t1", end=True))
    await reading
    assert [(c.request, c.line, c.end) for c in chunks] == [(77, b"hello", False), (77, b"", True)]


async def test_logs_of_a_node_without_a_session_end_in_an_error(bench: Bench) -> None:
    await bench.put("tasks", make_task("t1", "n2"))
    for task_id, words in (("t1", "node n2 is not connected"), ("nothing", "task not found")):
        (chunk,) = [c async for c in bench.manager.dispatcher.logs.read(LogRequest(1, task_id))]
        assert chunk.end
        assert chunk.error == words


async def test_logs_end_in_an_error_when_the_session_ends(bench: Bench) -> None:
    agent = await bench.agent("n1")
    await bench.put("tasks", make_task("t1", "n1"))
    await until(lambda: "t1" in agent.tasks)
    chunks = bench.manager.dispatcher.logs.read(LogRequest(1, "t1", follow=True))
    first = asyncio.ensure_future(anext(chunks))
    await until(lambda: bool(messages(agent, LogRequest)))
    await agent.__aexit__()
    assert (await first).error == "the connection to the node was lost"


async def test_reader_that_leaves_cancels_the_request(bench: Bench) -> None:
    agent = await bench.agent("n1")
    await bench.put("tasks", make_task("t1", "n1"))
    await until(lambda: "t1" in agent.tasks)
    chunks = bench.manager.dispatcher.logs.read(LogRequest(1, "t1", follow=True))
    first = asyncio.ensure_future(anext(chunks))
    await until(lambda: bool(messages(agent, LogRequest)))
    first.cancel()
    await asyncio.gather(first, return_exceptions=True)
    await chunks.aclose()
    await until(lambda: bool(messages(agent, wire.LogCancel)))
