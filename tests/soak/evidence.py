"""What is kept of a cluster that something is wrong with: daemons' logs, and what managers and Engines show.

In `<folder>/<seed>-<fault>/`: one folder a host with its logs, `shown.json` with tasks, services and nodes, and
`containers.json`.
"""

import json
import shutil
from pathlib import Path
from typing import Any

from essaim.api.client import ApiError, Unreachable

from .world import World, blocking

PATHS = ("/nodes", "/services", "/tasks", "/networks")


async def keep(world: World, folder: Path) -> Path:
    """Copy it all; what does not answer is noted with the reason. The folder."""
    await blocking(_copy_logs, world, folder)
    shown: dict[str, Any] = {}
    for path in PATHS:
        try:
            shown[path] = await world.read(path)
        except (ApiError, Unreachable, TimeoutError) as error:
            shown[path] = str(error)
    containers: dict[str, Any] = {}
    for host in world.hosts:
        try:
            containers[host.name] = await world.containers(host, "all")
        except (ApiError, Unreachable, TimeoutError) as error:
            containers[host.name] = str(error)
    await blocking(_write, folder / "shown.json", shown)
    await blocking(_write, folder / "containers.json", containers)
    return folder


def _copy_logs(world: World, folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    for host in world.hosts:
        shutil.copytree(host.directory / "log", folder / host.name)


def _write(path: Path, content: Any) -> None:
    path.write_text(json.dumps(content, indent=1) + "\n")
