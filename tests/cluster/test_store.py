"""The store against a naive second version, and its rules one by one."""

import random
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from essaim.cluster import changes
from essaim.cluster.changes import ChangeSet, Delete, Expect, NodeReport, Put, Report, put
from essaim.cluster.ids import ID_LENGTH, new_id
from essaim.cluster.node import Node, NodeDescription, NodeSpec, NodeStatus
from essaim.cluster.objects import Network, NetworkSpec, Secret, SecretSpec
from essaim.cluster.service import TaskSpec
from essaim.cluster.store import Outcome, Store
from essaim.cluster.task import Task, TaskEndpoint, TaskStatus
from essaim.cluster.watch import Lagged
from essaim.raft.interface import CannotApply

AT = datetime(2026, 11, 23, tzinfo=UTC)


def apply(store: Store, index: int, *wanted: changes.Change, atomic: bool = True) -> Outcome:
    return store.apply(index, changes.encode(ChangeSet(list(wanted), AT, atomic)))


def secret(object_id: str, name: str, data: bytes = b"x") -> Secret:
    return Secret(id=object_id, spec=SecretSpec(name=name, data=data))


def task(object_id: str, state: str = "new", node: str | None = None) -> Task:
    return Task(id=object_id, spec=TaskSpec(), service_id="s", node_id=node, status=TaskStatus(state=state))


def reasons(outcome: Outcome) -> list[str]:
    return [r.reason for r in outcome.rejected]


def test_put_new_object_stamps_version_and_times() -> None:
    store = Store()
    assert apply(store, 7, put("secrets", secret("a", "one"), new=True)).ok
    stored = store.secrets.get("a")
    assert stored is not None
    assert (stored.version.index, stored.created_at, stored.updated_at, store.version) == (7, AT, AT, 7)
    assert store.secrets.named("one") == stored


def test_put_existing_id_as_new_is_rejected_and_changes_nothing() -> None:
    store = Store()
    apply(store, 1, put("secrets", secret("a", "one"), new=True))
    outcome = apply(store, 2, put("secrets", secret("b", "two"), new=True), put("secrets", secret("a", "x"), new=True))
    assert reasons(outcome) == ["version"]
    assert [s.id for s in store.secrets] == ["a"]
    assert store.version == 1


def test_put_stale_version_is_rejected() -> None:
    store = Store()
    apply(store, 1, put("secrets", secret("a", "one"), new=True))
    read = store.secrets.get("a")
    assert read is not None
    assert apply(store, 2, put("secrets", read)).ok
    assert reasons(apply(store, 3, put("secrets", read))) == ["version"]
    assert apply(store, 4, put("secrets", read, force=True)).ok


def test_put_taken_name_is_rejected() -> None:
    store = Store()
    apply(store, 1, put("secrets", secret("a", "one"), new=True))
    assert reasons(apply(store, 2, put("secrets", secret("b", "one"), new=True))) == ["name"]
    both = apply(store, 3, put("secrets", secret("c", "same"), new=True), put("secrets", secret("d", "same"), new=True))
    assert reasons(both) == ["name"]
    assert [s.id for s in store.secrets] == ["a"]


def network(object_id: str, *subnets: str) -> Network:
    return Network(id=object_id, spec=NetworkSpec(name=object_id, ipam={"Config": [{"Subnet": s} for s in subnets]}))


def test_put_new_network_in_anothers_subnet_is_rejected() -> None:
    """Two managers chose the same one at the same time."""
    store = Store()
    assert apply(store, 1, put("networks", network("a", "10.0.1.0/24", "fd00::/64"), new=True)).ok
    for number, subnet in enumerate(["10.0.1.0/24", "10.0.0.0/16", "10.0.1.128/25", "fd00::/80"]):
        taken = apply(store, 2, put("networks", network(f"b{number}", "10.9.0.0/24", subnet), new=True))
        assert reasons(taken) == ["subnet"], subnet
    assert apply(store, 3, put("networks", network("c", "10.0.2.0/24"), new=True)).ok
    stored = store.networks.get("a")
    assert stored is not None
    assert apply(store, 4, put("networks", stored)).ok
    assert apply(store, 5, put("networks", network("odd", "nonsense"), new=True)).ok


def test_renamed_object_frees_its_name() -> None:
    store = Store()
    apply(store, 1, put("secrets", secret("a", "one"), new=True))
    assert apply(store, 2, put("secrets", secret("a", "two"), force=True)).ok
    assert store.secrets.named("one") is None
    assert apply(store, 3, put("secrets", secret("b", "one"), new=True)).ok


