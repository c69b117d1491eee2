"""The replicated store: every manager's in-memory copy of the cluster's objects.

It is a state machine over change sets (`changes.py`): a log drives `apply`, and reads and watches are local. Nothing
else changes it. Objects are immutable, so a reader may keep what it got for as long as it likes.

- The store-wide version is the log index of the last change set that had an effect.
- Events are published after the whole set was applied, in the order of its changes.
- Names are unique within a table, except for nodes and tasks; no new network overlaps another's subnet, so that two
  managers which choose one at once do not both get it. Rejected: relational storage (sqlite) under the store;
  the log is the durable copy, and loops read far more often than anybody writes.
"""

import functools
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Generic, Literal, TypeVar

import msgspec
from msgspec.structs import force_setattr

from . import changes, formats
from .acme import OrderedCertificate, Resolver
from .changes import Delete, Expect, NodeReport, Put, Report, Verdict
from .kept import Kept, unknown_in, with_kept
from .node import Node
from .objects import Config, Network, Secret
from .service import Service
from .shape import StoredObject, Version
from .swarm import Cluster
from .task import Task, TaskState
from .watch import Event, Watch

T = TypeVar("T", bound=StoredObject)
_encode = msgspec.msgpack.Encoder().encode

_AIMED = (Delete, Expect)
"""Changes that name an object of a table."""

Key = Callable[[Any], str | None]


class Table(Generic[T]):
    """Objects of one kind by id, in order of creation, with indexes from a key to the objects that have it."""

    def __init__(self, name: str, kind: type[T], *, unique_name: bool = False, indexes: dict[str, Key] | None = None):
        self.name = name
        self.kind = kind
        self.unique_name = unique_name
        self._decoder: msgspec.msgpack.Decoder[T] = msgspec.msgpack.Decoder(kind)
        self._keys = indexes or {}
        self._rows: dict[str, T] = {}
        self.kept: dict[str, Kept] = {}  # by id, of the objects that have fields which this version does not know
        self._indexes: dict[str, dict[str, dict[str, T]]] = {name: {} for name in self._keys}

    def __len__(self) -> int:
        return len(self._rows)

    def __iter__(self) -> Iterator[T]:
        return iter(list(self._rows.values()))

    def get(self, object_id: str) -> T | None:
        return self._rows.get(object_id)

    def by(self, index: str, key: str) -> list[T]:
        """The objects whose `index` key is `key`, oldest first."""
        return list(self._indexes[index].get(key, {}).values())

    def named(self, name: str) -> T | None:
        """The object of that name, in a table of unique names."""
        found = self._indexes["name"].get(name)
        return next(iter(found.values())) if found else None

    def decode(self, data: msgspec.Raw) -> T:
        return self._decoder.decode(data)

    def unknown(self, data: msgspec.Raw, value: T) -> Kept | None:
        """What this version does not know of an object that was decoded."""
        return unknown_in(data, _encode(value))

    def read(self, data: msgspec.Raw) -> tuple[T, Kept | None]:
        """An object, and what this version does not know of it. Raises msgspec.DecodeError."""
        value = self._decoder.decode(data)
        return value, self.unknown(data, value)

    def keep(self, object_id: str, kept: Kept | None) -> None:
        if kept is not None:
            self.kept[object_id] = kept
        elif self.kept:
            self.kept.pop(object_id, None)

    def replaced(self, object_id: str, parts: Mapping[str, Kept | None]) -> bool:
        """These parts of an object were replaced as a whole, with what is kept inside each of them from now on. Whether
        that is something else than before."""
        old = self.kept.get(object_id)
        kept = (old or Kept()).with_parts(parts)
        self.keep(object_id, kept)
        return kept != old

    def set(self, value: T) -> T | None:
        """Insert or replace; the previous object. Only the store calls this."""
        object_id = value.id
        old = self._rows.get(object_id)
        self._rows[object_id] = value
        for index, key_of in self._keys.items():
            key, before = key_of(value), None if old is None else key_of(old)
            if before is not None and before != key:
                self._unindex(index, before, object_id)
            if key is not None:
                buckets = self._indexes[index]
                if (bucket := buckets.get(key)) is None:
                    bucket = buckets[key] = {}
                bucket[object_id] = value
        return old

    def remove(self, object_id: str) -> T | None:
        """Only the store calls this."""
        old = self._rows.pop(object_id, None)
        if old is not None:
            for index, key_of in self._keys.items():
                if (key := key_of(old)) is not None:
                    self._unindex(index, key, object_id)
        return old

    def _unindex(self, index: str, key: str, object_id: str) -> None:
        bucket = self._indexes[index][key]
        bucket.pop(object_id, None)
        if not bucket:
            del self._indexes[index][key]


