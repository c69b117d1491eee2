"""The tree of a stack file: values that know where they stand in which source.

Everything between reading and conversion works on nodes, so that an error found late still names file, line and
column. Nodes are immutable by contract, because anchors and merges share them.

Pure: data only.
"""

from collections.abc import Callable
from typing import Any, TypeAlias

from .errors import Place, Problem, StackError, closest

Path: TypeAlias = "tuple[Path, str | int] | None"
"""A key path as a linked list (parent, key): building one costs nothing until an error prints it."""


class Duration(int):
    """Nanoseconds."""


class Size(int):
    """Bytes; -1 is unlimited where that has a meaning."""


class Node:
    """`value` is dict[str, Node], list[Node], str, int, float, bool or None. `key_place` is where the node's key
    stands, if it has one. `tag` is `!reset` or `!override` or None."""

    __slots__ = ("key_place", "place", "tag", "value")

    def __init__(self, value: Any, place: Place, key_place: Place | None = None, tag: str | None = None) -> None:
        self.value = value
        self.place = place
        self.key_place = key_place
        self.tag = tag

    def like(self, value: Any) -> "Node":
        """Another value at the same place."""
        return Node(value, self.place, self.key_place, self.tag)

    def get(self, *keys: str) -> "Node | None":
        """The node below, through mappings; None where a key is missing or a value is null."""
        node: Node | None = self
        for key in keys:
            if node is None or not isinstance(node.value, dict):
                return None
            node = node.value.get(key)
        return node if node is not None and node.value is not None else None

    def __repr__(self) -> str:
        return f"Node({self.value!r})"


BARE = frozenset({str, int, bool, float, type(None)})
"""Scalars without a unit: most nodes are such, and are not worth a call."""


def plain(node: Node) -> Any:
    """The values without their places and units."""
    value = node.value
    if type(value) is dict:
        return {key: child.value if type(child.value) in BARE else plain(child) for key, child in value.items()}
    if type(value) is list:
        return [plain(child) for child in value]
    return int(value) if isinstance(value, Duration | Size) else value


def path_text(path: Path) -> str:
    """`services.web.ports[0]`."""
    keys: list[str | int] = []
    while path is not None:
        path, key = path
        keys.append(key)
    text = ""
    for key in reversed(keys):
        text += f"[{key}]" if isinstance(key, int) else f".{key}" if text else key
    return text


class Problems:
    """Collects problems; stages run to their end and `stop_if_any` raises all that they found."""

    LIMIT = 100

    def __init__(self) -> None:
        self.found: list[Problem] = []

    def add(self, place: Place, path: Path, message: str, allowed: tuple[str, ...] = (), word: str = "") -> None:
        """`word`, if given, is what was found where only `allowed` may stand: the nearest one is suggested."""
        suggestion = closest(word, allowed) if word else None
        self.found.append(Problem(place, path_text(path), message, allowed, suggestion))
        if len(self.found) >= self.LIMIT:
            self.stop_if_any()

    def stop_if_any(self) -> None:
        if self.found:
            raise StackError(list(dict.fromkeys(self.found)))


Transform: TypeAlias = "Callable[[Node, Path, Problems], Node]"
