"""Published ports in lists: `*:8080->80/tcp`, consecutive ones as ranges.

Pure: data to text.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(slots=True)
class Run:
    """Consecutive ports of one protocol that are published side by side."""

    protocol: str
    published: int
    target: int
    count: int = 1

    def takes(self, protocol: str, published: int, target: int) -> bool:
        return (protocol, published, target) == (self.protocol, self.published + self.count, self.target + self.count)

    def __str__(self) -> str:
        return f"*:{span(self.published, self.count)}->{span(self.target, self.count)}/{self.protocol}"


def span(first: int, count: int) -> str:
    return str(first) if count == 1 else f"{first}-{first + count - 1}"


def ingress_ports(ports: Iterable[Mapping[str, Any]] | None) -> str:
    """The ports of a service that the mesh serves."""
    found = sorted(
        (port.get("Protocol") or "tcp", port.get("PublishedPort") or 0, port.get("TargetPort") or 0)
        for port in ports or ()
        if (port.get("PublishMode") or "ingress") == "ingress"
    )
    runs: list[Run] = []
    for protocol, published, target in found:
        if runs and runs[-1].takes(protocol, published, target):
            runs[-1].count += 1
        else:
            runs.append(Run(protocol, published, target))
    return ", ".join(str(run) for run in runs)


def host_ports(ports: Iterable[Mapping[str, Any]] | None) -> str:
    """The ports that a task has on its node."""
    return ",".join(
        f"*:{port.get('PublishedPort', 0)}->{port.get('TargetPort', 0)}/{port.get('Protocol') or 'tcp'}"
        for port in ports or ()
    )
