"""Placeholders (`{{.Task.Slot}}`) that no node could fill in: said at their place, before anything has been created.

A manager refuses those of services as well, but after the networks and services before them; templated secrets and
configs nobody would look into before the tasks that use them are rejected.

Pure: no I/O.
"""

from collections.abc import Iterator

from essaim.cluster.templates import FILE_FUNCTIONS, TemplateError, check
from essaim.stacks.source.document import Document
from essaim.stacks.source.tree import Node, Path, Problems


def check_placeholders(document: Document, problems: Problems) -> None:
    """Report those of services and of their volumes."""
    for name, service in document.services.items():
        path: Path = ((None, "services"), name)
        found = [*_texts(service, path, "environment"), *_texts(service, path, "hostname")]
        found += [*_mounts(service, path), *_texts(service, path, "tmpfs")]
        _report(found, problems)
    for name, volume in document.volumes.items():
        path = ((None, "volumes"), name)
        _report([*_texts(volume, path, "labels"), *_texts(volume, path, "driver_opts")], problems)


def content_problem(data: bytes) -> str | None:
    """What is wrong with a secret or config that is a template."""
    try:
        check(data.decode(), FILE_FUNCTIONS)
    except UnicodeDecodeError:
        return "is a template (template_driver), and not text in UTF-8"
    except TemplateError as error:
        return str(error)
    return None


def _mounts(service: Node, path: Path) -> Iterator[tuple[Node, Path]]:
    below: Path = (path, "volumes")
    volumes = service.get("volumes")
    for index, entry in enumerate(volumes.value if volumes is not None else ()):
        for key in ("source", "target"):
            yield from _texts(entry, (below, index), key)
        if (own := entry.get("volume")) is not None:
            yield from _texts(own, ((below, index), "volume"), "labels")


def _texts(parent: Node, path: Path, key: str) -> Iterator[tuple[Node, Path]]:
    """The text at a key, or all those of a mapping or list there."""
    node = parent.get(key)
    if node is None:
        return
    if isinstance(node.value, dict):
        yield from ((child, ((path, key), name)) for name, child in node.value.items())
    elif isinstance(node.value, list):
        yield from ((child, ((path, key), index)) for index, child in enumerate(node.value))
    else:
        yield node, (path, key)


def _report(found: list[tuple[Node, Path]], problems: Problems) -> None:
    for node, path in found:
        try:
            check(str(node.value) if node.value is not None else "")
        except TemplateError as error:
            problems.add(node.place, path, str(error))
