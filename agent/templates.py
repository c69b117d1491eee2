"""Swarm's placeholders in a task's environment, mounts, host name and templated files.

The part of Go's template language that Swarm's documentation shows: fields (`{{.Task.Slot}}`), `index` into labels,
and in templated secrets and configs also `{{secret "x"}}`, `{{config "x"}}` and `{{env "X"}}`. Rejected: a whole
template engine; a language in which a service's specification can loop is not wanted on a node.

Pure: no I/O, no clock.
"""

import re
from collections.abc import Callable, Mapping
from typing import Any

from essaim.cluster.node import Node
from essaim.cluster.task import Task

_PLACEHOLDER = re.compile(r"(\s*\{\{-\s|\{\{)(.*?)(\s-\}\}\s*|\}\})", re.DOTALL)
_TOKEN = re.compile(r'\s*("(?:[^"\\]|\\.)*"|`[^`]*`|\S+)')
_FIELD = re.compile(r"(\.[A-Za-z_][A-Za-z0-9_]*)+\Z")

Functions = Mapping[str, Callable[[str], str]]


class TemplateError(Exception):
    """The message names the placeholder and what is possible."""


def task_name(task: Task) -> str:
    """`web.1.ID`, and for global services the node in place of the slot: the name of the container."""
    return f"{task.service_name or task.service_id or 'task'}.{task.slot or task.node_id}.{task.id}"


def context(task: Task, node: Node) -> dict[str, Any]:
    """What placeholders may refer to."""
    platform = node.description.platform if node.description else None
    return {
        "Service": {"ID": task.service_id or "", "Name": task.service_name or "", "Labels": task.service_labels or {}},
        "Node": {
            "ID": node.id,
            "Hostname": node.hostname,
            "Platform": {
                "Architecture": (platform and platform.architecture) or "",
                "OS": (platform and platform.os) or "",
            },
        },
        "Task": {"ID": task.id, "Name": task_name(task), "Slot": str(task.slot or 0)},
    }


def expand(text: str, values: Mapping[str, Any], functions: Functions | None = None) -> str:
    """Replace every placeholder. Raises TemplateError."""
    if "{{" not in text:
        return text
    return _PLACEHOLDER.sub(lambda found: _evaluate(found.group(2), values, functions or {}), text)


def _evaluate(source: str, values: Mapping[str, Any], functions: Functions) -> str:
    words = _TOKEN.findall(source)
    shown = "{{" + source + "}}"
    if not words or source.strip().startswith("/*"):
        return ""
    head, arguments = words[0], words[1:]
    if head.startswith(".") and not arguments:
        return _text(_field(head, values, shown), shown)
    if head == "index" and len(arguments) == 2:
        inside = _field(arguments[0], values, shown)
        if isinstance(inside, Mapping):
            return _text(inside.get(_literal(arguments[1], shown), ""), shown)
    if head in functions and len(arguments) == 1:
        return functions[head](_literal(arguments[0], shown))
    if len(words) == 1 and head[:1] in '"`':
        return _literal(head, shown)
    known = ", ".join(
        ["a field such as .Task.Slot", 'index .Service.Labels "name"', *(f'{f} "name"' for f in functions)]
    )
    raise TemplateError(f"the placeholder {shown} is not understood; possible are: {known}")


def _field(path: str, values: Mapping[str, Any], shown: str) -> Any:
    if not _FIELD.match(path):
        raise TemplateError(f"the placeholder {shown} is not understood: {path} is not a field")
    here: Any = values
    walked = ""
    for name in path.split(".")[1:]:
        if not isinstance(here, Mapping) or (name not in here and not walked.endswith(".Labels")):
            possible = ", ".join(f"{walked}.{key}" for key in here) if isinstance(here, Mapping) else "nothing"
            raise TemplateError(f"the placeholder {shown} names an unknown field; below {walked or '.'}: {possible}")
        here = here.get(name, "")
        walked += f".{name}"
    return here


def _literal(word: str, shown: str) -> str:
    if word[:1] == "`":
        return word[1:-1]
    if word[:1] != '"':
        raise TemplateError(f'the placeholder {shown} needs a name in quotes, such as "name", not {word}')
    return re.sub(r"\\(.)", r"\1", word[1:-1])


def _text(value: Any, shown: str) -> str:
    if isinstance(value, Mapping):
        raise TemplateError(f"the placeholder {shown} is a group of fields; name one of: {', '.join(value)}")
    return str(value)