@dataclass(frozen=True, slots=True)
class Rejected:
    """Why a change (or with it the whole atomic set) had no effect."""

    reason: Literal["version", "name", "subnet"]
    table: str
    id: str


@dataclass(slots=True)
class Outcome:
    """What a change set did. `index` is its version; `rejected` is empty when all of it took effect."""

    index: int
    rejected: list[Rejected] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        return not self.rejected


@dataclass(slots=True)
class Reading:
    """What the puts of a change set were decoded to, by their place in it: the objects (None for another change), and
    what is unknown of those of which anything is. Lists, not an object a change: the garbage collector walks less."""

    values: list[Any] = field(default_factory=list)
    kept: dict[int, Kept] = field(default_factory=dict)


class Snapshot(msgspec.Struct):
    """The serialised store: format 1, MessagePack.

    `shapes` tells which fields its writer knew, `kept` the ids of the objects that have others beside them.
    """

    format: int
    version: int
    tables: dict[str, list[msgspec.Raw]]
    shapes: int = 0
    kept: dict[str, list[str]] = {}


KINDS: tuple[type[StoredObject], ...] = (
    Cluster, Node, Service, Task, Secret, Config, Network, Resolver, OrderedCertificate,
)  # fmt: skip


@functools.cache
def shapes() -> int:
    """A checksum of the names of all fields that this version knows."""
    _, components = msgspec.json.schema_components(KINDS)
    names = sorted((kind, sorted(shape.get("properties", ()))) for kind, shape in components.items())
    return zlib.crc32(msgspec.json.encode(names))


STATUS = {"Status": "status"}
STATUS_AND_ENDPOINTS = STATUS | {"Endpoints": "endpoints"}
STATUS_AND_DESCRIPTION = STATUS | {"Description": "description"}
"""Parts of objects that reports replace: their names there, and in the report."""


def _replaced(table: Table[Any], object_id: str, report: Report | NodeReport, parts: dict[str, str]) -> bool:
    """A report replaces these parts of an object: whether what is unknown of them is something else than before."""
    if report.kept is msgspec.UNSET and not table.kept:
        return False  # as nearly always
    inside = report.kept.inside if isinstance(report.kept, Kept) else {}
    return table.replaced(object_id, {of_object: inside.get(of_report) for of_object, of_report in parts.items()})


def _spec_name(value: Any) -> str | None:
    name: str | None = value.spec.name
    return name


