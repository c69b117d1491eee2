"""Waiting for what the order of a stack asks for: a dependency's condition at deploy, dependents' end at removal."""

import asyncio
from collections.abc import Collection

from essaim.api.client import ApiError, Client, encode_filters, path_of
from essaim.cli.app import App, CliError

from .dependency import Dependency, Verdict
from .display import display_for
from .endings import state_of
from .tracker import RANK, Object, Report

POLL = 0.2
"""Seconds between two looks."""
GONE_WITHIN = 60.0
"""Seconds after which a removal no longer waits for a service's tasks."""


async def wait_for(app: App, name: str, condition: str, *, patience: float = 0.0, quiet: bool = False) -> str:
    """Until the service has reached the condition; else why it will not. `patience` in seconds, 0 without end."""
    app.print(f"Waiting for service {name} ({condition.removeprefix('service_')})")
    client = await app.client()
    dependency = Dependency(condition, patience)
    with display_for(app.out, quiet=quiet, named=True) as display:
        while True:
            verdict = await look(client, name, dependency, app.clock())
            display.show(name, Report(verdict.count, is_finished=verdict.is_met))
            if verdict.is_met or verdict.failure:
                return verdict.failure
            await app.sleep(POLL)


async def look(client: Client, name: str, dependency: Dependency, now: float) -> Verdict:
    """One look at the newest tasks of a service."""
    try:
        service = await client.get(path_of("services", name), {"insertDefaults": "false"})
        filters = {"_up-to-date": ["true"], "service": [service["ID"]]}
        tasks, active = await asyncio.gather(
            client.get("/tasks", {"filters": encode_filters(filters)}), active_nodes(client)
        )
    except ApiError as error:
        raise CliError(f"cannot wait for service {name}: {error}") from None
    return dependency.step(service, tasks, active, now)


async def active_nodes(client: Client) -> frozenset[str]:
    nodes = await client.get("/nodes")
    return frozenset(node["ID"] for node in nodes if (node.get("Status") or {}).get("State") != "down")


async def wait_until_gone(
    app: App, filters: dict[str, list[str]], services: Collection[str] = (), *, within: float = GONE_WITHIN
) -> bool:
    """Until no task that the filters find (of those services' ids; of all, without) runs any more on a node that is
    there; False when some still do after `within` seconds."""
    client = await app.client()
    began = app.clock()
    while True:
        tasks, active = await asyncio.gather(
            client.get("/tasks", {"filters": encode_filters(filters)}), active_nodes(client)
        )
        if not any(is_there(task, active) for task in tasks if not services or task.get("ServiceID") in services):
            return True
        if app.clock() - began >= within:
            return False
        await app.sleep(POLL)


def is_there(task: Object, active: frozenset[str]) -> bool:
    """It may still be running."""
    return RANK.get(state_of(task), 0) <= RANK["running"] and (not task.get("NodeID") or task["NodeID"] in active)
