"""What reads stack files, and makes, changes and removes stacks."""

import asyncio
from functools import partial
from pathlib import Path

import msgspec

from essaim.api.client import ApiError, Client, encode_filters, path_of
from essaim.cli.app import App, CliError, explain
from essaim.cli.background import in_background
from essaim.cli.flags import Flags
from essaim.cli.progress.wait import GONE_WITHIN, wait_until_gone
from essaim.cli.stacknames import stack_filter
from essaim.cluster.objects import Config, Secret
from essaim.cluster.service import Service
from essaim.stacks.convert.convert import convert
from essaim.stacks.plan.operations import Existing
from essaim.stacks.plan.plan import PlanError, plan
from essaim.stacks.plan.removal import removal
from essaim.stacks.read.load import Document, Source, load, read_environment
from essaim.stacks.render import render
from essaim.stacks.source.errors import StackError

from .stack_deployer import PLURALS, Deployer, await_end
from .stack_views import check


async def read_files(app: App, flags: Flags) -> tuple[list[Source], Path]:
    """The files' texts, and the folder that relative paths start from."""
    names = flags.items("compose-file")
    if not names:
        raise CliError("Specify a Compose file with -c (or --compose-file)")
    sources = [Source("stdin" if name == "-" else name, await app.text(name)) for name in names]
    first = names[0]
    return sources, Path.cwd() if first == "-" else await asyncio.to_thread(folder_of, first)


def folder_of(name: str) -> Path:
    return Path(name).absolute().parent


async def document_of(app: App, flags: Flags, *, interpolate: bool = True) -> Document:
    sources, folder = await read_files(app, flags)
    profiles = flags.items("profile") or None

    def read() -> Document:
        environment = read_environment(folder, app.environment)
        return load(sources, environment, folder, profiles=profiles, interpolate=interpolate)

    try:
        return await in_background(read)
    except StackError as error:
        raise CliError(str(error)) from None


async def config(app: App, args: list[str], flags: Flags) -> None:
    document = await document_of(app, flags, interpolate=not flags.on("skip-interpolation"))
    app.warn(*document.warnings)
    text = render(document)
    app.out.write(text if text.endswith("\n") else text + "\n")


async def deploy(app: App, args: list[str], flags: Flags) -> None:
    name = args[0]
    check(name)
    policy = flags.text("resolve-image")
    if policy not in ("always", "changed", "never"):
        raise CliError(f"Invalid option {policy} for flag --resolve-image")
    document = await document_of(app, flags)
    try:
        stack = await in_background(partial(convert, document, name))
    except StackError as error:
        raise CliError(str(error)) from None
    app.warn(*stack.warnings)
    if not stack.services:
        app.warn("The files have no services, or none in the enabled profiles (--profile): there is nothing to deploy.")
    client = await app.client()
    await require_manager(client)
    deployer = Deployer(app, client, flags)
    existing = await deployer.existing(stack)
    if policy != "never" and not flags.on("dry-run"):
        stack = await deployer.pin(stack, existing, only_changed=policy == "changed")
    try:
        todo = plan(stack, existing, prune=flags.on("prune"), keep_images=policy != "always" or flags.on("dry-run"))
    except PlanError as error:
        raise CliError(str(error)) from None
    if flags.on("dry-run"):
        app.print(str(todo))
        return
    await deployer.carry_out(todo.operations)


async def require_manager(client: Client) -> None:
    swarm = (await client.get("/info")).get("Swarm") or {}
    if not swarm.get("ControlAvailable"):
        raise CliError(
            'this node is not a swarm manager. Use "essaim swarm init" or "essaim swarm join" '
            "to connect this node to swarm and try again"
        )


async def rm(app: App, args: list[str], flags: Flags) -> None:
    failures: list[str] = []
    for name in args:
        check(name)
        failures += await remove_stack(app, name)
        if not flags.on("detach") and not await wait_until_gone(app, stack_filter(name)):
            failures.append(f"Tasks of stack {name} still run after {GONE_WITHIN:g} s")
    if failures:
        raise CliError("\n".join([*failures, f"Failed to remove some resources from stack: {', '.join(args)}"]))


async def remove_stack(app: App, name: str) -> list[str]:
    """Remove what the stack has; messages of what could not be removed."""
    client = await app.client()
    query = {"filters": encode_filters(stack_filter(name))}
    services, networks, secrets, configs = await asyncio.gather(
        *(client.get(f"/{plural}", query) for plural in ("services", "networks", "secrets", "configs"))
    )
    existing = Existing(
        services=msgspec.convert(services, list[Service]),
        networks={item["Name"]: item["Id"] for item in networks},
        secrets=msgspec.convert(secrets, list[Secret]),
        configs=msgspec.convert(configs, list[Config]),
    )
    todo = removal(name, existing)
    if not todo.operations:
        app.warn(f"Nothing found in stack: {name}")
        return []
    failures = []
    for operation in todo.operations:
        if operation.verb == "wait":
            await await_end(app, stack_filter(name), operation)
            continue
        app.print(f"Removing {operation.kind} {operation.name}")
        try:
            await client.delete(path_of(PLURALS[operation.kind], operation.id))
        except ApiError as error:
            failures.append(f"Failed to remove {operation.kind} {operation.id}: {explain(error)}")
    return failures
