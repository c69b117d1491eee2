"""The resolved project: what reading ends in, and showing, planning and converting begin with.

Pure: data.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from .errors import Place
from .files import DiskFiles, Files
from .tree import Node


@dataclass(frozen=True, slots=True)
class Document:
    """The resolved project: canonical nodes by name. `warnings` are for the user. `environment` is what secrets and
    configs with `environment:` are read from."""

    services: dict[str, Node]
    networks: dict[str, Node]
    volumes: dict[str, Node]
    secrets: dict[str, Node]
    configs: dict[str, Node]
    extensions: dict[str, Node] = field(default_factory=dict)
    name: str | None = None
    name_place: Place | None = None
    warnings: list[str] = field(default_factory=list)
    environment: Mapping[str, str] = field(default_factory=dict)
    files: Files = field(default_factory=DiskFiles)
    interpolated: bool = True
