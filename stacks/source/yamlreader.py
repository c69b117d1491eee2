"""YAML text to nodes with places, from the parser's events.

Built on events rather than on PyYAML's own composer, which recurses without a limit, keeps no place for keys of
merged mappings and resolves scalars by YAML 1.1. Limits keep a hostile file from costing more than its size: text
length, depth, and the number of nodes *after* aliases are expanded (the "billion laughs").
"""

import re
from typing import Any

import yaml

from .errors import Place, Problem, StackError
from .scalars import resolve
from .tree import Node

MAX_BYTES = 8 * 1024 * 1024
MAX_DEPTH = 100
MAX_NODES = 400_000

KEPT_TAGS = frozenset({"!reset", "!override"})
PREFIX = "tag:yaml.org,2002:"
TAGGED: dict[str, tuple[type, ...]] = {"int": (int,), "float": (int, float), "bool": (bool,), "null": (type(None),)}
QUOTED = frozenset({"'", '"', "|", ">"})
UNREADABLE = re.compile("[^\t\n\r -~\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def read_yaml(text: str, file: str) -> list[Node]:
    """The documents of a text. Raises `StackError`."""
    if len(text) > MAX_BYTES:
        raise _error(Place(file), f"the file is larger than {MAX_BYTES // 1024 // 1024} MiB")
    try:
        loader = Loader(text)
    except yaml.YAMLError as error:
        raise _syntax(error, text, file) from None
    try:
        return _Composer(loader, file).documents()
    except yaml.YAMLError as error:
        raise _syntax(error, text, file) from None
    finally:
        loader.dispose()


def _error(place: Place, message: str) -> StackError:
    return StackError([Problem(place, "", message)])


def _syntax(error: yaml.YAMLError, text: str, file: str) -> StackError:
    if isinstance(error, yaml.MarkedYAMLError):
        mark = error.problem_mark or error.context_mark
        place = Place(file, mark.line + 1, mark.column + 1) if mark else Place(file)
        start = f" from line {error.context_mark.line + 1} on" if error.context_mark else ""
        context = f" ({error.context}{start})" if error.context else ""
        return _error(place, f"not valid YAML: {error.problem or 'syntax error'}{context}")
    if (found := UNREADABLE.search(text)) is not None:
        before = text[: found.start()]
        place = Place(file, before.count("\n") + 1, found.start() - before.rfind("\n"))
        return _error(place, f"not valid YAML: the character U+{ord(found[0]):04X} must not stand in it")
    return _error(Place(file), f"not valid YAML: {str(error).splitlines()[0]}")


class _Composer:
    """Events to nodes. `sizes` counts the nodes below each node that has an anchor, aliases expanded."""

    def __init__(self, loader: Any, file: str) -> None:
        self.loader = loader
        self.next = loader.get_event
        self.file = file
        self.anchors: dict[str, Node] = {}
        self.sizes: dict[str, int] = {}
        self.count = 0

    def documents(self) -> list[Node]:
        found: list[Node] = []
        while not isinstance(event := self.next(), yaml.StreamEndEvent):
            if isinstance(event, yaml.DocumentStartEvent):
                self.anchors.clear()
                found.append(self.node(self.next(), 0))
        return found

    def place(self, event: yaml.Event) -> Place:
        mark: Any = event.start_mark
        return Place(self.file, mark.line + 1, mark.column + 1)

    def node(self, event: yaml.Event, depth: int) -> Node:
        self.count += 1
        place = self.place(event)
        if isinstance(event, yaml.AliasEvent):
            return self.alias(event, place)
        if self.count > MAX_NODES:
            raise _error(place, f"the file holds more than {MAX_NODES} values")
        if depth > MAX_DEPTH:
            raise _error(place, f"values are nested deeper than {MAX_DEPTH} levels")
        anchor = getattr(event, "anchor", None)
        start = self.count
        node = self.value(event, place, depth)
        if anchor:
            self.anchors[anchor] = node
            self.sizes[anchor] = self.count - start + 1
        return node

    def alias(self, event: yaml.AliasEvent, place: Place) -> Node:
        anchor = str(event.anchor)
        target = self.anchors.get(anchor)
        if target is None:
            raise _error(place, f"the anchor &{anchor} is not defined before this alias")
        self.count += self.sizes[anchor]
        if self.count > MAX_NODES:
            raise _error(place, f"with its aliases expanded the file holds more than {MAX_NODES} values")
        return Node(target.value, target.place, None, target.tag)

    def value(self, event: yaml.Event, place: Place, depth: int) -> Node:
        tag = getattr(event, "tag", None)
        if tag is None and type(event) is yaml.ScalarEvent:  # most events are such: 5 % of a whole deploy
            return Node(event.value if event.style in QUOTED else resolve(event.value), place)
        if tag == "!":
            tag = None
        kept = tag if tag in KEPT_TAGS else None
        node = self.untagged(event, tag, kept, place, depth)
        # What stands behind !reset means nothing: no later stage may look at it.
        return Node(None, place, None, kept) if kept == "!reset" else node

    def untagged(self, event: yaml.Event, tag: str | None, kept: str | None, place: Place, depth: int) -> Node:
        if isinstance(event, yaml.ScalarEvent):
            return Node(self.scalar(event, tag, place), place, None, kept)
        if tag is not None and kept is None and tag not in (PREFIX + "map", PREFIX + "seq"):
            raise _error(place, f"the tag {tag} is not known; allowed: !reset, !override")
        if isinstance(event, yaml.SequenceStartEvent):
            items: list[Node] = []
            while not isinstance(event := self.next(), yaml.SequenceEndEvent):
                item = self.node(event, depth + 1)
                if item.tag != "!reset":  # lists are joined: there is nothing that it could remove
                    items.append(item)
            return Node(items, place, None, kept)
        return Node(self.mapping(depth), place, None, kept)

    def scalar(self, event: yaml.ScalarEvent, tag: str | None, place: Place) -> Any:
        text = event.value
        if tag is None or tag in KEPT_TAGS:
            return text if event.style in QUOTED else resolve(text)
        kind = tag.removeprefix(PREFIX)
        if kind == "str":
            return text
        value = resolve(text)
        expected = TAGGED.get(kind)
        if expected is None:
            raise _error(
                place, f"the tag {tag} is not known; allowed: !reset, !override, !!str, !!int, !!float, !!bool"
            )
        if not isinstance(value, expected):
            raise _error(place, f'"{text}" is not of the type !!{kind} that its tag says')
        return value

    def mapping(self, depth: int) -> dict[str, Node]:
        found: dict[str, Node] = {}
        merged: list[Node] = []
        while not isinstance(event := self.next(), yaml.MappingEndEvent):
            place = self.place(event)
            key = self.key(event, place)
            child = self.node(self.next(), depth + 1)
            if key == "<<" and isinstance(event, yaml.ScalarEvent) and event.style not in QUOTED:
                merged += self.merge_sources(child, place)
                continue
            if key in found:
                first: Any = found[key].key_place
                raise _error(place, f'the key "{key}" is already defined at line {first.line}')
            # A fresh node gets its key's place; one shared through an alias was copied in `alias`.
            child.key_place = place
            found[key] = child
        for source in merged:
            self.count += len(source.value)
            for key, child in source.value.items():
                found.setdefault(key, child)
        return found

    def key(self, event: yaml.Event, place: Place) -> str:
        if isinstance(event, yaml.AliasEvent):
            target = self.anchors.get(str(event.anchor))
            if target is not None and isinstance(target.value, str):
                return target.value
        elif isinstance(event, yaml.ScalarEvent):
            if event.anchor:
                self.anchors[event.anchor] = Node(event.value, place)
                self.sizes[event.anchor] = 1
            return str(event.value)
        raise _error(place, "a key must be a string")

    def merge_sources(self, node: Node, place: Place) -> list[Node]:
        sources = node.value if isinstance(node.value, list) else [node]
        if not all(isinstance(source.value, dict) for source in sources):
            raise _error(place, "<< takes a mapping or a list of mappings (usually aliases)")
        return list(sources)
