"""Managers of two releases: what a newer one has written, in this version's store."""

from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from essaim.cluster import changes, formats
from essaim.cluster.changes import ChangeSet, Delete, NodeReport, Put, Report, put
from essaim.cluster.errors import Unavailable
from essaim.cluster.formats import agreed
from essaim.cluster.kept import unknown_in, with_kept
from essaim.cluster.node import NodeDescription, NodeStatus
from essaim.cluster.objects import Secret, SecretSpec
from essaim.cluster.store import Store
from essaim.cluster.swarm import Cluster, SwarmSpec
from essaim.cluster.task import TaskStatus
from essaim.cluster.writer import Writer
from essaim.raft.interface import CannotApply

AT = datetime(2026, 11, 30, tzinfo=UTC)
encode, decode = msgspec.msgpack.encode, msgspec.msgpack.decode


class LocalLog:
    """A log of one member that is always there."""

    def __init__(self, store: Store) -> None:
        self.store, self.index = store, 0

    async def propose(self, command: bytes, *, timeout: float | None = None) -> Any:
        self.index += 1
        return self.store.apply(self.index, command)


def writer_of(store: Store) -> Writer:
    return Writer(LocalLog(store), store, lambda: AT)


def raw_set(*wanted: dict[str, Any], **more: Any) -> bytes:
    return encode({"changes": list(wanted), "at": AT, "atomic": True, **more})


def newer_secret(**more: Any) -> dict[str, Any]:
    """As a release writes it that has fields at every level which this one does not know."""
    return {"ID": "a", "Spec": {"Name": "one", "Data": b"x", "Rotation": {"Days": 3}}, "Origin": "vault", **more}


def stored(store: Store, table: str, object_id: str) -> dict[str, Any]:
    """The object as a snapshot has it, which another member may restore."""
    snapshot = decode(store.snapshot()())
    found: dict[str, Any] = next(row for row in snapshot["tables"][table] if row["ID"] == object_id)
    return found


@pytest.mark.parametrize(
    "command",
    [
        b"garbage",
        raw_set({"type": "swap", "table": "secrets", "id": "a", "with": "b"}),
        raw_set({"type": "put", "table": "volumes", "object": {"ID": "a"}}),
        raw_set({"type": "del", "table": "volumes", "id": "a"}),
        raw_set({"type": "put", "table": "secrets", "object": {"ID": "a", "Spec": "by reference"}}),
        raw_set({"type": "put", "table": "secrets", "object": newer_secret()}, format=formats.FORMAT + 1),
        raw_set({"type": "put", "table": "clusters", "object": {"ID": "k", "Spec": {}, "Format": formats.FORMAT + 1}}),
    ],
)
def test_store_change_set_of_a_newer_version_that_it_cannot_apply_stops_it(command: bytes) -> None:
    store = Store()
    store.apply(1, changes.encode(ChangeSet([put("secrets", Secret(id="z", spec=SecretSpec(name="z")), new=True)], AT)))
    with pytest.raises(CannotApply, match=r"does not understand .*[Uu]pgrade essaim on this node"):
        store.apply(2, command)
    assert store.version == 1
    assert [secret.id for secret in store.secrets] == ["z"]


@pytest.mark.parametrize(
    "change",
    [
        {"format": 2},
        {"tables": {"volumes": [{"ID": "v"}]}},
        {"tables": {"secrets": [{"ID": "a", "Spec": "by reference"}]}},
        {"tables": {"clusters": [{"ID": "k", "Spec": {}, "Format": formats.FORMAT + 1}]}},
    ],
)
def test_store_snapshot_of_a_newer_version_that_it_cannot_read_stops_it(change: dict[str, Any]) -> None:
    store = Store()
    store.apply(1, raw_set({"type": "put", "table": "secrets", "object": newer_secret()}))
    whole = {**decode(Store().snapshot()()), **change}
    with pytest.raises(CannotApply, match="Upgrade essaim"):
        store.restore(9, encode(whole))
    assert stored(store, "secrets", "a")["Origin"] == "vault"


async def test_store_unknown_fields_survive_being_read_and_rewritten() -> None:
    store = Store()
    writer = writer_of(store)
    store.apply(1, raw_set({"type": "put", "table": "secrets", "object": newer_secret()}))
    writer._log.index = 1
    secret = store.secrets.get("a")
    assert secret is not None
    spec = msgspec.structs.replace(secret.spec, labels={"by": "this version"})
    await writer.commit([put("secrets", msgspec.structs.replace(secret, spec=spec))])
    found = stored(store, "secrets", "a")
    assert found["Spec"] == {
        "Name": "one", "Data": b"x", "Rotation": {"Days": 3}, "Labels": {"by": "this version"},
    }  # fmt: skip
    assert found["Origin"] == "vault"
    await writer.commit([Delete("secrets", "a")])
    await writer.commit([put("secrets", Secret(id="a", spec=SecretSpec(name="anew")), new=True)])
    assert "Origin" not in stored(store, "secrets", "a")