class Store:
    """All tables. Implements the log's `StateMachine`."""

    def __init__(self) -> None:
        named: dict[str, Key] = {"name": _spec_name}
        self.clusters: Table[Cluster] = Table("clusters", Cluster)
        self.nodes: Table[Node] = Table("nodes", Node, indexes={"hostname": lambda n: n.hostname or None})
        self.services: Table[Service] = Table("services", Service, unique_name=True, indexes=named)
        self.tasks: Table[Task] = Table(
            "tasks",
            Task,
            indexes={"service": lambda t: t.service_id, "node": lambda t: t.node_id or ""},
        )
        self.secrets: Table[Secret] = Table("secrets", Secret, unique_name=True, indexes=named)
        self.configs: Table[Config] = Table("configs", Config, unique_name=True, indexes=named)
        self.networks: Table[Network] = Table("networks", Network, unique_name=True, indexes=named)
        self.resolvers: Table[Resolver] = Table("resolvers", Resolver, unique_name=True, indexes=named)
        self.certificates: Table[OrderedCertificate] = Table("certificates", OrderedCertificate)
        tables: list[Table[Any]] = [
            self.clusters, self.nodes, self.services, self.tasks, self.secrets, self.configs, self.networks,
            self.resolvers, self.certificates,
        ]  # fmt: skip
        self.tables: dict[str, Table[Any]] = {table.name: table for table in tables}
        self.version = 0
        self._watches: set[Watch] = set()

    @property
    def format(self) -> int:
        """What change sets and objects may have (`formats.py`)."""
        return (self.cluster and self.cluster.format) or formats.FIRST

    @property
    def cluster(self) -> Cluster | None:
        """The one cluster object, once the swarm is initialised."""
        return next(iter(self.clusters), None)

    # -- watches ------------------------------------------------------------------------------------------------

    def watch(self, *tables: str, limit: int = 10_000) -> Watch:
        """Events of these tables (all, when none is named) from now on, in order. Use it as a context manager."""
        return Watch(self._watches, frozenset(tables), limit)

    # -- state machine ------------------------------------------------------------------------------------------

    def apply(self, index: int, command: bytes) -> Outcome:
        """Apply one change set. Deterministic: it looks at nothing but the store and its arguments.

        Raises CannotApply for what this version does not understand, and then has changed nothing.
        """
        try:
            change_set = changes.decode(command)
        except msgspec.DecodeError as error:
            raise formats.newer(f"the change set {index} of the log is", f"of an unknown kind ({error})") from None
        formats.require(change_set.format, f"the change set {index} of the log")
        reading = self._read(index, change_set.changes)
        if change_set.atomic:
            steps = zip(change_set.changes, reading.values, strict=True)
            rejected = [r for change, value in steps if (r := self._check(change, value))]
            if not rejected:
                rejected = self._duplicate_names(change_set.changes, reading.values)
            if rejected:
                return Outcome(index, rejected)
        outcome = Outcome(index)
        events: list[Event] = []
        version = Version(index=index)
        for place, change in enumerate(change_set.changes):
            value = reading.values[place]
            if not change_set.atomic and (reason := self._check(change, value)):
                outcome.rejected.append(reason)
            elif event := self._carry_out(change, value, reading.kept.get(place), version, change_set.at):
                events.append(event)
        if events:
            self.version = index
            for watch in list(self._watches):
                watch.publish(events)
        return outcome

    def _read(self, index: int, proposed: list[changes.Change]) -> Reading:
        """Decodes what is put, before anything is changed. Raises CannotApply."""
        reading = Reading()
        for place, change in enumerate(proposed):
            value = None
            if isinstance(change, Put):
                value, kept = self._read_put(index, change)
                if kept is not None:
                    reading.kept[place] = kept
            elif isinstance(change, _AIMED):
                self._table(index, change.table)
            reading.values.append(value)
        return reading

    def _read_put(self, index: int, change: Put) -> tuple[Any, Kept | None]:
        try:
            value, kept = self._table(index, change.table).read(change.object)
        except msgspec.DecodeError as error:
            raise formats.newer(f"the change set {index} puts into {change.table} an object", f"({error})") from None
        if isinstance(value, Cluster):
            formats.require(value.format or formats.FIRST, "the cluster's state")
        return value, kept

    def _table(self, index: int, name: str) -> Table[Any]:
        table = self.tables.get(name)
        if table is None:
            raise formats.newer(f"the change set {index} of the log is about", f"{name!r}")
        return table

    def snapshot(self) -> Callable[[], bytes]:
        version = self.version
        rows = {name: list(table) for name, table in self.tables.items()}
        kept = {name: dict(table.kept) for name, table in self.tables.items() if table.kept}

        def serialise() -> bytes:
            encode = msgspec.msgpack.Encoder().encode
            tables = {name: [msgspec.Raw(encode(row)) for row in values] for name, values in rows.items()}
            for name, of_table in kept.items():
                for place, row in enumerate(rows[name]):
                    if row.id in of_table:
                        tables[name][place] = msgspec.Raw(with_kept(bytes(tables[name][place]), of_table[row.id]))
            marked = {name: list(of_table) for name, of_table in kept.items()}
            return encode(Snapshot(1, version, tables, shapes(), marked))

        return serialise

    def restore(self, index: int, data: bytes) -> None:
        """Raises CannotApply for what this version does not understand, and then leaves the store as it was."""
        snapshot, rows = self._read_snapshot(data)
        events: list[Event] = []
        for table, values, kept in rows:
            table.kept = kept
            named = {value.id for value in values}
            gone = [value for value in table if value.id not in named]
            events += [Event("delete", table.name, value, value) for value in gone if table.remove(value.id)]
            for value in values:
                old = table.set(value)
                if old != value:
                    events.append(Event("update" if old else "create", table.name, value, old))
        self.version = snapshot.version
        for watch in list(self._watches):
            watch.publish(events)

    def _read_snapshot(self, data: bytes) -> tuple[Snapshot, list[tuple[Table[Any], list[Any], dict[str, Kept]]]]:
        """Objects written by another version are looked at for fields that are unknown here. Raises CannotApply."""
        rows: list[tuple[Table[Any], list[Any], dict[str, Kept]]] = []
        try:
            snapshot = msgspec.msgpack.decode(data, type=Snapshot)
            formats.require(snapshot.format, "the snapshot")
            strange = snapshot.shapes != shapes()
            if unknown := [name for name, raws in snapshot.tables.items() if raws and name not in self.tables]:
                raise formats.newer("the snapshot has a table", unknown[0])
            for name, table in self.tables.items():
                marked = set(snapshot.kept.get(name, ()))
                values, kept = [], {}
                for raw in snapshot.tables.get(name, []):
                    value = table.decode(raw)
                    if (strange or value.id in marked) and (found := table.unknown(raw, value)):
                        kept[value.id] = found
                    values.append(value)
                rows.append((table, values, kept))
        except msgspec.DecodeError as error:
            raise formats.newer("the snapshot is", f"of an unknown kind ({error})") from None
        for value in rows[0][1]:
            formats.require(value.format or formats.FIRST, "the cluster's state")
        return snapshot, rows

    # -- one change ---------------------------------------------------------------------------------------------

    def _check(self, change: changes.Change, value: Any) -> Rejected | None:
        if isinstance(change, Put):
            return self._check_put(self.tables[change.table], change, value)
        if not isinstance(change, _AIMED):
            return None
        current = self.tables[change.table].get(change.id)
        version = current.version.index if current else 0
        wanted = change.version if isinstance(change, Expect) else change.expect
        return Rejected("version", change.table, change.id) if wanted is not None and wanted != version else None

    def _check_put(self, table: Table[Any], change: Put, value: Any) -> Rejected | None:
        current = table.get(value.id)
        version = current.version.index if current else 0
        if change.expect is not None and change.expect != version:
            return Rejected("version", table.name, value.id)
        if table.unique_name and (other := table.named(_spec_name(value) or "")) and other.id != value.id:
            return Rejected("name", table.name, value.id)
        if isinstance(value, Network) and current is None and any(value.overlaps(other) for other in self.networks):
            return Rejected("subnet", table.name, value.id)
        return None

    def _duplicate_names(self, proposed: list[changes.Change], values: list[Any]) -> list[Rejected]:
        """Two objects of one name within one atomic set (each alone would pass)."""
        seen: dict[tuple[str, str], str] = {}
        rejected = []
        for change, value in zip(proposed, values, strict=True):
            if not isinstance(change, Put) or not self.tables[change.table].unique_name:
                continue
            if seen.setdefault((change.table, _spec_name(value) or ""), value.id) != value.id:
                rejected.append(Rejected("name", change.table, value.id))
        return rejected

    def _carry_out(
        self, change: changes.Change, value: Any, kept: Kept | None, version: Version, at: datetime
    ) -> Event | None:
        if isinstance(change, Put):
            table = self.tables[change.table]
            table.keep(value.id, kept)
            return self._replace(table, value, version, at)
        if isinstance(change, Delete):
            self.tables[change.table].keep(change.id, None)
            gone = self.tables[change.table].remove(change.id)
            return Event("delete", change.table, gone, gone) if gone else None
        if isinstance(change, Report):
            task = self._reported(change, at)
            return self._replace(self.tasks, task, version, at) if task is not None else None
        if isinstance(change, Verdict):
            task = self._judged(change)
            return self._replace(self.tasks, task, version, at) if task is not None else None
        if isinstance(change, NodeReport):
            node = self._described(change)
            return self._replace(self.nodes, node, version, at) if node is not None else None
        return None

    def _reported(self, change: Report, at: datetime) -> Task | None:
        """The task with what its node saw; None if that is nothing new, or not for it to say any more."""
        task = self.tasks.get(change.task_id)
        if task is None or task.node_id != change.node_id or change.status.progress < task.state:
            return None
        endpoints = task.endpoints if change.endpoints is None else change.endpoints
        since = task.running_since
        if since is None and change.status.progress == TaskState.RUNNING:
            since = at
        status = change.status
        if task.state == status.progress == TaskState.RUNNING:
            status = msgspec.structs.replace(status, reachable=task.status.reachable)
        reported = msgspec.structs.replace(task, status=status, endpoints=endpoints, running_since=since)
        parts = STATUS if change.endpoints is None else STATUS_AND_ENDPOINTS
        news = _replaced(self.tasks, task.id, change, parts)
        return reported if news or reported != task else None

    def _judged(self, change: Verdict) -> Task | None:
        task = self.tasks.get(change.task_id)
        if task is None or task.node_id != change.node_id or task.state != TaskState.RUNNING:
            return None
        if task.status.reachable == change.reachable:
            return None
        return msgspec.structs.replace(task, status=msgspec.structs.replace(task.status, reachable=change.reachable))

    def _described(self, change: NodeReport) -> Node | None:
        node = self.nodes.get(change.node_id)
        if node is None:
            return None
        described = msgspec.structs.replace(
            node, status=change.status, description=change.description or node.description
        )
        parts = STATUS_AND_DESCRIPTION if change.description else STATUS
        news = _replaced(self.nodes, node.id, change, parts)
        return described if news or described != node else None

    def _replace(self, table: Table[Any], value: StoredObject, version: Version, at: datetime) -> Event:
        """Takes over an object that nobody else has yet: what the store sets is set in it, without another copy."""
        old = table.get(value.id)
        force_setattr(value, "version", version)
        force_setattr(value, "created_at", old.created_at if old else at)
        force_setattr(value, "updated_at", at)
        table.set(value)
        return Event("update" if old else "create", table.name, value, old)
