"""Cluster events as `docker events` shows them, made once from the store's changes and handed to every follower.

One watch on the store feeds the hub; each event is encoded once, each filter is asked once, and a follower holds only
a bounded queue of references. Followers are woken a few at a time, so that a crowd of them does not keep writers
waiting. One that falls behind is cut off (the client sees the stream end and may reconnect with `since`): neither
memory nor writers depend on readers. The last events are kept for `since`.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from essaim.cluster.shape import to_json
from essaim.cluster.store import Store
from essaim.cluster.watch import Event, Lagged, Watch

from .query import Filters, labels_match

HISTORY = 1024
QUEUE = 10_000
WAKE_SLICE = 10
WAKE_PAUSE = 0.001
"""Seconds between two slices of followers: 500 of them are told within 50 ms, at a quarter of a core."""

ACTIONS = {"create": "create", "update": "update", "delete": "remove"}
NOUNS = {
    "services": "service",
    "nodes": "node",
    "secrets": "secret",
    "configs": "config",
    "networks": "network",
    "tasks": "task",
}
FILTERS = {
    "config", "container", "daemon", "event", "image", "label", "network", "node", "plugin", "scope", "secret",
    "service", "task", "type", "volume",
}  # fmt: skip
ENGINES = ("container", "daemon", "image", "plugin", "volume")
"""Nouns of an Engine: who asks for one of them by name wants none of the cluster's events."""
NAMED = ("config", "network", "node", "secret", "service", "task")


@dataclass(frozen=True, slots=True)
class Message:
    """One event. `time` is in seconds since 1970."""

    type: str
    action: str
    id: str
    attributes: dict[str, str]
    time: float
    data: bytes


def describe(event: Event, now: datetime) -> Message | None:
    """The message for a store's change; None for one that is of no interest (a heartbeat's trace, a mere version)."""
    noun = NOUNS.get(event.table)
    if noun is None:
        return None
    attributes = _attributes(noun, event)
    if attributes is None:
        return None
    action = ACTIONS[event.kind]
    seconds = now.timestamp()
    shown: dict[str, Any] = {
        "Type": noun,
        "Action": action,
        "Actor": {"ID": event.object.id, "Attributes": attributes},
        "scope": "swarm",
        "time": int(seconds),
        "timeNano": int(seconds * 1e6) * 1000,
    }
    return Message(noun, action, event.object.id, attributes, seconds, to_json(shown) + b"\n")


def _attributes(noun: str, event: Event) -> dict[str, str] | None:
    value, old = event.object, event.old if event.kind == "update" else None
    if noun == "task":
        return _task_attributes(value, old)
    if noun == "node":
        return _node_attributes(value, old)
    attributes = {"name": value.spec.name or ""}
    if noun == "network":
        attributes["type"] = value.spec.driver or "overlay"
    if noun == "service" and old is not None:
        _note(attributes, "image", _image(old), _image(value))
        _note(attributes, "replicas", _replicas(old), _replicas(value))
        states = [s.update_status.state if s.update_status else "" for s in (old, value)]
        _note(attributes, "updatestate", states[0], states[1])
    return attributes


def _task_attributes(value: Any, old: Any) -> dict[str, str] | None:
    """Beyond Docker: which task of which service went into which state, and where."""
    if old is not None and (old.status.state, old.desired_state) == (value.status.state, value.desired_state):
        return None
    attributes = {
        "name": value.name or f"{value.service_name or value.service_id or ''}.{value.slot or value.node_id or ''}",
        "service": value.service_name or value.service_id or "",
        "node": value.node_id or "",
        "state": value.status.state,
        "desiredstate": value.desired_state,
    }
    if value.status.err:
        attributes["error"] = value.status.err
    if old is not None:
        _note(attributes, "state", old.status.state, value.status.state)
    return attributes


def _node_attributes(value: Any, old: Any) -> dict[str, str] | None:
    attributes = {"name": value.spec.name or value.hostname}
    if old is None:
        return attributes
    _note(attributes, "state", old.status.state, value.status.state)
    _note(attributes, "availability", old.spec.availability, value.spec.availability)
    _note(attributes, "role", old.spec.role, value.spec.role)
    return attributes if len(attributes) > 1 or old.spec != value.spec else None


def _note(attributes: dict[str, str], name: str, old: str, new: str) -> None:
    if old != new:
        attributes |= {f"{name}.old": old, f"{name}.new": new} if old else {f"{name}.new": new}