def test_lenient_set_skips_what_does_not_hold_and_applies_the_rest() -> None:
    store = Store()
    apply(store, 1, put("secrets", secret("a", "one"), new=True))
    outcome = apply(
        store,
        2,
        put("secrets", secret("a", "one"), new=True),
        put("secrets", secret("b", "one"), new=True),
        put("secrets", secret("c", "two"), new=True),
        atomic=False,
    )
    assert reasons(outcome) == ["version", "name"]
    assert [s.id for s in store.secrets] == ["a", "c"]


def test_expect_guards_the_set() -> None:
    store = Store()
    apply(store, 1, put("secrets", secret("a", "one"), new=True))
    assert reasons(apply(store, 2, Expect("secrets", "a", 9), Delete("secrets", "a"))) == ["version"]
    assert apply(store, 3, Expect("secrets", "a", 1), Expect("secrets", "zz", 0), Delete("secrets", "a")).ok
    assert len(store.secrets) == 0


def test_report_moves_a_task_forward_and_never_back() -> None:
    store = Store()
    apply(store, 1, put("tasks", task("t", "assigned", "n1"), new=True))
    endpoint = TaskEndpoint(protocol="tcp", target_port=80, address="10.0.0.1", port=4711)
    apply(store, 2, Report("t", "n1", TaskStatus(state="running"), [endpoint]))
    apply(store, 3, Report("t", "n1", TaskStatus(state="preparing")))
    apply(store, 4, Report("t", "other", TaskStatus(state="failed")))
    apply(store, 5, Report("gone", "n1", TaskStatus(state="failed")))
    found = store.tasks.get("t")
    assert found is not None
    assert (found.status.state, found.version.index, found.endpoints) == ("running", 2, [endpoint])
    assert store.version == 2


def test_node_report_keeps_spec_and_description() -> None:
    store = Store()
    described = NodeDescription(hostname="h1")
    apply(store, 1, put("nodes", Node(id="n", spec=NodeSpec(role="manager"), description=described), new=True))
    apply(store, 2, NodeReport("n", NodeStatus(state="ready", addr="10.0.0.1")))
    node = store.nodes.get("n")
    assert node is not None
    assert (node.spec.role, node.hostname, node.is_ready) == ("manager", "h1", True)
    assert store.nodes.by("hostname", "h1") == [node]


def test_indexes_follow_changes_and_deletes() -> None:
    store = Store()
    apply(store, 1, put("tasks", task("t", node=None), new=True))
    assert [t.id for t in store.tasks.by("node", "")] == ["t"]
    apply(store, 2, put("tasks", task("t", node="n1"), force=True))
    assert [t.id for t in store.tasks.by("node", "n1")] == ["t"]
    assert store.tasks.by("node", "") == []
    apply(store, 3, Delete("tasks", "t"))
    assert store.tasks.by("service", "s") == []


def test_index_keeps_the_order_of_creation_through_changes_and_a_restore() -> None:
    store, restored = Store(), Store()
    apply(store, 1, *(put("tasks", task(i, "assigned", "n1"), new=True) for i in "abc"))
    apply(store, 2, Report("a", "n1", TaskStatus(state="running")))
    apply(store, 3, put("tasks", task("b", "assigned", "n2"), force=True))
    restored.restore(3, store.snapshot()())
    for table in (store.tasks, restored.tasks):
        assert [t.id for t in table.by("service", "s")] == ["a", "b", "c"]
        assert [t.id for t in table.by("node", "n1")] == ["a", "c"]


def test_change_leaves_the_object_before_it_as_it_was() -> None:
    store = Store()
    apply(store, 1, put("tasks", task("a", "assigned", "n1"), new=True), put("nodes", Node(id="n1", spec=NodeSpec())))
    before, node = store.tasks.get("a"), store.nodes.get("n1")
    with store.watch() as watch:
        apply(store, 2, Report("a", "n1", TaskStatus(state="running")), NodeReport("n1", NodeStatus(state="ready")))
        events = watch.drain()
    assert [(event.old.version.index, event.object.version.index) for event in events] == [(1, 2), (1, 2)]
    assert events[0].old is before
    assert events[1].old is node


async def test_watch_gives_events_of_its_tables_in_order() -> None:
    store = Store()
    with store.watch("secrets") as watch:
        apply(store, 1, put("secrets", secret("a", "one"), new=True), put("tasks", task("t"), new=True))
        apply(store, 2, put("secrets", secret("a", "one", b"y"), force=True))
        apply(store, 3, Delete("secrets", "a"))
        events = await watch.next()
    assert [(e.kind, e.object.version.index) for e in events] == [("create", 1), ("update", 2), ("delete", 2)]
    assert events[1].old.spec.data == b"x"
    apply(store, 4, put("secrets", secret("b", "two"), new=True))
    assert watch.drain() == []


