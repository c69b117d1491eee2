"""What makes, changes and removes services."""

from typing import Any

import msgspec
from msgspec.structs import replace

from essaim.api.client import ApiError, Client, encode_filters, path_of
from essaim.cli.app import App, CliError
from essaim.cli.flags import Flags
from essaim.cli.progress.follow import follow
from essaim.cli.registry import auth_headers, resolve_image
from essaim.cli.spec.attachments import Ids
from essaim.cli.spec.lists import added
from essaim.cli.spec.placement import scaled
from essaim.cli.spec.service import new_service, updated_service
from essaim.cli.values.pairs import last_wins, parse_env_file, resolve_env
from essaim.cli.values.sizes import parse_uint
from essaim.cluster.service import ServiceSpec


async def create(app: App, args: list[str], flags: Flags) -> None:
    client = await app.client()
    flags = await with_profiles(app, await with_environment(app, flags))
    ids = await look_up(client, flags)
    spec = checked_spec(lambda: new_service(args[0], args[1:], flags, ids))
    headers = await auth_headers(app, args[0], wanted=flags.on("with-registry-auth"))
    if not flags.on("no-resolve-image"):
        spec = await resolve_image(app, spec, headers, quiet=flags.on("quiet"))
    made = await client.post("/services/create", spec, headers=headers)
    warn(app, made)
    app.print(made["ID"])
    if not flags.on("detach"):
        await follow(app, {spec.name or made["ID"]: made["ID"]}, quiet=flags.on("quiet"), is_new=True)


def checked_spec(build: Any) -> ServiceSpec:
    """Flags that contradict each other become an error of the command."""
    try:
        found: ServiceSpec = build()
    except ValueError as error:
        raise CliError(str(error)) from None
    return found


async def with_environment(app: App, flags: Flags) -> Flags:
    """Environment files read, and variables without a value taken from the caller's environment."""
    name = "env" if "env" in flags.flags else "env-add"
    if not flags.given(name, "env-file"):
        return flags
    found: list[str] = []
    for path in flags.items("env-file") if "env-file" in flags.flags else []:
        text = await app.text(path)
        try:
            found += parse_env_file(text, app.environment, path)
        except ValueError as error:
            raise CliError(str(error)) from None
    found += resolve_env(flags.items(name), app.environment)
    return Flags(flags.flags, {**flags.values, name: last_wins(found)})


async def with_profiles(app: App, flags: Flags) -> Flags:
    """A seccomp profile's text in place of its path: the Engine that applies it may be another machine's."""
    options = []
    for option in flags.items("security-opt"):
        key, _, path = option.partition("=")
        is_file = key == "seccomp" and path not in ("unconfined", "builtin")
        options.append(f"seccomp={await app.text(path)}" if is_file else option)
    return Flags(flags.flags, {**flags.values, "security-opt": options}) if options else flags


async def look_up(client: Client, flags: Flags) -> Ids:
    """The IDs of the networks, secrets and configs that flags name."""
    networks: dict[str, str] = {}
    names = [item.target for item in added(flags, "network")]
    if "network-rm" in flags.flags:
        names += flags.items("network-rm")
    for name in dict.fromkeys(names):
        found = await client.get(path_of("networks", name), {"scope": "swarm"})
        networks[name] = found["Id"]
    return Ids(
        await named(client, "secrets", added(flags, "secret")),
        await named(client, "configs", added(flags, "config")),
        networks,
    )


async def named(client: Client, plural: str, references: list[Any]) -> dict[str, str]:
    names = sorted({item.source for item in references})
    if not names:
        return {}
    found = await client.get(f"/{plural}", {"filters": encode_filters({"name": names})})
    ids = {item["Spec"]["Name"]: item["ID"] for item in found}
    for name in names:
        if name not in ids:
            raise CliError(f"{plural.removesuffix('s')} not found: {name}")
    return ids


def warn(app: App, reply: Any) -> None:
    for warning in (reply or {}).get("Warnings") or []:
        app.warn(str(warning))


async def fetch(client: Client, name: str) -> tuple[dict[str, Any], ServiceSpec]:
    """A service as it is, and its specification."""
    service = await client.get(path_of("services", name), {"insertDefaults": "false"})
    return service, msgspec.convert(service["Spec"], ServiceSpec)


