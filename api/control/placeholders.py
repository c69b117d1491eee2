"""Placeholders of a service's specification that no node could fill in, refused in Docker's order and words.

Where Go's template language has something and essaim's part of it does not (loops, functions), the service is refused
too, in essaim's words: otherwise each of its tasks would be rejected by its node.

Pure: a specification in, nothing or an error out.
"""

import json
from collections.abc import Mapping

from essaim.cluster.container import ContainerSpec, Mount
from essaim.cluster.templates import TemplateError, check

from .errors import invalid


def check_placeholders(container: ContainerSpec) -> None:
    """Raises InvalidArgument."""
    for entry in container.env or []:
        _check(entry.partition("=")[2], f"expanding env failed: expanding env {_quoted(entry)}")
    for mount in container.mounts or []:
        _mount(mount)
    _check(container.hostname or "", "expanding hostname failed")


def _mount(mount: Mount) -> None:
    failed = "expanding mounts failed:"
    _check(mount.source or "", f"{failed} expanding mount source {_quoted(mount.source or '')}")
    _check(mount.target or "", f"{failed} expanding mount target {_quoted(mount.target or '')}")
    volume = mount.volume_options
    if volume is None:
        return
    _entries(volume.labels, f"{failed} expanding volume labels")
    if volume.driver_config is not None:
        _entries(volume.driver_config.options, f"{failed} expanding volume driver config")


def _entries(given: Mapping[str, str] | None, doing: str) -> None:
    for key, value in (given or {}).items():
        _check(value, f"{doing}: expanding map entry {_quoted(key)}={_quoted(value)}")


def _check(text: str, doing: str) -> None:
    try:
        check(text)
    except TemplateError as error:
        raise invalid(f"{doing}: {error.go or error}") from None


def _quoted(text: str) -> str:
    """As Go's %q, but for control characters other than the usual ones."""
    return json.dumps(text, ensure_ascii=False)
