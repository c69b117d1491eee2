"""Secrets, configs and swarm-scoped networks (Engine API definitions of the same names)."""

from typing import Any

from .container import DriverSpec
from .shape import Shape, StoredObject


class SecretSpec(Shape):
    """`data` is base64 in JSON; at most 500 KiB. It is never sent back to API clients."""

    name: str | None = None
    labels: dict[str, str] | None = None
    data: bytes | None = None
    driver: DriverSpec | None = None
    templating: DriverSpec | None = None


class Secret(StoredObject, kw_only=True):
    spec: SecretSpec


class ConfigSpec(Shape):
    """`data` is base64 in JSON; at most 1000 KiB."""

    name: str | None = None
    labels: dict[str, str] | None = None
    data: bytes | None = None
    templating: DriverSpec | None = None


class Config(StoredObject, kw_only=True):
    spec: ConfigSpec


class NetworkSpec(Shape):
    """What `POST /networks/create` takes, for networks of swarm scope."""

    name: str | None = None
    labels: dict[str, str] | None = None
    driver: str | None = None
    internal: bool | None = None
    attachable: bool | None = None
    ingress: bool | None = None
    enable_ipv6: bool | None = None
    ipam: dict[str, Any] | None = None
    options: dict[str, str] | None = None


class Network(StoredObject, kw_only=True):
    """`driver_state` is what the leader gave it: the VXLAN id, as an option of Docker's name."""

    spec: NetworkSpec
    driver_state: DriverSpec | None = None
