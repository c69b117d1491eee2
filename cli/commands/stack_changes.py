"""What reads stack files, and makes, changes and removes stacks."""

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec

from essaim.api.client import ApiError, Client, encode_filters, path_of
from essaim.cli.app import App, CliError, explain
from essaim.cli.flags import Flags
from essaim.cli.progress.follow import follow
from essaim.cli.progress.wait import GONE_WITHIN, wait_for, wait_until_gone
from essaim.cli.registry import auth_headers, resolve_images
from essaim.cli.stacknames import IMAGE, stack_filter
from essaim.cli.values.images import registry
from essaim.cluster.objects import Config, Secret
from essaim.cluster.service import Service, ServiceSpec
from essaim.stacks.convert import Stack, convert, resolve_service
from essaim.stacks.errors import StackError
from essaim.stacks.load import Document, Source, load, read_environment
from essaim.stacks.operations import Existing, Operation
from essaim.stacks.plan import PlanError, carried_over, plan
from essaim.stacks.removal import removal
from essaim.stacks.render import render

from .stack_views import check

PLURALS = {"network": "networks", "secret": "secrets", "config": "configs", "service": "services"}
SECOND = 10**9


async def read_files(app: App, flags: Flags) -> tuple[list[Source], Path]:
    """The files' texts, and the folder that relative paths start from."""
    names = flags.items("compose-file")
    if not names:
        raise CliError("Specify a Compose file with -c (or --compose-file)")
    sources = []
    for name in names:
        data = await app.read(name)
        try:
            sources.append(Source("stdin" if name == "-" else name, data.decode()))
        except UnicodeDecodeError as error:
            raise CliError(f"{name} is not UTF-8 text: {error}") from None
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
        return await asyncio.to_thread(read)
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
        stack = await asyncio.to_thread(convert, document, name)
    except StackError as error:
        raise CliError(str(error)) from None
    app.warn(*stack.warnings)
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


