"""Completion of names that only the daemon knows: services, nodes, stacks, secrets, configs, networks.

Completing must never hurt: whatever goes wrong, or takes longer than a second, completes to nothing.
"""

import asyncio
from collections.abc import Awaitable, Callable

import click
from click.shell_completion import CompletionItem

from essaim.api.client import ClientError

from .app import App, CliError, app_of
from .stacknames import NAMESPACE

TIMEOUT = 1.0
"""Seconds that a key press may wait for the daemon."""

Complete = Callable[[App, str], Awaitable[list[str]]]


def candidates(ctx: click.Context, complete: Complete, incomplete: str) -> list[CompletionItem]:
    """What the daemon knows that begins with what was typed."""

    async def ask() -> list[str]:
        app = app_of(ctx.find_root().params)
        try:
            return await asyncio.wait_for(complete(app, incomplete), TIMEOUT)
        finally:
            await app.close()

    try:
        found = asyncio.run(ask())
    except (ClientError, CliError, TimeoutError, KeyError, TypeError):
        return []
    return [CompletionItem(name) for name in sorted(found) if name.startswith(incomplete)]


async def services(app: App, _: str) -> list[str]:
    return [item["Spec"]["Name"] for item in await (await app.client()).get("/services")]


async def nodes(app: App, _: str) -> list[str]:
    found = await (await app.client()).get("/nodes")
    return ["self", *(item["Description"]["Hostname"] for item in found)]


async def stacks(app: App, _: str) -> list[str]:
    found = await (await app.client()).get("/services")
    return sorted({item["Spec"].get("Labels", {}).get(NAMESPACE, "") for item in found} - {""})


async def secrets(app: App, _: str) -> list[str]:
    return [item["Spec"]["Name"] for item in await (await app.client()).get("/secrets")]


async def configs(app: App, _: str) -> list[str]:
    return [item["Spec"]["Name"] for item in await (await app.client()).get("/configs")]


async def networks(app: App, _: str) -> list[str]:
    return [item["Name"] for item in await (await app.client()).get("/networks")]


async def scale_targets(app: App, _: str) -> list[str]:
    return [f"{name}=" for name in await services(app, _)]


def words(*choices: str) -> Complete:
    """Fixed words."""

    async def complete(app: App, _: str) -> list[str]:
        return list(choices)

    return complete
