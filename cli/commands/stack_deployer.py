"""Carrying out the plan of a stack, step by step, with what it waits for."""

import asyncio
from dataclasses import replace
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
from essaim.stacks.convert.convert import Stack, resolve_service
from essaim.stacks.plan.operations import Existing, Operation
from essaim.stacks.plan.plan import carried_over

PLURALS = {"network": "networks", "secret": "secrets", "config": "configs", "service": "services"}
SECOND = 10**9


class DependencyFailed(Exception):
    """A service that another one needs will not get there; says which and why."""


def missing(operations: list[Operation]) -> list[str]:
    """The services that these operations would have made or changed."""
    return [one.name for one in operations if one.kind == "service" and one.verb in ("create", "update")]


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
        for number, operation in enumerate(operations):
            try:
                await self._carry_out(operation)
            except DependencyFailed as error:
                raise CliError(f"{error}\nNot deployed: {', '.join(missing(operations[number:]))}") from None
            except asyncio.CancelledError:
                if names := missing(operations[number:]):
                    self._app.warn(f"Not deployed: {', '.join(names)}. The same command goes on from there.")
                raise
        if not self._flags.on("detach") and self._deployed:
            await follow(self._app, self._deployed, quiet=self._flags.on("quiet"))

    async def _carry_out(self, operation: Operation) -> None:
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
            raise DependencyFailed(
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


async def await_end(app: App, tasks: dict[str, list[str]], operation: Operation) -> None:
    """Until the tasks of a removed service have ended; what it depends on goes then, or after a while anyway."""
    if not await wait_until_gone(app, tasks, [operation.id]):
        app.warn(f"Tasks of service {operation.name} still run after {GONE_WITHIN:g} s; going on without waiting")
