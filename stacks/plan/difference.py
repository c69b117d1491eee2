"""Which fields of a service a deploy would change: the spec wanted and the one stored, both with defaults filled in.

A manager stores a spec with defaults added, network names replaced by ids and the image pinned to a digest; none of
that is a change. Fields are called as in the Engine API, because that is what `essaim service inspect` shows.

Pure: no I/O.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from essaim.cluster.service import ServiceSpec

EMPTY: tuple[Any, ...] = (None, "", False, [], {})
KEPT_WHEN_FALSE = frozenset({"Init"})
ZERO_IS_ABSENT = frozenset({"ForceUpdate", "MaxFailureRatio", "Window", "MaxAttempts", "PublishedPort"})
UPDATE_DEFAULTS = {"FailureAction": "pause", "Order": "stop-first"}
MAX_TEXT = 60


@dataclass(frozen=True, slots=True)
class Change:
    """One changed field; `old` or `new` is None where it is absent."""

    path: str
    old: Any
    new: Any

    def __str__(self) -> str:
        if isinstance(self.old, list | None) and isinstance(self.new, list | None):
            old, new = self.old or [], self.new or []
            removed = [f"-{_text(item)}" for item in old if item not in new]
            added = [f"+{_text(item)}" for item in new if item not in old]
            if removed or added:
                return f"{self.path}: {' '.join([*removed, *added])}"
        return f"{self.path}: {_text(self.old)} -> {_text(self.new)}"


def _text(value: Any) -> str:
    if value is None:
        return "(none)"
    text = value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= MAX_TEXT else text[: MAX_TEXT - 3] + "..."


def changes(stored: ServiceSpec, wanted: ServiceSpec, network_names: Mapping[str, str]) -> list[Change]:
    """In the order of the fields' names. `network_names` maps ids to names."""
    found: list[Change] = []
    _compare(_filled(stored, network_names), _filled(wanted, network_names), "", found)
    return found


def _compare(old: Any, new: Any, path: str, found: list[Change]) -> None:
    if isinstance(old, dict) and isinstance(new, dict):
        for key in sorted({*old, *new}):
            _compare(old.get(key), new.get(key), f"{path}.{key}" if path else key, found)
    elif old != new:
        found.append(Change(path, old, new))


def _filled(spec: ServiceSpec, network_names: Mapping[str, str]) -> dict[str, Any]:
    """Plain data with defaults, without empty values."""
    data: dict[str, Any] = msgspec.to_builtins(spec)
    task = data.setdefault("TaskTemplate", {})
    task.setdefault("Runtime", "container")
    container = task.setdefault("ContainerSpec", {})
    container.setdefault("Isolation", "default")
    for attachments in (data.get("Networks"), task.get("Networks")):
        for attachment in attachments or ():
            attachment["Target"] = network_names.get(attachment["Target"], attachment["Target"])
    if task.get("Networks"):
        task["Networks"].sort(key=lambda attachment: attachment["Target"])
    mode = data.get("Mode") or {"Replicated": {}}
    if "Replicated" in mode:
        mode = {"Replicated": {"Replicas": 1} | mode["Replicated"]}
    for key in ("UpdateConfig", "RollbackConfig"):
        if data.get(key):
            given = {name: value for name, value in data[key].items() if value not in ("", None)}
            data[key] = UPDATE_DEFAULTS | given
    _fill_endpoint(data)
    cleaned: dict[str, Any] = _without_empty(data)
    cleaned["Mode"] = mode
    return cleaned


def _fill_endpoint(data: dict[str, Any]) -> None:
    endpoint = {"Mode": "vip"} | (data.get("EndpointSpec") or {})
    defaults = {"Protocol": "tcp", "PublishMode": "ingress"}
    if endpoint.get("Ports"):
        endpoint["Ports"] = [defaults | port for port in endpoint["Ports"]]
    data["EndpointSpec"] = endpoint


def _without_empty(value: Any) -> Any:
    if isinstance(value, list):
        return [_without_empty(item) for item in value]
    if not isinstance(value, dict):
        return value
    found = {key: _without_empty(child) for key, child in value.items()}
    return {key: child for key, child in found.items() if not _is_empty(key, child)}


def _is_empty(key: str, value: Any) -> bool:
    if value is False and key in KEPT_WHEN_FALSE:
        return False
    if isinstance(value, int | float) and not isinstance(value, bool):
        return value == 0 and key in ZERO_IS_ABSENT
    return value in EMPTY
