"""Waiting until services have converged, with progress."""

import asyncio
from collections.abc import Mapping

from essaim.api.client import Client, encode_filters, path_of
from essaim.cli.app import App, CliError

from .display import Display, display_for
from .tracker import Report, Tracker

POLL = 0.2
"""Seconds between two looks."""


async def observe(client: Client, service_id: str, tracker: Tracker, now: float) -> Report:
    """One look at a service."""
    service, tasks, nodes = await asyncio.gather(
        client.get(path_of("services", service_id), {"insertDefaults": "false"}),
        client.get("/tasks", {"filters": encode_filters({"_up-to-date": ["true"], "service": [service_id]})}),
        client.get("/nodes"),
    )
    active = frozenset(node["ID"] for node in nodes if (node.get("Status") or {}).get("State") != "down")
    return tracker.step(service, tasks, active, now)


async def follow(app: App, services: Mapping[str, str], *, quiet: bool = False, is_new: bool = False) -> None:
    """Wait for services (name to ID); docker calls new ones by ID.

    Raises CliError when an update fails; Ctrl-C leaves it to the cluster.
    """
    client = await app.client()
    display = display_for(app.out, quiet=quiet, named=len(services) > 1)
    try:
        with display:
            trackers = {name: Tracker(key if is_new else name) for name, key in services.items()}
            await asyncio.gather(
                *(follow_one(app, client, name, key, display, trackers[name]) for name, key in services.items())
            )
    except asyncio.CancelledError:
        app.warn("Operation continuing in background.")
        app.warn(*(f"Use `essaim service ps {name}` to check progress." for name in services))
        raise


async def follow_one(app: App, client: Client, name: str, service_id: str, display: Display, tracker: Tracker) -> None:
    while True:
        report = await observe(client, service_id, tracker, app.clock())
        display.show(name, report)
        if report.failure:
            raise CliError(report.failure)
        if report.is_finished:
            return
        await app.sleep(POLL)
