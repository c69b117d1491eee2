"""`essaim service logs`: the output of tasks, wherever they run."""

from typing import Any, TextIO

from essaim.api.client import ApiError, Client, path_of
from essaim.cli.app import App, CliError
from essaim.cli.flags import Flags
from essaim.cli.output.logstream import Frames, Line, parse_details
from essaim.cli.values.durations import since_parameter

NODE = "com.docker.swarm.node.id"
SERVICE = "com.docker.swarm.service.id"
TASK = "com.docker.swarm.task.id"
ID_LENGTH = 12


async def logs(app: App, args: list[str], flags: Flags) -> None:
    client = await app.client()
    path, is_tty, width = await source(client, args[0])
    if is_tty and not flags.on("raw"):
        raise CliError("tty service logs only supported with --raw")
    raw = flags.on("raw")
    query = {"stderr": "1", "stdout": "1", "tail": flags.text("tail")}
    if not raw:
        query["details"] = "1"
    for name in ("follow", "timestamps"):
        if flags.on(name):
            query[name] = "1"
    try:
        if since := since_parameter(flags.text("since"), app.now()):
            query["since"] = since
    except ValueError as error:
        raise CliError(f'invalid value for "since": {error}') from None
    if is_tty:
        async for chunk in client.stream(path, query):
            app.out.write(chunk.decode(errors="replace"))
            app.out.flush()
        return
    printer = Printer(client, flags, width)
    frames = Frames()
    async for chunk in client.stream(path, query):
        for line in frames.feed(chunk):
            await printer.print(app, line, raw=raw)


async def source(client: Client, name: str) -> tuple[str, bool, int]:
    """(path of the logs, whether it is a terminal's, the width of slot numbers) of a service or a task."""
    try:
        service = await client.get(path_of("services", name), {"insertDefaults": "false"})
    except ApiError as error:
        if error.status != 404:
            raise
    else:
        spec = service["Spec"]
        replicas = ((spec.get("Mode") or {}).get("Replicated") or {}).get("Replicas") or 1
        return path_of("services", name, "logs"), has_tty(spec.get("TaskTemplate")), len(str(replicas))
    try:
        task = await client.get(path_of("tasks", name))
    except ApiError as error:
        if error.status == 404:
            raise CliError(f"no such task or service: {name}") from None
        raise
    return path_of("tasks", name, "logs"), has_tty(task.get("Spec")), len(str(task.get("Slot") or 0))


def has_tty(task: dict[str, Any] | None) -> bool:
    return bool(((task or {}).get("ContainerSpec") or {}).get("TTY"))


class Printer:
    """Prints lines with the task and node that they come from; each is looked up once."""

    def __init__(self, client: Client, flags: Flags, width: int) -> None:
        self._client = client
        self._flags = flags
        self._width = width
        self._titles: dict[tuple[str, str, str], str] = {}

    async def print(self, app: App, line: Line, *, raw: bool) -> None:
        out: TextIO = app.err if line.is_error else app.out
        out.write((line.text if raw else await self._layout(line.text)) + "\n")
        out.flush()

    async def _layout(self, text: str) -> str:
        stamp = ""
        if self._flags.on("timestamps"):
            stamp, _, text = text.partition(" ")
            stamp += " "
        details, _, message = text.partition(" ")
        context = parse_details(details)
        title = await self._title(context)
        rest = {key: value for key, value in context.items() if key not in (NODE, SERVICE, TASK)}
        extra = ""
        if self._flags.on("details"):
            extra = ",".join(f"{key}={value}" for key, value in sorted(rest.items())) + " "
        return f"{stamp}{title}    | {extra}{message}"

    async def _title(self, context: dict[str, str]) -> str:
        key = (context.get(TASK, ""), context.get(SERVICE, ""), context.get(NODE, ""))
        if key not in self._titles:
            self._titles[key] = await self._make_title(*key)
        return self._titles[key]

    async def _make_title(self, task_id: str, service_id: str, node_id: str) -> str:
        node, name = node_id, service_id
        slot: Any = ""
        if not self._flags.on("no-resolve"):
            node = await self._name(path_of("nodes", node_id), node_id)
            name = await self._name(path_of("services", service_id), service_id)
        try:
            slot = (await self._client.get(path_of("tasks", task_id))).get("Slot") or ""
        except ApiError:
            slot = ""
        title = f"{name}.{slot}" if slot else f"{name}.{node_id}"
        if not self._flags.on("no-task-ids"):
            title += f".{task_id if self._flags.on('no-trunc') else task_id[:ID_LENGTH]}"
        padding = " " * (self._width - len(str(slot)))
        return f"{title}@{node}{padding}"

    async def _name(self, path: str, fallback: str) -> str:
        try:
            found = await self._client.get(path)
        except ApiError:
            return fallback
        hostname = (found.get("Description") or {}).get("Hostname")
        return str((found.get("Spec") or {}).get("Name") or hostname or fallback)
