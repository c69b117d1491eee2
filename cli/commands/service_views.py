"""What shows services."""

import json
import shutil
from typing import Any

from essaim.api.client import ApiError, path_of
from essaim.cli.app import App, CliError
from essaim.cli.common import query
from essaim.cli.common_tasks import task_list
from essaim.cli.flags import Flags
from essaim.cli.inspecting import inspect
from essaim.cli.output.explained import explanation, folded, gateway_says
from essaim.cli.output.lbstatus import STATUS_PATH
from essaim.cli.output.pretty_service import service_text
from essaim.cli.output.rows import SERVICES, service_rows
from essaim.cli.resolve import names_of


async def ls(app: App, args: list[str], flags: Flags) -> None:
    quiet = flags.on("quiet")
    status = {} if quiet and not flags.given("format") else {"status": "true"}
    services = await (await app.client()).get("/services", query(flags.filters(), **status))
    app.out.write(SERVICES.render(service_rows(services), flags.text("format"), quiet="ID" if quiet else ""))


async def inspect_services(app: App, args: list[str], flags: Flags) -> None:
    client = await app.client()

    async def fetch(name: str) -> bytes:
        try:
            return await client.get_raw(path_of("services", name), {"insertDefaults": "true"})
        except ApiError as error:
            if error.status == 404:
                raise CliError(f"Error: no such service: {name}") from None
            raise

    if flags.on("pretty"):
        for name in args:
            service = json.loads(await fetch(name))
            app.out.write(service_text(service, await network_names(app, service), app.now()))
        return
    await inspect(app, args, fetch, flags.text("format"))


async def network_names(app: App, service: dict[str, Any]) -> dict[str, str]:
    """Names of the networks that a service is attached to."""
    client = await app.client()
    spec = service["Spec"]
    found: dict[str, str] = {}
    for network in (spec.get("TaskTemplate") or {}).get("Networks") or spec.get("Networks") or []:
        detail = await client.get(path_of("networks", network["Target"]), {"scope": "swarm"})
        found[network["Target"]] = detail["Name"]
    return found


async def ps(app: App, args: list[str], flags: Flags) -> None:
    """Services by exact ID or name, or by the start of an ID."""
    client = await app.client()
    ids, missing = await find(app, args)
    if not ids:
        raise CliError("\n".join(missing))
    tasks = await client.get("/tasks", query({**flags.filters(), "service": ids}))
    names = await names_of(client, tasks, resolve=not flags.on("no-resolve"))
    app.out.write(task_list(tasks, names, flags, app.now()))
    if missing:
        raise CliError("\n".join(missing))


async def explain(app: App, args: list[str], flags: Flags) -> None:
    """Why services are as they are: their tasks' states and messages, and what the gateway says of them."""
    client = await app.client()
    ids, missing = await find(app, args)
    width = shutil.get_terminal_size().columns if app.out.isatty() else None
    services = await client.get("/services", query({"id": ids}, status="true")) if ids else []
    status = await client.get(STATUS_PATH) if ids else {}
    for service in sorted(services, key=lambda service: ids.index(service["ID"])):
        tasks = await client.get("/tasks", query({"service": [service["ID"]]}))
        names = await names_of(client, tasks)
        said = gateway_says(status, service["ID"])
        app.out.write(folded(explanation(service, tasks, names, said, app.now()), width))
    if missing:
        raise CliError("\n".join(missing))


async def find(app: App, names: list[str]) -> tuple[list[str], list[str]]:
    """IDs of services, and messages for what is none."""
    client = await app.client()
    by_id = await client.get("/services", query({"id": names}))
    by_name = await client.get("/services", query({"name": names}))
    ids, missing = [], []
    for name in names:
        exact = [item["ID"] for item in by_id if item["ID"] == name]
        exact += [item["ID"] for item in by_name if item["Spec"].get("Name") == name]
        exact += [item["ID"] for item in by_id if item["ID"].startswith(name)]
        if exact:
            ids.append(exact[0])
        else:
            missing.append(f"no such service: {name}")
    return list(dict.fromkeys(ids)), missing
