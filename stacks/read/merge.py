"""Merging of canonical files and services by Compose's rules: `-c base.yml -c override.yml`, and `extends`.

Mappings merge key by key, scalars are replaced, lists are joined. Exceptions are in the tables below: commands are
replaced, and in lists whose entries have an identity (a port, a mount's target) the later entry replaces the earlier.
`!reset` removes the key, `!override` replaces it without merging.

Pure: no I/O.
"""

from collections.abc import Callable
from typing import Any

from essaim.stacks.source.tree import Node

REPLACED = frozenset({"command", "entrypoint", "test", "capabilities", "device_ids"})
"""Lists that are one value."""

APPENDED = frozenset({"preferences"})
"""Lists in which the same entry may stand twice."""


def _port(entry: dict[str, Node]) -> Any:
    return tuple(entry[key].value if key in entry else None for key in ("host_ip", "target", "published", "protocol"))


def _target_or_source(entry: dict[str, Node]) -> Any:
    found = entry.get("target") or entry.get("source")
    return found.value if found is not None else None


def _key(name: str) -> Callable[[dict[str, Node]], Any]:
    return lambda entry: entry[name].value if name in entry else None


IDENTITY: dict[str, Callable[[dict[str, Node]], Any]] = {
    "ports": _port,
    "volumes": _key("target"),
    "secrets": _target_or_source,
    "configs": _target_or_source,
    "devices": _target_or_source,
    "env_file": _key("path"),
}


def merge(base: Node, over: Node, key: str = "") -> Node:
    """`over` on top of `base`; `key` is the key under which both stand."""
    if over.tag == "!override":
        return Node(over.value, over.place, over.key_place)
    if over.tag == "!reset":
        return over
    if base.tag == "!reset":
        return Node(over.value, over.place, over.key_place)
    if isinstance(base.value, dict) and isinstance(over.value, dict):
        return _merge_mappings(base, over, key)
    if isinstance(base.value, list) and isinstance(over.value, list) and key not in REPLACED:
        return over.like(_merge_lists(base.value, over.value, key))
    # A key without a value (`networks: {front: }`) adds nothing.
    return base if over.value is None and isinstance(base.value, dict) else over


def _merge_mappings(base: Node, over: Node, key: str) -> Node:
    if key == "logging" and (driver := over.get("driver")) is not None:
        old = base.get("driver")
        if old is not None and old.value != driver.value:
            return over
    found = dict(base.value)
    for name, child in over.value.items():
        found[name] = merge(found[name], child, name) if name in found else child
    return over.like(found)


def _merge_lists(base: list[Node], over: list[Node], key: str) -> list[Node]:
    identity = IDENTITY.get(key)
    found: dict[Any, Node] = {}
    for index, item in enumerate([*base, *over]):
        if identity is not None and isinstance(item.value, dict):
            name = identity(item.value)
            found[index if name is None else ("", name)] = item
        elif isinstance(item.value, dict | list) or key in APPENDED:
            found[index, ...] = item
        else:
            found[type(item.value), item.value] = item
    return list(found.values())


def without_resets(node: Node) -> Node:
    """The tree without the keys that `!reset` removed; what has no tag below it is shared."""
    value = node.value
    kept: Any = value
    if type(value) is dict:
        found = {key: without_resets(child) for key, child in value.items() if child.tag != "!reset"}
        if len(found) < len(value) or any(found[key] is not child for key, child in value.items()):
            kept = found
    elif type(value) is list:
        items = [without_resets(child) for child in value if child.tag != "!reset"]
        if len(items) < len(value) or any(new is not old for new, old in zip(items, value, strict=True)):
            kept = items
    return node if kept is value and node.tag is None else Node(kept, node.place, node.key_place)