async def test_watch_slow_reader_is_told_and_recovers() -> None:
    store = Store()
    with store.watch(limit=2) as watch:
        for index in range(1, 5):
            apply(store, index, put("secrets", secret(f"s{index}", f"s{index}"), new=True))
        with pytest.raises(Lagged):
            await watch.next()
        apply(store, 9, put("secrets", secret("z", "z"), new=True))
        assert [e.object.id for e in await watch.next()] == ["z"]


def test_snapshot_restores_everything_and_is_frozen_at_its_time() -> None:
    store = Store()
    apply(store, 1, put("secrets", secret("a", "one"), new=True), put("tasks", task("t", "running", "n"), new=True))
    serialise = store.snapshot()
    apply(store, 2, Delete("secrets", "a"))
    copy = Store()
    copy.restore(1, serialise())
    assert copy.version == 1
    assert [s.spec.name for s in copy.secrets] == ["one"]
    assert [t.id for t in copy.tasks.by("node", "n")] == ["t"]
    assert copy.snapshot()() == serialise()


def test_restore_of_a_broken_snapshot_leaves_the_store_as_it_was() -> None:
    store = Store()
    apply(store, 1, put("secrets", secret("a", "one"), new=True))
    with pytest.raises(CannotApply):
        store.restore(5, b"garbage")
    assert [s.id for s in store.secrets] == ["a"]


async def test_restore_publishes_the_differences() -> None:
    store, other = Store(), Store()
    apply(store, 1, put("secrets", secret("a", "one"), new=True), put("secrets", secret("b", "two"), new=True))
    apply(other, 1, put("secrets", secret("b", "two"), new=True))
    apply(other, 2, put("secrets", secret("c", "three"), new=True))
    with store.watch() as watch:
        store.restore(2, other.snapshot()())
        assert [(e.kind, e.object.id) for e in watch.drain()] == [("delete", "a"), ("create", "c")]


@given(st.integers(0, 2**32))
def test_new_id_is_25_characters_of_base_36(seed: int) -> None:
    made = new_id(random.Random(seed))
    assert len(made) == ID_LENGTH
    assert int(made, 36) < 2**128


# -- the naive second version -----------------------------------------------------------------------------------------

IDS, NAMES = st.sampled_from("abc"), st.sampled_from(["x", "y", "z"])
EXPECTS = st.none() | st.integers(0, 6)
OPERATIONS = st.lists(
    st.tuples(st.just("put"), IDS, NAMES, EXPECTS) | st.tuples(st.just("del"), IDS, NAMES, EXPECTS),
    min_size=1,
    max_size=3,
)


class Naive:
    """One dict, copied before each set."""

    def __init__(self) -> None:
        self.rows: dict[str, tuple[str, int]] = {}

    def holds(self, rows: dict[str, tuple[str, int]], kind: str, key: str, name: str, expect: int | None) -> bool:
        version = rows[key][1] if key in rows else 0
        if expect is not None and expect != version:
            return False
        return kind == "del" or all(other == key or row[0] != name for other, row in rows.items())

    def apply(self, index: int, operations: list[tuple[str, str, str, int | None]], *, atomic: bool) -> None:
        before = dict(self.rows)
        if atomic:
            puts: dict[str, str] = {}
            clash = any(k == "put" and puts.setdefault(name, key) != key for k, key, name, _ in operations)
            if clash or not all(self.holds(before, *operation) for operation in operations):
                return
        for kind, key, name, expect in operations:
            if not atomic and not self.holds(self.rows, kind, key, name, expect):
                continue
            if kind == "put":
                self.rows[key] = (name, index)
            else:
                self.rows.pop(key, None)


@given(st.lists(st.tuples(st.booleans(), OPERATIONS), max_size=12))
def test_store_agrees_with_the_naive_one(
    history: list[tuple[bool, list[tuple[str, str, str, int | None]]]],
) -> None:
    store, naive = Store(), Naive()
    for index, (atomic, operations) in enumerate(history, 1):
        wanted: list[changes.Change] = [
            Put("secrets", put("secrets", secret(key, name)).object, expect)
            if kind == "put"
            else Delete("secrets", key, expect)
            for kind, key, name, expect in operations
        ]
        apply(store, index, *wanted, atomic=atomic)
        naive.apply(index, operations, atomic=atomic)
        assert {s.id: (s.spec.name, s.version.index) for s in store.secrets} == naive.rows
        for name in ("x", "y", "z"):
            named = store.secrets.named(name)
            assert (named.id if named else None) in {k for k, row in naive.rows.items() if row[0] == name} | {None}
