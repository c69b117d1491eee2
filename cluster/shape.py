"""The base of every object and specification: the Docker Engine API's JSON shapes as typed structs.

Rules:
- Attribute names are snake_case, keys are Docker's (`nano_cpus` is `NanoCPUs`); one struct serves the HTTP API, the
  store and the wire (JSON and MessagePack), so that nothing is mapped from one model to another.
- `None` means absent, and `null` counts as absent. A field that was sent, even empty or false, is kept and echoed.
- A default that is not `None` is given as `always(value)`, so that it is sent like any other value.
- Values are immutable by contract: `msgspec.structs.replace` makes the changed copy. Lists and dicts inside a shape
  are never modified after construction either, because the store and its readers share them.
"""

from datetime import UTC, datetime
from typing import Any, TypeVar, dataclass_transform

import msgspec

ACRONYMS = {
    "apparmor": "AppArmor", "ca": "CA", "cas": "CAs", "cpus": "CPUs", "dns": "DNS", "gid": "GID", "id": "ID",
    "ip": "IP", "ipam": "IPAM", "ips": "IPs", "ipv4": "IPv4", "ipv6": "IPv6", "os": "OS", "pid": "PID",
    "selinux": "SELinux", "tls": "TLS", "tty": "TTY", "uid": "UID", "url": "URL",
}  # fmt: skip

T = TypeVar("T")

WHOLE = {"global_": "Global"}
"""Attributes whose key follows another rule."""


def docker_name(attribute: str) -> str:
    """The JSON key of an attribute: `node_id` is `NodeID`."""
    if attribute in WHOLE:
        return WHOLE[attribute]
    return "".join(ACRONYMS.get(word, word[:1].upper() + word[1:]) for word in attribute.split("_"))


def always(value: T) -> T:
    """The default of a field that is encoded also while it has its default (plain defaults are left out)."""
    default: T = msgspec.field(default_factory=lambda: value)
    return default


@dataclass_transform(frozen_default=True, kw_only_default=True, field_specifiers=(msgspec.field, always))
class ShapeMeta(msgspec.StructMeta):
    """Makes every shape frozen and keyword-only, for msgspec and for type checkers alike."""

    def __new__(mcs, name: str, bases: tuple[type, ...], namespace: dict[str, Any], **options: Any) -> Any:
        defaults: dict[str, Any] = {"frozen": True, "kw_only": True, "omit_defaults": True, "rename": docker_name}
        return super().__new__(mcs, name, bases, namespace, **(defaults | options))


class Shape(msgspec.Struct, metaclass=ShapeMeta):
    """One JSON object of the Docker Engine API."""


class Version(Shape):
    """The store-wide version at which an object last changed (the log index of its change set)."""

    index: int


ZERO_TIME = datetime(1, 1, 1, tzinfo=UTC)
"""What Go prints for a time that was never set."""

NO_VERSION = Version(index=0)


class StoredObject(Shape):
    """What every object in the store has. Version and times are set by the store when a change set is applied."""

    id: str
    version: Version = msgspec.field(default=NO_VERSION)
    created_at: datetime = ZERO_TIME
    updated_at: datetime = ZERO_TIME


def to_json(value: Any) -> bytes:
    """JSON of a shape (or of a container of shapes), as an Engine would send it."""
    return msgspec.json.encode(value)
