"""Building blocks of the canonical form: each takes a node in any spelling that the specification allows and gives
the one spelling that the later stages know, at the same place.

Pure: no I/O.
"""

import re
import shlex
from typing import Any

from essaim.stacks.source.errors import type_name
from essaim.stacks.source.scalars import text_of
from essaim.stacks.source.tree import Duration, Node, Path, Problems, Size, Transform

from .units import parse_cpus, parse_duration, parse_size

TRUE = frozenset({"true", "y", "yes", "on", "1", "t"})
FALSE = frozenset({"false", "n", "no", "off", "0", "f"})


def same(node: Node, path: Path, problems: Problems) -> Node:
    """Already canonical."""
    return node


def text(node: Node, path: Path, problems: Problems) -> Node:
    """A scalar as a string."""
    return node if isinstance(node.value, str) or node.value is None else node.like(text_of(node.value))


def boolean(node: Node, path: Path, problems: Problems) -> Node:
    if isinstance(node.value, bool) or node.value is None:
        return node
    word = str(node.value).lower()
    if word not in TRUE | FALSE:
        problems.add(node.place, path, f'found "{node.value}"', ("true", "false"))
    return node.like(word in TRUE)


MAX_INTEGER = 2**63 - 1


def integer(node: Node, path: Path, problems: Problems) -> Node:
    value = node.value
    if value is None:
        return node
    digits = isinstance(value, str) and re.fullmatch(r"[-+]?[0-9]{1,30}", value.strip())
    if digits or (isinstance(value, float) and value.is_integer()):
        value = int(value)
    if not isinstance(value, int):
        problems.add(node.place, path, f'must be an integer, found "{value}"')
    elif abs(value) > MAX_INTEGER:
        problems.add(node.place, path, f"must be an integer of 64 bits, found {value}")
    else:
        return node if value is node.value else node.like(value)
    return node.like(0)


def number(node: Node, path: Path, problems: Problems) -> Node:
    try:
        return node if node.value is None else node.like(float(node.value))
    except ValueError:
        problems.add(node.place, path, f'must be a number, found "{node.value}"')
        return node.like(0.0)


def octal(node: Node, path: Path, problems: Problems) -> Node:
    """A file mode: a number stands for itself (YAML reads 0440 as octal), a string is octal."""
    if not isinstance(node.value, str):
        return integer(node, path, problems)
    if not re.fullmatch(r"(0o)?[0-7]{1,6}", node.value):
        problems.add(node.place, path, f'must be a file mode such as 0440, found "{node.value}"')
        return node.like(0)
    return node.like(int(node.value.removeprefix("0o"), 8))


def duration(node: Node, path: Path, problems: Problems) -> Node:
    if node.value is None or isinstance(node.value, Duration):
        return node
    try:
        return node.like(parse_duration(str(node.value)))
    except ValueError:
        problems.add(node.place, path, f'must be a duration such as 10s, 1m30s or 500ms, found "{node.value}"')
        return node.like(Duration(0))


def microseconds(node: Node, path: Path, problems: Problems) -> Node:
    """A number of microseconds, or a duration."""
    found = text_of(node.value)
    if node.value is None or re.fullmatch(r"-?[0-9]{1,15}", found):
        return node if node.value is None else node.like(int(found))
    exact = duration(node, path, problems).value
    return node.like(int(exact) // 1000)


def size(node: Node, path: Path, problems: Problems) -> Node:
    if node.value is None or isinstance(node.value, Size):
        return node
    try:
        return node.like(parse_size(text_of(node.value)))
    except ValueError:
        problems.add(node.place, path, f'must be a size such as 512, 64m or 1.5gb, found "{node.value}"')
        return node.like(Size(0))


def cpus(node: Node, path: Path, problems: Problems) -> Node:
    """A number of cores, kept as its text: what counts are billionths of a core."""
    if node.value is None:
        return node
    found = text_of(node.value)
    try:
        parse_cpus(found)
    except ValueError:
        problems.add(
            node.place, path, f'must be a number of cores such as 0.5, with at most 9 decimals, found "{found}"'
        )
        return node.like("0")
    return node.like(found)


def texts(node: Node, path: Path, problems: Problems) -> Node:
    """A list of strings; a single scalar is a list of one."""
    if node.value is None:
        return node.like([])
    items = node.value if isinstance(node.value, list) else [Node(node.value, node.place)]
    return node.like([text(item, path, problems) for item in items])


def mapping(node: Node, path: Path, problems: Problems) -> Node:
    """`{KEY: value}` or `[KEY=value, KEY]`; a missing value is null."""
    if isinstance(node.value, dict):
        return node.like({key: text(child, path, problems) for key, child in node.value.items()})
    found: dict[str, Node] = {}
    for item in node.value or ():
        key, equals, value = text_of(item.value).partition("=")
        if not key:
            problems.add(item.place, path, f'must be KEY=VALUE, found "{item.value}"')
        found[key] = Node(value if equals else None, item.place, item.place)
    return node.like(found)


def words(node: Node, path: Path, problems: Problems) -> Node:
    """A command: a string is split as a shell would, but nothing is expanded."""
    if isinstance(node.value, list):
        return texts(node, path, problems)
    if node.value is None:
        return node
    try:
        parts = shlex.split(str(node.value))
    except ValueError as error:
        problems.add(node.place, path, f"cannot be split into words: {str(error).lower()}")
        return node.like([])
    return node.like([node.like(part) for part in parts])


def record(forms: dict[str, Transform]) -> Transform:
    """A mapping whose known keys have forms of their own."""

    def transform(node: Node, path: Path, problems: Problems) -> Node:
        if not isinstance(node.value, dict):
            return node
        found: dict[str, Node] = {}
        for key, child in node.value.items():
            form = forms.get(key)
            skip = form is None or child.tag == "!reset"
            found[key] = child if skip or form is None else form(child, (path, key), problems)
        return node.like(found)

    return transform


def each(form: Transform) -> Transform:
    """A list, or a mapping with names that the user chose, each of whose values has the form."""

    def transform(node: Node, path: Path, problems: Problems) -> Node:
        if isinstance(node.value, list):
            return node.like([form(child, (path, index), problems) for index, child in enumerate(node.value)])
        if isinstance(node.value, dict):
            return node.like(
                {
                    key: child if child.tag == "!reset" else form(child, (path, key), problems)
                    for key, child in node.value.items()
                }
            )
        return node

    return transform


def one_of(*allowed: str) -> Transform:
    """A word from a closed list."""

    def transform(node: Node, path: Path, problems: Problems) -> Node:
        if node.value is not None and node.value not in allowed:
            problems.add(node.place, path, f'found "{node.value}"', allowed, str(node.value))
        return node

    return transform


def build(value: Any, place: Node) -> Node:
    """Plain data as nodes that all stand at one place."""
    if isinstance(value, dict):
        return place.like({key: build(child, place) for key, child in value.items()})
    if isinstance(value, list):
        return place.like([build(child, place) for child in value])
    assert type(value) in type_name or isinstance(value, int)
    return place.like(value)
