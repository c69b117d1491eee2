"""Reports of a newer version: what is unknown of them here survives in the log, the store and snapshots."""

from datetime import UTC, datetime
from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from essaim.cluster import changes, wire
from essaim.cluster.changes import ChangeSet, NodeReport, Report
from essaim.cluster.node import NodeDescription, NodeStatus
from essaim.cluster.store import Store
from essaim.cluster.task import TaskEndpoint, TaskStatus
from essaim.scheduler.dispatch.reports import Pending

AT = datetime(2026, 12, 1, tzinfo=UTC)
encode, decode = msgspec.msgpack.encode, msgspec.msgpack.decode
STATUS = {"State": "running", "Heat": 7, "ContainerStatus": {"ContainerID": "c", "Cell": 2}}
ENDPOINT = {"Protocol": "tcp", "TargetPort": 80, "Address": "127.0.0.1", "Port": 4000}
SECOND = {**ENDPOINT, "Port": 4001, "Lane": 3}


def report(**more: Any) -> dict[str, Any]:
    return {"type": "report", "task_id": "t", "node_id": "n", "status": STATUS, "endpoints": [ENDPOINT, SECOND], **more}


def raw_set(*wanted: dict[str, Any]) -> bytes:
    return encode({"changes": list(wanted), "at": AT})


def with_task(status: dict[str, Any] | None = None) -> Store:
    store = Store()
    task = {"ID": "t", "Spec": {}, "ServiceID": "s", "NodeID": "n", "Status": status or {"State": "new"}, "Cell": 4}
    store.apply(1, raw_set({"type": "put", "table": "tasks", "object": task}))
    node = {"ID": "n", "Spec": {"Role": "worker"}, "Status": {"State": "down", "Old": 1}}
    store.apply(2, raw_set({"type": "put", "table": "nodes", "object": node}))
    return store


def stored(store: Store, table: str, object_id: str) -> dict[str, Any]:
    snapshot = decode(store.snapshot()())
    found: dict[str, Any] = next(row for row in snapshot["tables"][table] if row["ID"] == object_id)
    return found


def test_store_unknown_fields_of_a_report_survive_in_its_object() -> None:
    store = with_task({"State": "new", "Old": 1})
    store.apply(3, raw_set(report()))
    task = stored(store, "tasks", "t")
    assert (task["Status"], task["Endpoints"], task["Cell"]) == (STATUS, [ENDPOINT, SECOND], 4)
    description = {"Hostname": "h", "Engine": {"EngineVersion": "20", "Flavour": "x"}, "Rack": 5}
    told = {"type": "node", "node_id": "n", "status": {"State": "ready", "Mood": "good"}, "description": description}
    store.apply(4, raw_set(told))
    node = stored(store, "nodes", "n")
    assert node["Status"] == {"State": "ready", "Mood": "good"}
    assert node["Description"] == description
    store.apply(5, raw_set({**told, "status": {"State": "down"}, "description": None}))
    node = stored(store, "nodes", "n")
    assert node["Status"] == {"State": "down"}
    assert node["Description"] == description, "a report without one leaves it as it is"


def test_store_report_that_differs_only_in_what_is_unknown_raises_the_version_as_on_a_newer_member() -> None:
    store = with_task()
    store.apply(3, raw_set(report()))
    store.apply(4, raw_set(report()))
    assert store.version == 3, "nothing new"
    store.apply(5, raw_set(report(status={**STATUS, "Heat": 8})))
    assert store.version == 5
    task = store.tasks.get("t")
    assert task is not None
    assert task.version.index == 5
    assert stored(store, "tasks", "t")["Status"]["Heat"] == 8


def test_leader_writes_what_it_does_not_know_of_an_agents_report_into_the_log() -> None:
    message = {"type": "reports", "reports": [
        {"task_id": "plain", "status": {"State": "running"}, "endpoints": None},
        {"task_id": "t", "status": STATUS, "endpoints": [ENDPOINT, SECOND]},
    ]}  # fmt: skip
    read = wire.decode_from_agent(encode(message))
    assert isinstance(read, wire.Reports)
    proposed = [Report(told.task_id, "n", told.status, told.endpoints, told.kept) for told in read.reports]
    command = changes.encode(ChangeSet(list(proposed), AT, atomic=False))
    plain, whole = decode(command)["changes"]
    assert whole == report()
    assert set(plain) == {"type", "task_id", "node_id", "status", "endpoints"}
    store = with_task()
    store.apply(3, command)
    assert stored(store, "tasks", "t")["Status"] == STATUS


def test_pending_report_that_takes_anothers_place_keeps_what_is_unknown_of_what_it_takes_over() -> None:
    (known,) = changes.decode(raw_set(report())).changes
    assert isinstance(known, Report)
    pending = Pending()
    pending.add(known)
    pending.add(Report("t", "n", TaskStatus(state="running", message="again")))
    (merged,) = pending.first(9)
    (written,) = decode(changes.encode(ChangeSet([merged], AT)))["changes"]
    assert written["endpoints"] == [ENDPOINT, SECOND]
    assert written["status"] == {"State": "running", "Message": "again"}


def test_pending_node_report_that_takes_anothers_place_keeps_its_whole_description() -> None:
    description = {"Hostname": "h", "Rack": 5}
    told = {"type": "node", "node_id": "n", "status": {"State": "ready", "Mood": "good"}, "description": description}
    (known,) = changes.decode(raw_set(told)).changes
    assert isinstance(known, NodeReport)
    pending = Pending()
    pending.add(known)
    pending.add(NodeReport("n", NodeStatus(state="down")))
    (written,) = decode(changes.encode(ChangeSet([*pending.first(9)], AT)))["changes"]
    assert (written["status"], written["description"]) == ({"State": "down"}, description)


UNKNOWN = st.dictionaries(
    st.sampled_from(["Heat", "Mood", "Lane"]), st.integers(-9, 9) | st.text(max_size=3), max_size=3
)


@given(st.lists(st.tuples(UNKNOWN, st.none() | st.lists(UNKNOWN, max_size=3)), max_size=4))
def test_change_set_of_reports_is_the_same_after_it_was_read_and_written(told: list[Any]) -> None:
    raw = [
        report(status={"State": "running", **more}, endpoints=ends and [{**ENDPOINT, **end} for end in ends])
        for more, ends in told
    ]
    assert decode(changes.encode(changes.decode(raw_set(*raw))))["changes"] == raw


def test_reports_of_this_version_carry_nothing_beside_them() -> None:
    mine: list[changes.Change] = [
        Report("t", "n", TaskStatus(timestamp=AT, state="running"), [TaskEndpoint(**_endpoint())]),
        NodeReport("n", NodeStatus(state="ready"), NodeDescription(hostname="h")),
    ]
    again = changes.decode(changes.encode(ChangeSet(mine, AT))).changes
    assert again == mine
    assert all(change.kept is msgspec.UNSET for change in again if isinstance(change, Report | NodeReport))


def _endpoint() -> dict[str, Any]:
    return {"protocol": "tcp", "target_port": 80, "address": "127.0.0.1", "port": 4000}
