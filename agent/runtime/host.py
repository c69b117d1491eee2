"""What a host says of itself without an Engine. Blocks (reads /proc)."""

import os
import platform
from pathlib import Path

from essaim.cluster.formats import FORMAT
from essaim.cluster.node import NodeDescription
from essaim.cluster.service import Platform, Resources

BILLION = 1_000_000_000


def host_description(hostname: str) -> NodeDescription:
    """Name, platform and resources; the cores are those this process may use."""
    return NodeDescription(
        hostname=hostname,
        platform=Platform(architecture=platform.machine(), os="linux"),
        resources=Resources(nano_cpus=len(os.sched_getaffinity(0)) * BILLION, memory_bytes=_memory_bytes()),
        format=FORMAT,
    )


def _memory_bytes() -> int | None:
    for line in Path("/proc/meminfo").read_text().splitlines():
        name, _, rest = line.partition(":")
        if name == "MemTotal":
            return int(rest.split()[0]) * 1024
    return None
