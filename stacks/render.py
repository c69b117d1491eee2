"""The resolved file as text (`essaim stack config`): one normal spelling, sorted, that reads back as the same stack.

A dollar sign is doubled, so that the text can be deployed again (`docker stack config` prints single ones, and what it
prints cannot). `env_file` and `label_file` are gone, because their variables stand in `environment` and `labels`.

Pure: no I/O.
"""

from typing import Any

import yaml

from essaim.cluster.durations import format_duration
from essaim.stacks.read.load import Document
from essaim.stacks.source.scalars import resolve
from essaim.stacks.source.tree import Duration, Node, Size

READ_ALREADY = frozenset({"env_file", "label_file", "profiles", "extends"})
WIDTH = 4096
SECTIONS = ("networks", "volumes", "secrets", "configs")


Dumper: Any = type(
    "Dumper", (getattr(yaml, "CSafeDumper", yaml.SafeDumper),), {"ignore_aliases": lambda dumper, data: True}
)


def _string(dumper: Any, text: str) -> Any:
    """Quotes whatever our reader would not read back as the same string."""
    style = None if resolve(text) is text or resolve(text) == text else '"'
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


Dumper.add_representer(str, _string)


def render(document: Document) -> str:
    """YAML text."""
    data: dict[str, Any] = {"name": document.name} if document.name else {}
    data["services"] = {
        name: {key: _value(child) for key, child in sorted(node.value.items()) if key not in READ_ALREADY}
        for name, node in sorted(document.services.items())
    }
    for section in SECTIONS:
        if found := getattr(document, section):
            data[section] = {name: _value(node) for name, node in sorted(found.items())}
    data |= {key: _value(node) for key, node in sorted(document.extensions.items())}
    text: str = yaml.dump(
        _escaped(data) if document.interpolated else data,
        Dumper=Dumper,
        sort_keys=False,
        allow_unicode=True,
        width=WIDTH,
        default_flow_style=False,
    )
    return text


def _value(node: Node) -> Any:
    value = node.value
    if isinstance(value, Duration):
        return format_duration(value)
    if isinstance(value, Size):
        return str(int(value))
    if isinstance(value, dict):
        return {key: _value(child) for key, child in sorted(value.items())}
    if isinstance(value, list):
        return [_value(child) for child in value]
    return value


def _escaped(value: Any) -> Any:
    if isinstance(value, str):
        return value.replace("$", "$$")
    if isinstance(value, dict):
        return {key: _escaped(child) for key, child in value.items()}
    if isinstance(value, list):
        return [_escaped(child) for child in value]
    return value
