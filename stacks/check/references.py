"""What a file refers to must exist in it: networks, volumes, secrets, configs, services; and no circle of
dependencies. Also the rules that span several keys of a service.

Pure: no I/O.
"""

import re
from collections.abc import Iterable

from essaim.stacks.source.document import Document
from essaim.stacks.source.tree import Node, Path, Problems

IMPLICIT_NETWORK = "default"
NAME = re.compile(r"[a-zA-Z0-9]([a-zA-Z0-9._-]*[a-zA-Z0-9])?\Z")
MAX_NAME = 63


def check_references(document: Document, problems: Problems) -> None:
    """Report every reference that leads nowhere."""
    for name, service in document.services.items():
        path: Path = ((None, "services"), name)
        if not NAME.match(name) or len(name) > MAX_NAME:
            place = service.key_place or service.place
            problems.add(place, path, f'"{name}" is not a valid name: letters, digits, - _ . inside, at most 63')
        _check_service(document, service, path, problems)
    _check_circles(document.services, problems)
    for kind in ("secrets", "configs"):
        for name, node in getattr(document, kind).items():
            _check_data(kind, node, ((None, kind), name), problems)


def _check_service(document: Document, service: Node, path: Path, problems: Problems) -> None:
    def missing(kind: str, node: Node, name: str, known: Iterable[str], below: str) -> None:
        message = f'the {kind} "{name}" is not defined in the file'
        problems.add(node.place, (path, below), message, tuple(known), name)

    for name, node in _named(service.get("networks")):
        if name not in document.networks and name != IMPLICIT_NETWORK:
            missing("network", node, name, document.networks, "networks")
    for name, node in _named(service.get("depends_on")):
        if name not in document.services:
            missing("service", node, name, document.services, "depends_on")
    for kind in ("secrets", "configs"):
        for node in _entries(service.get(kind)):
            source = node.get("source")
            if source is not None and source.value not in getattr(document, kind):
                missing(kind[:-1], node, str(source.value), getattr(document, kind), kind)
    for node in _entries(service.get("volumes")):
        source = node.get("source")
        if node.value["type"].value == "volume" and source is not None and source.value not in document.volumes:
            missing("volume", node, str(source.value), document.volumes, "volumes")


def _named(node: Node | None) -> list[tuple[str, Node]]:
    return list(node.value.items()) if node is not None else []


def _entries(node: Node | None) -> list[Node]:
    return node.value if node is not None else []


def _check_circles(services: dict[str, Node], problems: Problems) -> None:
    """Report every edge that closes a circle, in one walk over all dependencies."""
    finished: set[str] = set()
    for root in services:
        chain: dict[str, None] = {}
        stack = [(root, iter(_named(services[root].get("depends_on"))))] if root not in finished else []
        chain[root] = None
        while stack:
            name, needs = stack[-1]
            needed, node = next(needs, (None, None))
            if needed is None or node is None:
                stack.pop()
                chain.pop(name)
                finished.add(name)
            elif needed in chain:
                order = list(chain)
                text = " -> ".join([*order[order.index(needed) :], needed])
                path: Path = (((None, "services"), name), "depends_on")
                problems.add(node.key_place or node.place, path, f"goes in a circle: {text}")
            elif needed in services and needed not in finished:
                chain[needed] = None
                stack.append((needed, iter(_named(services[needed].get("depends_on")))))


def _check_data(kind: str, node: Node, path: Path, problems: Problems) -> None:
    sources = [key for key in ("file", "environment", "content", "external", "driver") if node.get(key) is not None]
    sources = [key for key in sources if node.value[key].value is not False]
    sources = [key for key in sources if key == "content" or node.value[key].value != ""]
    template = node.get("template_driver")
    if template is not None and template.value != "golang":
        problems.add(template.place, (path, "template_driver"), f'found "{template.value}"', ("golang",))
    if not sources:
        allowed = ("file", "environment", "external: true", *(["content"] if kind == "configs" else []))
        problems.add(node.key_place or node.place, path, "has no source; give it one", allowed)
    elif len(sources) > 1:
        problems.add(node.value[sources[1]].place, path, f"{' and '.join(sources)} exclude each other")