class Deployer:
    """Carries out the operations of one deploy."""

    def __init__(self, app: App, client: Client, flags: Flags) -> None:
        self._app = app
        self._client = client
        self._flags = flags
        self._stack = ""
        self._secrets: dict[str, str] = {}
        self._configs: dict[str, str] = {}
        self._deployed: dict[str, str] = {}
        self._auth: dict[str, dict[str, str]] = {}

    async def existing(self, stack: Stack) -> Existing:
        """What the cluster holds that the plan must know."""
        self._stack = stack.name
        services, networks, secrets, configs = await asyncio.gather(
            self._client.get("/services", {"filters": encode_filters(stack_filter(stack.name))}),
            self._client.get("/networks"),
            self._client.get("/secrets"),
            self._client.get("/configs"),
        )
        found = Existing(
            services=msgspec.convert(services, list[Service]),
            networks={item["Name"]: item["Id"] for item in networks if item.get("Scope", "swarm") == "swarm"},
            secrets=msgspec.convert(secrets, list[Secret]),
            configs=msgspec.convert(configs, list[Config]),
        )
        self._secrets = {secret.spec.name or "": secret.id for secret in found.secrets}
        self._configs = {config.spec.name or "": config.id for config in found.configs}
        return found

    async def pin(self, stack: Stack, existing: Existing, *, only_changed: bool) -> Stack:
        """The stack with its images pinned to their digests, where registries answer.

        Where none answers, an image that the file has not changed stays pinned as it is: nothing restarts because a
        registry is away.
        """
        stored = {service.spec.name: service.spec for service in existing.services}

        def has_old_image(spec: ServiceSpec) -> bool:
            old = stored.get(spec.name)
            return old is not None and (old.labels or {}).get(IMAGE) == (spec.labels or {}).get(IMAGE)

        asked = [spec for spec in stack.services if not (only_changed and has_old_image(spec))]
        headers = {spec.name: await self._headers(spec) for spec in asked}
        answers = await resolve_images(
            self._app,
            asked,
            lambda spec: headers[spec.name],
            quiet=lambda spec: self._flags.on("quiet") or spec.name not in stored,
        )
        found = {spec.name: spec for spec in answers}
        for spec in asked:
            if found[spec.name] == spec and has_old_image(spec):
                found[spec.name] = carried_over(stored[spec.name], spec, keep_images=True)
        return replace(stack, services=[found.get(spec.name, spec) for spec in stack.services])

    async def _headers(self, spec: ServiceSpec) -> dict[str, str]:
        container = spec.task_template.container_spec if spec.task_template else None
        image = (container.image if container else None) or ""
        host = registry(image)
        if host not in self._auth:
            self._auth[host] = await auth_headers(self._app, image, wanted=self._flags.on("with-registry-auth"))
        return self._auth[host]

    async def carry_out(self, operations: list[Operation]) -> None:
        for operation in operations:
            match operation.verb:
                case "create":
                    await self._create(operation)
                case "update" | "verify":
                    await self._update(operation)
                case "remove":
                    self._app.print(f"Removing {operation.kind} {operation.name}")
                    await self._client.delete(path_of(PLURALS[operation.kind], operation.id))
                case "wait":
                    await self._wait(operation)
                case "unchanged":
                    if operation.kind == "service":
                        self._deployed[operation.name] = operation.id
        if not self._flags.on("detach") and self._deployed:
            await follow(self._app, self._deployed, quiet=self._flags.on("quiet"))

    async def _wait(self, operation: Operation) -> None:
        if operation.condition == "gone":
            await await_end(self._app, stack_filter(self._stack), operation)
            return
        if self._flags.on("detach") and operation.condition == "service_started":
            return
        failure = await wait_for(
            self._app,
            operation.name,
            operation.condition,
            patience=self._flags.number("wait-timeout") / SECOND,
            quiet=self._flags.on("quiet"),
        )
        if failure and operation.required:
            raise CliError(
                f"service {operation.dependent} was not deployed, for it depends on {operation.name} "
                f"({operation.condition.removeprefix('service_')}), which {failure}"
            )
        if failure:
            self._app.warn(f"service {operation.name}, which {operation.dependent} can do without, {failure}")

    async def _create(self, operation: Operation) -> None:
        self._app.print(f"Creating {operation.kind} {operation.name}")
        body, headers = await self._body(operation)
        try:
            made = await self._client.post(f"/{PLURALS[operation.kind]}/create", body, headers=headers)
        except ApiError as error:
            raise CliError(f"failed to create {operation.kind} {operation.name}: {explain(error)}") from error
        self._remember(operation, made.get("ID") or made.get("Id"))

    async def _update(self, operation: Operation) -> None:
        path = path_of(PLURALS[operation.kind], operation.id, "update")
        query = {"version": str(operation.version)}
        if operation.kind == "service":
            self._app.print(f"Updating service {operation.name} (id: {operation.id})")
        body, headers = await self._body(operation)
        try:
            reply = await self._client.post(path, body, query, headers=headers)
        except ApiError as error:
            raise CliError(f"failed to update {operation.kind} {operation.name}: {explain(error)}") from error
        for warning in (reply or {}).get("Warnings") or []:
            self._app.warn(str(warning))
        self._remember(operation, operation.id)

    async def _body(self, operation: Operation) -> tuple[Any, dict[str, str]]:
        spec = operation.spec
        if operation.kind == "network":
            return {**msgspec.to_builtins(spec), "Scope": "swarm"}, {}
        if not isinstance(spec, ServiceSpec):
            return spec, {}
        return resolve_service(spec, self._secrets, self._configs), await self._headers(spec)

    def _remember(self, operation: Operation, key: str) -> None:
        known = {"secret": self._secrets, "config": self._configs, "service": self._deployed}.get(operation.kind)
        if known is not None:
            known[operation.name] = key


async def rm(app: App, args: list[str], flags: Flags) -> None:
    failures: list[str] = []
    for name in args:
        check(name)
        failures += await remove_stack(app, name)
        if not flags.on("detach") and not await wait_until_gone(app, stack_filter(name)):
            failures.append(f"Tasks of stack {name} still run after {GONE_WITHIN:g} s")
    if failures:
        raise CliError("\n".join([*failures, f"Failed to remove some resources from stack: {', '.join(args)}"]))


async def await_end(app: App, tasks: dict[str, list[str]], operation: Operation) -> None:
    """Until the tasks of a removed service have ended; what it depends on goes then, or after a while anyway."""
    if not await wait_until_gone(app, tasks, [operation.id]):
        app.warn(f"Tasks of service {operation.name} still run after {GONE_WITHIN:g} s; going on without waiting")


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
