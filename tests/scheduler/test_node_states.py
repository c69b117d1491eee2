"""A node's state in the store follows its session, whatever came late, got lost or overtook another."""

import asyncio

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from essaim.cluster import wire
from essaim.cluster.changes import ChangeSet, NodeReport, Report, Verdict, encode
from essaim.cluster.errors import Unavailable
from essaim.cluster.node import NodeDescription, NodeStatus
from essaim.cluster.store import Store
from essaim.cluster.swarm import Cluster, DispatcherConfig, default_spec
from essaim.cluster.task import TaskEndpoint, TaskStatus
from essaim.scheduler.dispatch.reports import Pending, ReportWriter
from essaim.scheduler.tasks import is_up
from tests.scheduler.agents import Manager, Quiet, SimulatedAgent, node, until, utc_now
from tests.scheduler.test_dispatcher import Bench, bench, make_task, messages, served

__all__ = ["bench"]


async def beat_fast(bench: Bench, *, grace: int | None = None) -> None:
    dispatcher = DispatcherConfig(heartbeat_period=100_000_000, restart_grace=grace)
    spec = msgspec.structs.replace(default_spec(), dispatcher=dispatcher)
    await bench.put("clusters", Cluster(id="c1", spec=spec))
    bench.manager.dispatcher.check()


def state(bench: Bench, node_id: str = "n1") -> str:
    found = bench.manager.store.nodes.get(node_id)
    return found.status.state if found is not None else ""


async def test_node_that_is_back_before_its_down_was_written_is_ready(bench: Bench) -> None:
    """The log takes nothing while the node falls silent and comes back."""
    await beat_fast(bench)
    agent = await bench.agent("n1")
    await until(lambda: state(bench) == "ready" and len(messages(agent, wire.HeartbeatAck)) > 6)
    bench.manager.log.has_quorum = False
    await agent.__aexit__()
    await until(lambda: any("node is down" in line[1] for line in bench.manager.quiet.lines))
    await bench.agent("n1")
    await until(lambda: "n1" in bench.manager.dispatcher.sessions.connected)
    bench.manager.log.has_quorum = True
    written = bench.manager.log.index
    await until(lambda: bench.manager.log.index > written)
    await until(lambda: state(bench) == "ready", within=3)


async def test_node_that_the_store_calls_down_while_its_session_lives_is_ready_again(bench: Bench) -> None:
    await beat_fast(bench)
    await bench.agent("n1")
    await until(lambda: state(bench) == "ready")
    stored = bench.manager.store.nodes.get("n1")
    assert stored is not None
    await bench.put("nodes", msgspec.structs.replace(stored, status=NodeStatus(state="down", addr="127.0.0.1")))
    await until(lambda: state(bench) == "ready", within=3)


async def test_task_that_was_found_unfit_late_is_fit_once_its_gateway_has_said_so(bench: Bench) -> None:
    """The gateway's word changes while the older one still waits for the log."""
    one, _ = await served(bench)
    one.unfit = []
    await one.acknowledge()
    await until(lambda: bench.task("t1").status.reachable is not False)
    bench.manager.log.has_quorum = False
    one.unfit = ["t1"]
    await one.acknowledge()
    await until(lambda: any("wait for the log" in line[1] for line in bench.manager.quiet.lines))
    one.unfit = []
    await one.acknowledge()
    bench.manager.log.has_quorum = True
    await until(lambda: bench.task("t1").status.reachable is False)
    await until(lambda: is_up(bench.task("t1")), within=3)


async def test_agent_is_told_of_a_task_that_went_while_events_were_missed(bench: Bench) -> None:
    await bench.put("tasks", make_task("t1", "n1"))
    agent = await bench.agent("n1")
    await until(lambda: "t1" in agent.tasks)
    dispatcher = bench.manager.dispatcher
    bench.manager.store.tasks.remove("t1")  # as a snapshot does whose events were more than the watch holds
    dispatcher.look_at_everything()
    await until(lambda: "t1" not in agent.tasks)


async def test_session_of_a_node_whose_removal_was_missed_is_refused(bench: Bench) -> None:
    agent = await bench.agent("n1")
    await until(lambda: state(bench) == "ready")
    bench.manager.store.nodes.remove("n1")
    await until(lambda: bool(messages(agent, wire.Refused)))


# -- goodbye -------------------------------------------------------------------------------------------------------


async def leave(agent: SimulatedAgent) -> None:
    await agent.send(wire.Goodbye())
    await until(lambda: bool(messages(agent, wire.Farewell)))
    await agent.__aexit__()


