"""Secrets, configs and swarm-scoped networks (Engine API definitions of the same names)."""

import contextlib
from ipaddress import IPv4Network, IPv6Network, ip_network
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

    @property
    def subnets(self) -> list[IPv4Network | IPv6Network]:
        """Those that its address management names; what cannot be read is left out."""
        found = []
        for config in (self.spec.ipam or {}).get("Config") or []:
            with contextlib.suppress(ValueError, AttributeError):
                found.append(ip_network(str(config.get("Subnet")), strict=False))
        return found

    def overlaps(self, other: "Network") -> bool:
        return any(
            mine.version == their.version and mine.overlaps(their) for mine in self.subnets for their in other.subnets
        )
