"""Cluster events as `docker events` shows them, made from the store's changes, and which of them a filter lets through.

Pure: the time of a change is passed in.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from essaim.api.query import Filters, labels_match
from essaim.cluster.shape import to_json
from essaim.cluster.watch import Event

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
    """One event. `time` is in seconds since 1970. `only`: the followers that it is for, when their filter was asked
    elsewhere."""

    type: str
    action: str
    id: str
    attributes: dict[str, str]
    time: float
    data: bytes
    only: str = ""


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
        _note(attributes, "fault", old.fault or "", value.fault or "")
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