async def test_node_that_says_goodbye_is_told_farewell_once_the_store_knows(bench: Bench) -> None:
    await beat_fast(bench)
    agent = await bench.agent("n1")
    await until(lambda: state(bench) == "ready")
    await leave(agent)
    stored = bench.manager.store.nodes.get("n1")
    assert stored is not None
    assert stored.status.state == "unknown"
    assert "was stopped to start again" in (stored.status.message or "")
    await bench.agent("n1")
    await until(lambda: state(bench) == "ready", within=3)


async def test_node_that_says_goodbye_and_stays_away_is_down_when_its_grace_is_over(bench: Bench) -> None:
    await beat_fast(bench, grace=600_000_000)
    agent = await bench.agent("n1")
    await until(lambda: state(bench) == "ready")
    await leave(agent)
    await until(lambda: state(bench) == "down", within=5)


async def test_silent_node_is_asked_about_on_others_and_kept_while_they_reach_it(bench: Bench) -> None:
    await beat_fast(bench)

    class Witness(SimulatedAgent):
        answers: bool | None = True

        async def _receive(self, message: wire.ToAgent) -> None:
            await super()._receive(message)
            if isinstance(message, wire.Ask):
                await self.send(wire.Answered(message.node_id, self.answers))

    witness = await bench.stack.enter_async_context(Witness("n2", bench.manager.dispatcher))
    agent = await bench.agent("n1")
    await until(lambda: state(bench) == "ready" and len(messages(agent, wire.HeartbeatAck)) > 6)
    await agent.__aexit__()
    await until(lambda: state(bench) == "unknown", within=3)
    await until(lambda: len(messages(witness, wire.Ask)) >= 3, within=6)
    assert state(bench) == "unknown"
    witness.answers = False
    await until(lambda: state(bench) == "down", within=6)


# -- reports on their way ------------------------------------------------------------------------------------------


def node_reports() -> st.SearchStrategy[NodeReport]:
    states = st.sampled_from(["ready", "down", "unknown"]).map(lambda name: NodeStatus(state=name))
    described = st.none() | st.sampled_from("xy").map(lambda name: NodeDescription(hostname=name))
    return st.builds(NodeReport, st.sampled_from(["n1", "n2"]), states, described)


def task_reports() -> st.SearchStrategy[Report]:
    status = st.builds(TaskStatus, state=st.sampled_from(["starting", "running", "failed"]), healthy=st.booleans())
    endpoints = st.none() | st.integers(1, 2).map(
        lambda port: [TaskEndpoint(protocol="tcp", target_port=80, address="a", port=port)]
    )
    return st.builds(Report, st.sampled_from(["t1", "t2"]), st.just("n1"), status, endpoints)


def applied(reports: list[Report | Verdict | NodeReport]) -> tuple[object, ...]:
    manager = Manager()
    store: Store = manager.store
    for one in (node("n1"), node("n2")):
        store.nodes.set(one)
    for task_id in ("t1", "t2"):
        store.tasks.set(make_task(task_id, "n1"))
    for index, report in enumerate(reports, 1):
        store.apply(index, encode(ChangeSet([report], utc_now(), atomic=False)))
    rows = [*store.nodes, *store.tasks]
    return tuple(
        (row.id, row.status, getattr(row, "description", None), getattr(row, "endpoints", None)) for row in rows
    )


@given(st.lists(node_reports() | task_reports(), max_size=12))
def test_reports_that_took_each_others_place_mean_what_all_of_them_mean(
    reports: list[Report | Verdict | NodeReport],
) -> None:
    pending = Pending()
    for report in reports:
        pending.add(report)
    assert len(pending) <= 2 + 2 * 3
    assert applied(pending.first(100)) == applied(reports)


async def test_report_that_cannot_be_written_holds_up_no_other() -> None:
    class Picky:
        def __init__(self) -> None:
            self.written: list[object] = []

        async def write(self, reports: list[object], *, atomic: bool) -> None:
            if any(isinstance(report, Verdict) for report in reports):
                raise ValueError("a command that is too big")
            self.written += reports

    picky, quiet = Picky(), Quiet()
    writer = ReportWriter(picky, quiet)  # type: ignore[arg-type]
    for number in range(5):
        writer.add(NodeReport(f"n{number}", NodeStatus(state="ready")))
    writer.add(Verdict("t1", "n1", True))
    running = asyncio.create_task(writer.run())
    await until(lambda: len(picky.written) == 5 and writer.of_node("n4") is None)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert len(quiet.errors) == 1
    assert not isinstance(quiet.errors[0][2]["error"], Unavailable)
