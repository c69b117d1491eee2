"""From `GET /info` to what a node says of itself.

Pure: no I/O, no clock.
"""

from typing import Any

from essaim.cluster.formats import FORMAT
from essaim.cluster.node import EngineDescription, EnginePlugin, NodeDescription
from essaim.cluster.service import Platform, Resources

BILLION = 1_000_000_000


def node_description(info: dict[str, Any], data_addr: str, hostname: str) -> NodeDescription:
    """`hostname` empty: the Engine's."""
    plugins = [
        EnginePlugin(type=kind, name=name)
        for kind in ("Authorization", "Log", "Network", "Volume")
        for name in sorted((info.get("Plugins") or {}).get(kind) or [])
    ]
    engine = EngineDescription(
        engine_version=info.get("ServerVersion"), labels=_labels(info.get("Labels") or []), plugins=plugins
    )
    return NodeDescription(
        hostname=hostname or info.get("Name"),
        platform=Platform(architecture=info.get("Architecture"), os=info.get("OSType")),
        resources=Resources(nano_cpus=info.get("NCPU", 0) * BILLION, memory_bytes=info.get("MemTotal")),
        engine=engine,
        runtime="docker",
        data_addr=data_addr,
        format=FORMAT,
    )


def _labels(entries: list[str]) -> dict[str, str]:
    return dict(entry.partition("=")[::2] for entry in entries)
