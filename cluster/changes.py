"""Change sets: the commands of the replicated log.

Rules:
- A change set is applied as a whole or not at all when `atomic`; otherwise each change is applied if its own check
  holds, and skipped if not. Loops that touch many objects use the second form and look again.
- Versions and times are stamped when the set is applied, from the log index and from `at`, so that every manager ends
  with the same bytes.
- `Report` merges a task's observed status without a version check, since agents report while loops decide: it takes
  effect only if the task is on that node and its state does not go back.
- What a report has that this version does not know is carried beside it (`kept`), and put back where it was when the
  report is encoded, so that members of two releases make the same of it.

Pure: data only.
"""

from collections.abc import Sequence
from datetime import datetime

import msgspec
from msgspec.structs import replace

from .formats import FIRST
from .kept import Kept, kept_of_items, with_kept_items
from .node import NodeDescription, NodeStatus
from .shape import StoredObject
from .task import TaskEndpoint, TaskStatus


class Put(msgspec.Struct, tag="put", frozen=True):
    """Create or replace an object. `expect`: 0, it must not exist; n, it must be at version n; None, whatever."""

    table: str
    object: msgspec.Raw
    expect: int | None = None


class Delete(msgspec.Struct, tag="del", frozen=True):
    """Remove an object. `expect`: its version, or None for whatever (an absent object is then no conflict)."""

    table: str
    id: str
    expect: int | None = None


class Expect(msgspec.Struct, tag="expect", frozen=True):
    """Holds if the object is at `version` (0: absent). It guards the other changes of an atomic set."""

    table: str
    id: str
    version: int


class Report(msgspec.Struct, tag="report", frozen=True):
    """A task's status as its node saw it. `endpoints` None leaves them as they are. `kept`: what is unknown of both."""

    task_id: str
    node_id: str
    status: TaskStatus
    endpoints: list[TaskEndpoint] | None = None
    kept: Kept | msgspec.UnsetType = msgspec.UNSET


class Verdict(msgspec.Struct, tag="verdict", frozen=True):
    """What the gateway of a running task's node says of it; nothing else of the task is touched."""

    task_id: str
    node_id: str
    reachable: bool | None


class NodeReport(msgspec.Struct, tag="node", frozen=True):
    """A node's status and, if it said so, its description. Merged without a version check; the spec is not touched.
    `kept`: what is unknown of these."""

    node_id: str
    status: NodeStatus
    description: NodeDescription | None = None
    kept: Kept | msgspec.UnsetType = msgspec.UNSET


Change = Put | Delete | Expect | Report | Verdict | NodeReport


class ChangeSet(msgspec.Struct, frozen=True, omit_defaults=True):
    """`format`: what a member has to understand to apply it (`formats.py`)."""

    changes: list[Change]
    at: datetime
    atomic: bool = True
    format: int = 1


NEEDS: dict[type, int] = {}
"""Formats that kinds of changes need, where it is not the first."""


def needed_format(proposed: Sequence[Change]) -> int:
    return max((NEEDS.get(type(change), FIRST) for change in proposed), default=FIRST) if NEEDS else FIRST


_REPORTS = frozenset({Report, NodeReport})
"""Changes that may carry what this version does not know."""
_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(ChangeSet)


def encode(change_set: ChangeSet) -> bytes:
    if _REPORTS.isdisjoint(map(type, change_set.changes)):
        return _encoder.encode(change_set)
    kept = {
        place: found
        for place, change in enumerate(change_set.changes)
        if isinstance(found := getattr(change, "kept", None), Kept)
    }
    if not kept:
        return _encoder.encode(change_set)
    bare = [replace(change, kept=msgspec.UNSET) if n in kept else change for n, change in enumerate(change_set.changes)]
    return with_kept_items(_encoder.encode(replace(change_set, changes=bare)), "changes", kept)


def decode(data: bytes) -> ChangeSet:
    """Raises msgspec.DecodeError for anything that is not a change set."""
    change_set = _decoder.decode(data)
    if _REPORTS.isdisjoint(map(type, change_set.changes)):
        return change_set
    kept = kept_of_items(data, _encoder.encode(change_set), "changes")
    for place, found in kept.items():
        change = change_set.changes[place]
        if isinstance(change, Report | NodeReport):
            change_set.changes[place] = replace(change, kept=found)
    return change_set


def put(table: str, value: StoredObject, *, new: bool = False, force: bool = False) -> Put:
    """A `Put` of an object read from the store (checked against the version it was read at), or a `new` one.

    `force` drops the check.
    """
    expect = None if force else 0 if new else value.version.index
    return Put(table, msgspec.Raw(_encoder.encode(value)), expect)
