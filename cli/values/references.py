"""What a service refers to: secrets, configs, networks, generic resources, ulimits, preferences, capabilities.

Names stay names here; the command asks the daemon for the IDs.

Pure: text to specs. What cannot be read raises ValueError with a message for the user.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass

from essaim.cluster.container import FileTarget, Ulimit
from essaim.cluster.service import (
    DiscreteResource,
    GenericResource,
    NamedResource,
    NetworkAttachmentConfig,
    PlacementPreference,
    SpreadOver,
)

from .pairs import fields
from .sizes import parse_uint


@dataclass(frozen=True, slots=True)
class FileReference:
    """A secret or config by name, and the file that it becomes."""

    source: str
    file: FileTarget


def parse_reference(text: str) -> FileReference:
    """`NAME`, or `source=NAME,target=PATH,uid=,gid=,mode=` (mode in octal)."""
    items = fields(text)
    if len(items) == 1 and "=" not in items[0]:
        return FileReference(items[0], FileTarget(name=items[0], uid="0", gid="0", mode=0o444))
    source, target, uid, gid, mode = "", "", "0", "0", 0o444
    for item in items:
        key, separator, value = item.partition("=")
        if not separator:
            raise ValueError(f"invalid field '{item}' must be a key=value pair")
        match key.lower():
            case "source" | "src":
                source = value
            case "target":
                target = value
            case "uid":
                uid = value
            case "gid":
                gid = value
            case "mode":
                mode = file_mode(value)
            case _:
                raise ValueError(f"invalid field in secret request: {key.lower()}")
    if not source:
        raise ValueError("source is required")
    return FileReference(source, FileTarget(name=target or source, uid=uid, gid=gid, mode=mode))


def file_mode(text: str) -> int:
    """As Go reads it with base 0: `0444` and `0o444` are octal, `292` is decimal."""
    if re.fullmatch(r"0o?[0-7]+", text):
        return int(text.replace("o", ""), 8)
    if re.fullmatch(r"\d+", text, re.ASCII):
        return int(text)
    raise ValueError(f'invalid mode specified: strconv.ParseUint: parsing "{text}": invalid syntax')


def parse_network(text: str) -> NetworkAttachmentConfig:
    """`NAME`, or `name=NAME,alias=A,driver-opt=K=V`."""
    items = fields(text)
    if len(items) == 1 and "=" not in items[0]:
        return NetworkAttachmentConfig(target=text)
    name, aliases, options = "", [], {}
    for item in items:
        key, separator, value = item.partition("=")
        if not separator:
            raise ValueError(f"invalid field {item}")
        match key.lower():
            case "name":
                name = value
            case "alias":
                aliases.append(value)
            case "driver-opt":
                option, _, content = value.partition("=")
                options[option] = content
            case _:
                raise ValueError(f"invalid field key {key.lower()}")
    if not name:
        raise ValueError("network name/id is not specified")
    return NetworkAttachmentConfig(target=name, aliases=aliases or None, driver_opts=options or None)


def parse_generic_resource(text: str) -> GenericResource:
    """`gpu=2`."""
    kind, separator, value = text.partition("=")
    if not separator or not kind or not value:
        raise ValueError(f"invalid generic-resource format `{text}` expected `name=value`")
    if re.fullmatch(r"-?\d+", value, re.ASCII):
        return GenericResource(discrete_resource_spec=DiscreteResource(kind=kind, value=parse_uint(value)))
    return GenericResource(named_resource_spec=NamedResource(kind=kind, value=value))


def resource_kind(resource: GenericResource) -> str:
    spec = resource.named_resource_spec or resource.discrete_resource_spec
    return spec.kind if spec else ""


def parse_ulimit(text: str) -> Ulimit:
    """`nofile=1024` or `nofile=1024:2048`."""
    name, separator, value = text.partition("=")
    soft, colon, hard = value.partition(":")
    if (
        not separator
        or not re.fullmatch(r"-?\d+", soft, re.ASCII)
        or (colon and not re.fullmatch(r"-?\d+", hard, re.ASCII))
    ):
        raise ValueError(f"invalid ulimit argument: {text}")
    if name not in ULIMITS:
        raise ValueError(f"invalid ulimit type: {name}")
    low, high = int(soft), int(hard) if colon else int(soft)
    if high != -1 and (low == -1 or low > high):
        raise ValueError(f"ulimit soft limit must be less than or equal to hard limit: {low} > {high}")
    return Ulimit(name=name, soft=low, hard=high)


def parse_credentials(text: str) -> tuple[str, str]:
    """`config://ID`, `file://NAME`, `registry://NAME`."""
    scheme, separator, rest = text.partition("://")
    if not separator or scheme not in ("config", "file", "registry"):
        raise ValueError(
            'invalid credential spec: value must be prefixed with "config://", "file://", or "registry://"'
        )
    return scheme, rest


ULIMITS = {
    "core", "cpu", "data", "fsize", "locks", "memlock", "msgqueue", "nice", "nofile", "nproc", "rss", "rtprio",
    "rttime", "sigpending", "stack",
}  # fmt: skip


def parse_preference(text: str) -> PlacementPreference:
    """`spread=node.labels.zone`."""
    strategy, separator, descriptor = text.partition("=")
    if not separator:
        raise ValueError('placement preference must be of the format "<strategy>=<arg>"')
    if strategy != "spread":
        raise ValueError(f"unsupported placement preference {strategy} (only spread is supported)")
    return PlacementPreference(spread=SpreadOver(spread_descriptor=descriptor))


def capability(text: str) -> str:
    """`net_admin` is CAP_NET_ADMIN; ALL stays."""
    name = text.strip().upper()
    return name if name in ("ALL", "RESET") or name.startswith("CAP_") else f"CAP_{name}"


def capabilities(add: Iterable[str], drop: Iterable[str]) -> tuple[list[str], list[str]]:
    """What is added and dropped in effect, sorted: ALL absorbs the others, and adding wins over dropping."""
    added, dropped = {capability(item) for item in add}, {capability(item) for item in drop}
    if "ALL" in added:
        added = {"ALL"}
    if "ALL" in dropped:
        dropped = {"ALL"}
    return sorted(added), sorted(dropped - added)