def _image(service: Any) -> str:
    task = service.spec.task_template
    return (task.container_spec.image if task and task.container_spec else None) or ""


def _replicas(service: Any) -> str:
    mode = service.spec.mode
    return str(mode.replicated.replicas) if mode and mode.replicated else ""


def matches(message: Message, filters: Filters) -> bool:
    """Whether `docker events --filter` lets this through."""
    if "scope" in filters and "swarm" not in filters["scope"]:
        return False
    if "type" in filters and message.type not in filters["type"]:
        return False
    if "event" in filters and message.action not in filters["event"]:
        return False
    if any(noun in filters for noun in ENGINES):
        return False
    if "label" in filters and not labels_match(message.attributes, filters["label"]):
        return False
    for noun in NAMED:
        names = (message.id, message.attributes.get("name", ""))
        if noun in filters and (message.type != noun or not any(n in filters[noun] for n in names)):
            return False
    return True


@dataclass(slots=True, eq=False)
class Follower:
    """One reader's queue. `lost`: it was too slow, or the node left the cluster; the stream is to end."""

    filters: Filters
    queue: deque[Message] = field(default_factory=deque)
    wake: asyncio.Event = field(default_factory=asyncio.Event)
    lost: bool = False

    def push(self, message: Message) -> None:
        if len(self.queue) >= QUEUE:
            self.end()
        elif not self.lost:
            self.queue.append(message)

    def end(self) -> None:
        self.lost = True
        self.wake.set()

    async def next(self) -> list[Message]:
        """The next messages; an empty list when the stream is to end."""
        while not self.queue and not self.lost:
            self.wake.clear()
            await self.wake.wait()
        taken = list(self.queue)
        self.queue.clear()
        return taken


class EventHub:
    """Follows the store that it was last given with `follow`, from then on until `stop`."""

    def __init__(self, now: Callable[[], datetime]) -> None:
        self._now = now
        self._store: Store | None = None
        self._task: asyncio.Task[None] | None = None
        self._followers: dict[str, set[Follower]] = {}
        self._history: deque[Message] = deque(maxlen=HISTORY)

    def follow(self, store: Store | None) -> None:
        """Called with the manager's store, or None on a node that is none; cheap when nothing has changed."""
        if store is self._store:
            return
        self._store = store
        if self._task is not None:
            self._task.cancel()
            self._task = None
        self._history.clear()
        if store is not None:
            watch = store.watch(*NOUNS)
            watch.__enter__()
            self._task = asyncio.get_running_loop().create_task(self._run(watch), name="api events")
            self._task.add_done_callback(lambda _: watch.__exit__())

    async def stop(self) -> None:
        task, self._task, self._store = self._task, None, None
        for group in self._followers.values():
            for follower in group:
                follower.end()
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def _run(self, watch: Watch) -> None:
        while True:
            try:
                batch = await watch.next()
            except Lagged:
                continue
            woken: dict[Follower, None] = {}
            for event in batch:
                if (message := describe(event, self._now())) is not None:
                    woken |= dict.fromkeys(self._publish(message))
            await self._wake(list(woken))

    def _publish(self, message: Message) -> list[Follower]:
        """Queue it for those whom it concerns."""
        self._history.append(message)
        concerned: list[Follower] = []
        for group in self._followers.values():
            if matches(message, next(iter(group)).filters):
                concerned += group
        for follower in concerned:
            follower.push(message)
        return concerned

    @staticmethod
    async def _wake(followers: list[Follower]) -> None:
        for start in range(0, len(followers), WAKE_SLICE):
            if start:
                await asyncio.sleep(WAKE_PAUSE)
            for follower in followers[start : start + WAKE_SLICE]:
                follower.wake.set()

    def since(self, seconds: float) -> Iterator[Message]:
        """Kept events from that time on, oldest first."""
        return iter([m for m in self._history if m.time >= seconds])

    def subscribe(self, filters: Filters) -> Follower:
        follower = Follower(filters)
        self._followers.setdefault(_key(filters), set()).add(follower)
        return follower

    def unsubscribe(self, follower: Follower) -> None:
        key = _key(follower.filters)
        group = self._followers.get(key, set())
        group.discard(follower)
        if not group:
            self._followers.pop(key, None)


def _key(filters: Filters) -> str:
    """Equal for filters that let the same through."""
    return repr(sorted((name, sorted(values)) for name, values in filters.items()))
