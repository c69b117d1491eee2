"""`essaim network`: networks of swarm scope."""

from typing import Any

from essaim.api.client import ApiError, path_of
from essaim.cli import completion
from essaim.cli.app import App, CliError
from essaim.cli.command import NONE, ONE, SOME, Command, Group
from essaim.cli.common import FILTER, FORMAT, NO_TRUNC, query
from essaim.cli.flags import LABELS, NAMES, PAIRS, STRING, SWITCH, Flag, Flags
from essaim.cli.inspecting import FORMAT as INSPECT_FORMAT
from essaim.cli.inspecting import inspect
from essaim.cli.output.rows import NETWORKS, network_rows
from essaim.cli.spec.ipam import ipam
from essaim.cli.values.pairs import to_map


async def create(app: App, args: list[str], flags: Flags) -> None:
    """The driver is overlay unless said otherwise: networks here belong to the cluster."""
    try:
        addresses = ipam(
            flags.text("ipam-driver"),
            flags.items("subnet"),
            flags.items("ip-range"),
            flags.items("gateway"),
            to_map(flags.items("aux-address")),
            to_map(flags.items("ipam-opt")),
        )
    except ValueError as error:
        raise CliError(str(error)) from None
    body: dict[str, Any] = {
        "Name": args[0],
        "Driver": flags.text("driver"),
        "Scope": flags.text("scope"),
        "IPAM": addresses,
        "Internal": flags.on("internal"),
        "Attachable": flags.on("attachable"),
        "Ingress": flags.on("ingress"),
        "ConfigOnly": False,
        "ConfigFrom": None,
        "Options": to_map(flags.items("opt")),
        "Labels": to_map(flags.items("label")),
    }
    if flags.given("ipv6"):
        body["EnableIPv6"] = flags.on("ipv6")
    if flags.given("ipv4"):
        body["EnableIPv4"] = flags.on("ipv4")
    made = await (await app.client()).post("/networks/create", body)
    app.print(made["Id"])


async def ls(app: App, args: list[str], flags: Flags) -> None:
    found = await (await app.client()).get("/networks", query(flags.filters()))
    rows = network_rows(found, truncate=not flags.on("no-trunc"))
    app.out.write(NETWORKS.render(rows, flags.text("format"), quiet="ID" if flags.on("quiet") else ""))


async def inspect_networks(app: App, args: list[str], flags: Flags) -> None:
    client = await app.client()
    more = {"verbose": "true"} if flags.on("verbose") else None
    await inspect(app, args, lambda name: client.get_raw(path_of("networks", name), more), flags.text("format"))


async def rm(app: App, args: list[str], flags: Flags) -> None:
    client = await app.client()

    async def remove(name: str) -> str | None:
        try:
            await client.delete(path_of("networks", name))
        except ApiError as error:
            if flags.on("force") and error.status == 404:
                return None
            raise
        return name

    await app.each(args, remove)


GROUP = Group(
    "network",
    summary="Manage networks",
    aliases={"list": "ls", "remove": "rm"},
    commands=[
        Command(
            "create",
            create,
            summary="Make a network",
            usage="NETWORK",
            arity=ONE,
            flags=[
                Flag("driver", STRING, "Driver of the network", "d", default="overlay", shown_default='"overlay"'),
                Flag("opt", PAIRS, "Set an option of the driver", "o"),
                Flag("label", LABELS, "Set a label of the network"),
                Flag("subnet", NAMES, "A subnet (CIDR)"),
                Flag("gateway", NAMES, "The gateway of a subnet"),
                Flag("ip-range", NAMES, "Give out addresses of this part of a subnet only"),
                Flag("aux-address", PAIRS, "An address that the driver must not give out (name=address)"),
                Flag("ipam-driver", STRING, "Driver that manages addresses", default="default"),
                Flag("ipam-opt", PAIRS, "Set an option of the address driver"),
                Flag("internal", SWITCH, "No access to the outside"),
                Flag("attachable", SWITCH, "Plain containers may join"),
                Flag("ingress", SWITCH, "Make it the routing mesh's network"),
                Flag("ipv4", SWITCH, "Give IPv4 addresses", default=True),
                Flag("ipv6", SWITCH, "Give IPv6 addresses too"),
                Flag("scope", STRING, "Where the network exists", choices=("swarm", "local")),
            ],
        ),
        Command(
            "ls",
            ls,
            summary="List the networks",
            arity=NONE,
            flags=[FILTER, FORMAT, NO_TRUNC, Flag("quiet", SWITCH, "Print IDs only", "q")],
        ),
        Command(
            "inspect",
            inspect_networks,
            summary="Show networks in detail",
            usage="NETWORK [NETWORK...]",
            arity=SOME,
            flags=[INSPECT_FORMAT, Flag("verbose", SWITCH, "Also show services and peers", "v")],
            complete=completion.networks,
        ),
        Command(
            "rm",
            rm,
            summary="Remove networks",
            usage="NETWORK [NETWORK...]",
            arity=SOME,
            flags=[Flag("force", SWITCH, "A network that does not exist is no error", "f")],
            complete=completion.networks,
        ),
    ],
)
