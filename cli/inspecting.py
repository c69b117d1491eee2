"""`inspect`: objects as the daemon sent them, as JSON or through a template."""

from collections.abc import Awaitable, Callable, Iterable
from functools import cache
from typing import Any

import msgspec

from essaim.api.client import ClientError
from essaim.cli.template.evaluate import Template
from essaim.cli.template.json_text import dumps, indent, loads
from essaim.cluster.node import Node
from essaim.cluster.objects import Config, Network, Secret
from essaim.cluster.service import Service
from essaim.cluster.swarm import Cluster
from essaim.cluster.task import Task

from .app import App, CliError, explain
from .flags import STRING, SWITCH, Flag

FORMAT = Flag("format", STRING, "Print JSON ('json') or what a Go template makes of each object", "f")
PRETTY = Flag("pretty", SWITCH, "Print the main points for people")
EXTRA = {"IPAM", "Containers", "Scope", "Created", "Id", "ConfigOnly", "ConfigFrom", "EnableIPv4", "Peers", "Services"}


@cache
def known_fields() -> frozenset[str]:
    """Every key that an API object may have: a template may ask for one that this object lacks."""
    found, queue, seen = set(EXTRA), [Service, Node, Task, Secret, Config, Network, Cluster], set()
    while queue:
        shape: Any = queue.pop()
        seen.add(shape)
        info = msgspec.inspect.type_info(shape)
        for field in getattr(info, "fields", ()):
            found.add(field.encode_name)
            queue += [inner for inner in structs(field.type) if inner not in seen]
    return frozenset(found)


def structs(info: Any) -> Iterable[Any]:
    if isinstance(info, msgspec.inspect.StructType):
        yield info.cls
    for name in ("types", "item_type", "value_type"):
        inner = getattr(info, name, None)
        for one in inner if isinstance(inner, tuple) else [inner]:
            if one is not None:
                yield from structs(one)


Fetch = Callable[[str], Awaitable[bytes]]


async def inspect(app: App, names: Iterable[str], fetch: Fetch, source: str) -> None:
    """Print every object that is found; then report the others."""
    found: list[str] = []
    failures: list[str] = []
    for name in names:
        try:
            found.append((await fetch(name)).decode().strip())
        except (ClientError, CliError) as error:
            failures.append(explain(error))
    print_objects(app, found, source)
    if failures:
        raise CliError("\n".join(failures))


def print_objects(app: App, found: list[str], source: str) -> None:
    if source and source != "json":
        template = Template(source.replace("\\t", "\t").replace("\\n", "\n"), known=known_fields())
        for text in found:
            app.print(template.render(loads(text)))
    elif source == "json":
        app.print(dumps([loads(text) for text in found]) if found else "[]")
    else:
        app.print(indent("[" + ",".join(found) + "]"))
