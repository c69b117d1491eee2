"""`essaim node`: the hosts of the cluster."""

from typing import Any

from essaim.api.client import ApiError, path_of
from essaim.cli import completion
from essaim.cli.app import App, CliError, explain
from essaim.cli.command import ANY, NONE, ONE, SOME, Command, Group
from essaim.cli.common import FILTER, FORMAT, NO_RESOLVE, NO_TRUNC, QUIET_IDS, query
from essaim.cli.common_tasks import task_list
from essaim.cli.flags import LABELS, LIST, STRING, SWITCH, Flag, Flags
from essaim.cli.inspecting import FORMAT as INSPECT_FORMAT
from essaim.cli.inspecting import PRETTY, inspect
from essaim.cli.output.pretty import node_text
from essaim.cli.output.rows import NODES, node_rows
from essaim.cli.resolve import names_of, node_reference

ROLES = ("worker", "manager")
AVAILABILITY = ("active", "pause", "drain")


async def ls(app: App, args: list[str], flags: Flags) -> None:
    client = await app.client()
    nodes = await client.get("/nodes", query(flags.filters()))
    self_id, root = "", ""
    if nodes and not flags.on("quiet"):
        swarm = (await client.get("/info")).get("Swarm") or {}
        self_id = swarm.get("NodeID") or ""
        root = ((swarm.get("Cluster") or {}).get("TLSInfo") or {}).get("TrustRoot") or ""
    rows = node_rows(nodes, self_id, root)
    app.out.write(NODES.render(rows, flags.text("format"), quiet="ID" if flags.on("quiet") else ""))


async def inspect_nodes(app: App, args: list[str], flags: Flags) -> None:
    client = await app.client()

    async def fetch(name: str) -> bytes:
        return await client.get_raw(path_of("nodes", await node_reference(app, name)))

    if flags.on("pretty"):
        for name in args:
            app.out.write(node_text(await client.get(path_of("nodes", await node_reference(app, name)))))
        return
    await inspect(app, args, fetch, flags.text("format"))


async def ps(app: App, args: list[str], flags: Flags) -> None:
    client = await app.client()
    tasks: list[Any] = []
    failures: list[str] = []
    for name in args or ["self"]:
        try:
            node = await client.get(path_of("nodes", await node_reference(app, name)))
            found = await client.get("/tasks", query({**flags.filters(), "node": [node["ID"]]}))
        except ApiError as error:
            failures.append(explain(error))
            continue
        tasks += found
    if tasks or not failures:
        names = await names_of(client, tasks, resolve=not flags.on("no-resolve"))
        app.out.write(task_list(tasks, names, flags, app.now()))
    if failures:
        raise CliError("\n".join(failures))


async def change(app: App, name: str, **changes: str) -> str:
    """Set fields of a node's spec; the node's ID when there was nothing to change."""
    client = await app.client()
    node = await client.get(path_of("nodes", name))
    spec = node.get("Spec") or {}
    if all(spec.get(key) == value for key, value in changes.items()):
        return str(node["ID"])
    await client.post(
        path_of("nodes", node["ID"], "update"), {**spec, **changes}, {"version": str(node["Version"]["Index"])}
    )
    return ""


async def update(app: App, args: list[str], flags: Flags) -> None:
    for flag, choices in (("role", ROLES), ("availability", AVAILABILITY)):
        if flags.given(flag) and flags.text(flag) not in choices:
            raise CliError(f'invalid {flag} "{flags.text(flag)}": must be one of {", ".join(choices)}')
    client = await app.client()
    node = await client.get(path_of("nodes", args[0]))
    spec = dict(node.get("Spec") or {})
    labels = dict(spec.get("Labels") or {})
    for key in flags.items("label-rm"):
        if key not in labels:
            raise CliError(f"key {key} doesn't exist in node's labels")
        del labels[key]
    for pair in flags.items("label-add"):
        key, _, value = pair.partition("=")
        labels[key] = value
    spec["Labels"] = labels
    if flags.given("role"):
        spec["Role"] = flags.text("role")
    if flags.given("availability"):
        spec["Availability"] = flags.text("availability")
    await client.post(path_of("nodes", node["ID"], "update"), spec, {"version": str(node["Version"]["Index"])})
    app.print(args[0])


async def promote(app: App, args: list[str], flags: Flags) -> None:
    for name in args:
        same = await change(app, name, Role="manager")
        app.print(f"Node {same} is already a manager." if same else f"Node {name} promoted to a manager in the swarm.")


async def demote(app: App, args: list[str], flags: Flags) -> None:
    for name in args:
        same = await change(app, name, Role="worker")
        app.print(f"Node {same} is already a worker." if same else f"Manager {name} demoted in the swarm.")


async def rm(app: App, args: list[str], flags: Flags) -> None:
    client = await app.client()

    async def remove(name: str) -> str:
        await client.delete(path_of("nodes", name), {"force": "1"} if flags.on("force") else None)
        return name

    await app.each(args, remove)


LISTING = [FILTER, FORMAT, QUIET_IDS]
GROUP = Group(
    "node",
    summary="Manage nodes",
    aliases={"list": "ls", "remove": "rm"},
    commands=[
        Command("ls", ls, summary="List the nodes", flags=LISTING, arity=NONE),
        Command(
            "inspect",
            inspect_nodes,
            summary="Show nodes in detail",
            usage="self|NODE [NODE...]",
            arity=SOME,
            flags=[INSPECT_FORMAT, PRETTY],
            complete=completion.nodes,
        ),
        Command(
            "ps",
            ps,
            summary="List the tasks of nodes (of this one by default)",
            usage="[NODE...]",
            arity=ANY,
            flags=[*LISTING, NO_RESOLVE, NO_TRUNC],
            complete=completion.nodes,
        ),
        Command(
            "update",
            update,
            summary="Change a node",
            usage="NODE",
            arity=ONE,
            flags=[
                Flag("availability", STRING, "Whether the node takes tasks", choices=AVAILABILITY),
                Flag("role", STRING, "The node's role", choices=ROLES),
                Flag("label-add", LABELS, "Set a label of the node (key=value)"),
                Flag("label-rm", LIST, "Remove a label of the node"),
            ],
            complete=completion.nodes,
        ),
        Command(
            "promote",
            promote,
            summary="Make workers managers",
            usage="NODE [NODE...]",
            arity=SOME,
            complete=completion.nodes,
        ),
        Command(
            "demote",
            demote,
            summary="Make managers workers",
            usage="NODE [NODE...]",
            arity=SOME,
            complete=completion.nodes,
        ),
        Command(
            "rm",
            rm,
            summary="Take nodes out of the cluster",
            usage="NODE [NODE...]",
            arity=SOME,
            flags=[Flag("force", SWITCH, "Also when the node is not down", "f")],
            complete=completion.nodes,
        ),
    ],
)