async def test_store_unknown_fields_survive_snapshots() -> None:
    store, other = Store(), Store()
    store.apply(1, raw_set({"type": "put", "table": "secrets", "object": newer_secret()}))
    other.restore(1, store.snapshot()())
    assert stored(other, "secrets", "a") == stored(store, "secrets", "a")
    from_newer = decode(store.snapshot()())
    from_newer["shapes"] = 7  # a version that knows them: it marks nothing
    from_newer["kept"] = {}
    third = Store()
    third.restore(1, encode(from_newer))
    assert stored(third, "secrets", "a")["Spec"]["Rotation"] == {"Days": 3}


def test_store_part_that_is_reported_anew_keeps_nothing_of_the_one_before() -> None:
    store = Store()
    node = {"ID": "n", "Spec": {"Role": "worker", "Zone": 7}, "Status": {"State": "down", "Since": 3}}
    store.apply(1, raw_set({"type": "put", "table": "nodes", "object": node}))
    report = NodeReport("n", NodeStatus(state="ready"), NodeDescription(hostname="h"))
    store.apply(2, changes.encode(ChangeSet([report], AT)))
    found = stored(store, "nodes", "n")
    assert found["Spec"]["Zone"] == 7
    assert found["Status"] == {"State": "ready"}
    task = {"ID": "t", "Spec": {}, "ServiceID": "s", "NodeID": "n", "Status": {"State": "new", "Heat": 1}, "Cell": 4}
    store.apply(3, raw_set({"type": "put", "table": "tasks", "object": task}))
    store.apply(4, changes.encode(ChangeSet([Report("t", "n", TaskStatus(state="running"))], AT)))
    found = stored(store, "tasks", "t")
    assert (found["Cell"], "Heat" in found["Status"]) == (4, False)


async def test_writer_refuses_what_no_member_could_read() -> None:
    """In the log it would stop every manager for good."""
    writer = writer_of(Store())
    with pytest.raises(ValueError, match="an object for secrets is not of its type"):
        await writer.commit([Put("secrets", msgspec.Raw(encode({"ID": 7})))])
    assert writer._log.index == 0


async def test_writer_holds_back_what_needs_a_newer_format_until_all_managers_have_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(formats, "FORMAT", 2)
    monkeypatch.setattr(changes, "NEEDS", {Delete: 2})
    store = Store()
    writer = writer_of(store)
    await writer.commit([put("clusters", Cluster(id="k", spec=SwarmSpec()), new=True)])
    with pytest.raises(Unavailable, match=r"needs format 2 .* agreed on 1: upgrade essaim on all managers"):
        await writer.commit([Delete("secrets", "a")])
    cluster = store.cluster
    assert cluster is not None
    await writer.commit([put("clusters", msgspec.structs.replace(cluster, format=2))])
    await writer.commit([Delete("secrets", "a")])


@given(st.lists(st.none() | st.integers(1, 5), min_size=1), st.none() | st.integers(1, 5))
def test_agreed_format_is_the_lowest_of_all_and_never_lowered(managers: list[int | None], now: int | None) -> None:
    found = agreed(managers, now)
    assert found >= (now or 1)
    if found > (now or 1):
        assert all((known or 1) >= found for known in managers)
        assert any((known or 1) == found for known in managers)


# -- the mathematics of what is kept, over any objects --------------------------------------------------------------

values = st.recursive(
    st.integers(0, 3) | st.text(max_size=2),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abcxyz"), inner, max_size=4),
    max_leaves=12,
)
objects = st.dictionaries(st.sampled_from("abcxyz"), values, max_size=5)


def without(value: Any, names: str) -> Any:
    """As a version reads it that does not know these names, at any level."""
    if isinstance(value, dict):
        return {name: without(inner, names) for name, inner in value.items() if name not in names}
    return [without(inner, names) for inner in value] if isinstance(value, list) else value


@given(objects, st.sampled_from(["x", "xyz", "ay"]))
def test_kept_fields_put_back_give_the_whole_object(whole: dict[str, Any], unknown: str) -> None:
    known = without(whole, unknown)
    kept = unknown_in(encode(whole), encode(known))
    assert (kept is None) == (whole == known)
    assert kept is None or decode(with_kept(encode(known), kept)) == whole


@given(objects, objects, st.sampled_from(["x", "xyz"]))
def test_kept_fields_never_change_what_is_known(old: dict[str, Any], new: dict[str, Any], unknown: str) -> None:
    kept = unknown_in(encode(old), encode(without(old, unknown)))
    rewritten = without(new, unknown)
    if kept is not None:
        found = decode(with_kept(encode(rewritten), kept))
        assert without(found, unknown) == rewritten
        for name in unknown:
            assert found.get(name) == old.get(name)


def test_kept_fields_of_list_elements_follow_them() -> None:
    whole = {"Mounts": [{"Target": "/a", "New": 1}, {"Target": "/b", "New": 2}]}
    kept = unknown_in(encode(whole), encode(without(whole, ["New"])))
    assert kept is not None
    moved = {"Mounts": [{"Target": "/b"}, {"Target": "/c"}, {"Target": "/a"}]}
    assert decode(with_kept(encode(moved), kept)) == {
        "Mounts": [{"Target": "/b", "New": 2}, {"Target": "/c"}, {"Target": "/a", "New": 1}]
    }