async def post_update(
    app: App, service: dict[str, Any], spec: ServiceSpec, *, headers: dict[str, str] | None = None, **query: str
) -> None:
    parameters = {**query, "version": str(service["Version"]["Index"])}
    client = await app.client()
    warn(app, await client.post(path_of("services", service["ID"], "update"), spec, parameters, headers=headers or {}))


async def update(app: App, args: list[str], flags: Flags) -> None:
    client = await app.client()
    flags = await with_profiles(app, await with_environment(app, flags))
    service, spec = await fetch(client, args[0])
    if flags.on("rollback"):
        others = set(flags.values) - {"rollback", "detach", "quiet"}
        if others:
            raise CliError("other flags may not be combined with --rollback")
        await post_update(app, service, spec, registryAuthFrom="spec", rollback="previous")
    else:
        ids = await look_up(client, flags)
        new = checked_spec(lambda: updated_service(spec, flags, ids))
        headers = await auth_headers(app, image_of(new), wanted=flags.on("with-registry-auth"))
        if flags.given("image") and not flags.on("no-resolve-image"):
            new = await resolve_image(app, new, headers, quiet=flags.on("quiet"))
        source = {} if headers else {"registryAuthFrom": "spec"}
        await post_update(app, service, new, headers=headers, **source)
    await finish(app, args[0], service["ID"], flags)


def image_of(spec: ServiceSpec) -> str:
    container = spec.task_template.container_spec if spec.task_template else None
    return (container.image if container else None) or ""


async def finish(app: App, name: str, service_id: str, flags: Flags) -> None:
    """Print the name, and wait unless told not to."""
    app.print(name)
    if not flags.on("detach"):
        await follow(app, {name: service_id}, quiet=flags.on("quiet"))


async def rollback(app: App, args: list[str], flags: Flags) -> None:
    service, spec = await fetch(await app.client(), args[0])
    await post_update(app, service, spec, rollback="previous")
    await finish(app, args[0], service["ID"], flags)


async def rebalance(app: App, args: list[str], flags: Flags) -> None:
    client = await app.client()
    ids: dict[str, str] = {}
    for name in args:
        service = await client.get(path_of("services", name), {"insertDefaults": "false"})
        try:
            await client.post(path_of("essaim", "v1", "services", service["ID"], "rebalance"))
        except ApiError as error:
            if error.status == 404:
                raise CliError("this daemon does not rebalance services: update it, or force an update") from None
            raise
        ids[name] = service["ID"]
        app.print(name)
    if not flags.on("detach"):
        await follow(app, ids, quiet=flags.on("quiet"))


async def scale(app: App, args: list[str], flags: Flags) -> None:
    wanted: dict[str, int] = {}
    failures: list[str] = []
    for item in args:
        name, separator, count = item.partition("=")
        if not separator:
            raise CliError(
                f"invalid scale specifier '{item}'.\nSee 'essaim service scale --help'.\n\n"
                "Usage:  essaim service scale SERVICE=REPLICAS [SERVICE=REPLICAS...]\n\n"
                "Scale one or multiple replicated services"
            )
        try:
            wanted[name] = parse_uint(count)
        except ValueError as error:
            failures.append(f"{name}: invalid replicas value {count}: {error}")
    done: dict[str, str] = {}
    for name, replicas in wanted.items():
        try:
            done[name] = await scale_one(app, name, replicas)
        except (ApiError, CliError) as error:
            prefix = "Error response from daemon: " if isinstance(error, ApiError) else ""
            failures.append(f"{name}: {prefix}{error}")
        else:
            app.print(f"{name} scaled to {replicas}")
    if done and not flags.on("detach"):
        await follow(app, done)
    if failures:
        raise CliError("\n".join(failures))


async def scale_one(app: App, name: str, count: int) -> str:
    service, spec = await fetch(await app.client(), name)
    if spec.mode is None or (spec.mode.replicated is None and spec.mode.replicated_job is None):
        raise CliError("scale can only be used with replicated or replicated-job mode")
    await post_update(app, service, replace(spec, mode=scaled(spec.mode, count)))
    return str(service["ID"])


async def rm(app: App, args: list[str], flags: Flags) -> None:
    client = await app.client()

    async def remove(name: str) -> str:
        await client.delete(path_of("services", name))
        return name

    await app.each(args, remove)
