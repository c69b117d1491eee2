"""`essaim swarm`: making, joining and leaving a cluster, and its settings."""

from typing import Any

from essaim.api.client import path_of
from essaim.cli import completion
from essaim.cli.app import App, CliError
from essaim.cli.command import NONE, ONE, Command, Group
from essaim.cli.flags import INT, LIST, NAMES, POSITIVE, STRING, SWITCH, UINT, Flag, Flags
from essaim.cli.spec.swarm import new_spec, updated_spec
from essaim.cluster.durations import SECOND

JOIN_HINT = """To add a {role} to this swarm, run the following command:

    essaim swarm join --token {token} {address}
"""
UNLOCK_HINT = """To unlock a swarm manager after it restarts, run the `essaim swarm unlock`
command and provide the following key:

    {key}

Remember to store this key in a password manager, since without it you
will not be able to restart the manager.
"""
ROTATION_POLL = 0.2
ADDRESSES = [
    Flag("advertise-addr", STRING, "Address that other nodes reach this one at (ip|interface[:port])"),
    Flag("listen-addr", STRING, "Address to listen on (ip|interface[:port]); the daemon's by default"),
    Flag("data-path-addr", STRING, "Address for the traffic between replicas (ip|interface)"),
    Flag(
        "availability",
        STRING,
        "Whether the node takes tasks",
        default="active",
        choices=("active", "pause", "drain"),
    ),
]
SETTINGS = [
    Flag("autolock", SWITCH, "Ask for a key when a stopped manager starts"),
    Flag("cert-expiry", POSITIVE, "How long nodes' certificates last", default=90 * 24 * 3600 * SECOND),
    Flag("dispatcher-heartbeat", POSITIVE, "Time between a node's signs of life", default=5 * SECOND),
    Flag("restart-grace", POSITIVE, "How long a node's tasks stay while its daemon restarts", default=30 * SECOND),
    Flag("external-ca", LIST, "An external CA that signs certificates (protocol=cfssl,url=...)"),
    Flag("max-snapshots", UINT, "Older Raft snapshots to keep"),
    Flag("snapshot-interval", UINT, "Raft log entries between snapshots", default=10000, shown_default="10000"),
    Flag("task-history-limit", INT, "Ended tasks to remember for each replica", default=5, shown_default="5"),
    Flag(
        "placement-strategy",
        STRING,
        "How nodes are chosen for replicas",
        choices=("spread", "binpack"),
    ),
]


def availability(flags: Flags) -> str:
    found = flags.text("availability").lower()
    if found not in ("active", "pause", "drain"):
        raise CliError(f'invalid availability "{found}", only active, pause and drain are supported')
    return found


async def init(app: App, args: list[str], flags: Flags) -> None:
    client = await app.client()
    body: dict[str, Any] = {
        # Empty, the daemon listens where its own flags say.
        "ListenAddr": flags.text("listen-addr") if flags.given("listen-addr") else "",
        "AdvertiseAddr": flags.text("advertise-addr"),
        "DataPathAddr": flags.text("data-path-addr"),
        "DataPathPort": flags.number("data-path-port"),
        "ForceNewCluster": flags.on("force-new-cluster"),
        "AutoLockManagers": flags.on("autolock"),
        "Availability": availability(flags),
        "DefaultAddrPool": flags.items("default-addr-pool") or None,
        "SubnetSize": flags.number("default-addr-pool-mask-length") if flags.items("default-addr-pool") else 0,
        "Spec": new_spec(flags),
    }
    node_id = await client.post("/swarm/init", body)
    app.print(f"Swarm initialized: current node ({node_id}) is now a manager.", "")
    app.print((await join_hint(app, str(node_id), "worker")).rstrip("\n"), "")
    app.print("To add a manager to this swarm, run 'essaim swarm join-token manager' and follow the instructions.", "")
    if flags.on("autolock"):
        await print_unlock_key(app)


async def join_hint(app: App, node_id: str, role: str) -> str:
    client = await app.client()
    node = await client.get(path_of("nodes", node_id))
    tokens = (await client.get("/swarm"))["JoinTokens"]
    manager = node.get("ManagerStatus") or {}
    return JOIN_HINT.format(role=role, token=tokens[role.capitalize()], address=manager.get("Addr") or "HOST:PORT")


async def print_unlock_key(app: App) -> None:
    found = await (await app.client()).get("/swarm/unlockkey")
    app.out.write(UNLOCK_HINT.format(key=found["UnlockKey"]))


async def join(app: App, args: list[str], flags: Flags) -> None:
    client = await app.client()
    body = {
        # Empty, the daemon listens where its own flags say.
        "ListenAddr": flags.text("listen-addr") if flags.given("listen-addr") else "",
        "AdvertiseAddr": flags.text("advertise-addr"),
        "DataPathAddr": flags.text("data-path-addr"),
        "RemoteAddrs": [args[0]],
        "JoinToken": flags.text("token"),
        "Availability": availability(flags),
    }
    await client.post("/swarm/join", body)
    swarm = (await client.get("/info")).get("Swarm") or {}
    app.print(f"This node joined a swarm as a {'manager' if swarm.get('ControlAvailable') else 'worker'}.")


async def leave(app: App, args: list[str], flags: Flags) -> None:
    await (await app.client()).post("/swarm/leave", query={"force": "1"} if flags.on("force") else None)
    app.print("Node left the swarm.")


def rotation(version: int, *, worker: bool = False, manager: bool = False, key: bool = False) -> dict[str, str]:
    """The parameters of `POST /swarm/update`."""
    switches = {"rotateManagerToken": manager, "rotateManagerUnlockKey": key, "rotateWorkerToken": worker}
    return {"version": str(version), **{name: str(value).lower() for name, value in switches.items()}}


async def join_token(app: App, args: list[str], flags: Flags) -> None:
    role = args[0]
    if role not in ("worker", "manager"):
        raise CliError(f"unknown role {role}")
    client = await app.client()
    quiet = flags.on("quiet")
    if flags.on("rotate"):
        swarm = await client.get("/swarm")
        parameters = rotation(swarm["Version"]["Index"], worker=role == "worker", manager=role == "manager")
        await client.post("/swarm/update", swarm["Spec"], parameters)
        if not quiet:
            app.print(f"Successfully rotated {role} join token.", "")
    swarm = await client.get("/swarm")
    if quiet:
        app.print(swarm["JoinTokens"][role.capitalize()])
        return
    info = (await client.get("/info")).get("Swarm") or {}
    app.print(await join_hint(app, info.get("NodeID") or "", role))


async def update(app: App, args: list[str], flags: Flags) -> None:
    if not flags.values:
        raise CliError("nothing to change: give at least one of the options (see essaim swarm update --help)")
    client = await app.client()
    swarm = await client.get("/swarm")
    was_locked = (swarm["Spec"].get("EncryptionConfig") or {}).get("AutoLockManagers")
    await client.post("/swarm/update", updated_spec(swarm["Spec"], flags), rotation(swarm["Version"]["Index"]))
    app.print("Swarm updated.")
    if flags.given("autolock") and flags.on("autolock") and not was_locked:
        await print_unlock_key(app)


async def unlock(app: App, args: list[str], flags: Flags) -> None:
    client = await app.client()
    state = ((await client.get("/info")).get("Swarm") or {}).get("LocalNodeState")
    if state == "inactive":
        raise CliError("Error: This node is not part of a swarm")
    if state != "locked":
        raise CliError("Error: swarm is not locked")
    if app.stdin.isatty():
        app.err.write("Enter unlock key: ")
        app.err.flush()
    key = (await app.text("-")).strip()
    await client.post("/swarm/unlock", {"UnlockKey": key})


async def unlock_key(app: App, args: list[str], flags: Flags) -> None:
    client = await app.client()
    if flags.on("rotate"):
        swarm = await client.get("/swarm")
        if not (swarm["Spec"].get("EncryptionConfig") or {}).get("AutoLockManagers"):
            raise CliError("cannot rotate because autolock is not turned on")
        await client.post("/swarm/update", swarm["Spec"], rotation(swarm["Version"]["Index"], key=True))
        if not flags.on("quiet"):
            app.print("Successfully rotated manager unlock key.", "")
    key = (await client.get("/swarm/unlockkey")).get("UnlockKey")
    if not key:
        raise CliError("no unlock key is set")
    app.print(key) if flags.on("quiet") else app.print(UNLOCK_HINT.format(key=key).rstrip("\n"))


async def ca(app: App, args: list[str], flags: Flags) -> None:
    client = await app.client()
    swarm = await client.get("/swarm")
    if flags.on("rotate"):
        spec = dict(swarm["Spec"])
        authority = dict(spec.get("CAConfig") or {})
        if flags.given("ca-cert"):
            authority["SigningCACert"] = await app.text(flags.text("ca-cert"))
        if flags.given("ca-key"):
            authority["SigningCAKey"] = await app.text(flags.text("ca-key"))
        authority["ForceRotate"] = (authority.get("ForceRotate") or 0) + 1
        spec["CAConfig"] = authority
        await client.post("/swarm/update", spec, rotation(swarm["Version"]["Index"]))
        if flags.on("detach"):
            return
        swarm = await until_rotated(app, quiet=flags.on("quiet"))
    elif flags.given("ca-cert", "ca-key"):
        raise CliError("`--ca-cert` and `--ca-key` require the `--rotate` flag to update the CA")
    root = (swarm.get("TLSInfo") or {}).get("TrustRoot")
    if not root:
        raise CliError("No CA information available")
    app.print(root.rstrip("\n"))


async def until_rotated(app: App, *, quiet: bool) -> dict[str, Any]:
    """The swarm once every node has a certificate of the new root. To give up waiting changes nothing."""
    client = await app.client()
    swarm: dict[str, Any] = await client.get("/swarm")
    if swarm.get("RootRotationInProgress") and not quiet:
        app.err.write("Waiting until every node has a certificate of the new root (see essaim node ls) ...\n")
        app.err.flush()
    while swarm.get("RootRotationInProgress"):
        await app.sleep(ROTATION_POLL)
        swarm = await client.get("/swarm")
    return swarm


INIT = [
    *ADDRESSES,
    *SETTINGS,
    Flag("force-new-cluster", SWITCH, "Make a new cluster of this manager's state, after a lost majority"),
    Flag("data-path-port", UINT, "Port for the traffic between replicas (1024 to 49151)"),
    Flag("default-addr-pool", NAMES, "Subnets to cut networks from (CIDR)"),
    Flag("default-addr-pool-mask-length", UINT, "Mask of the networks cut from the pool", default=24),
]
ROTATE = Flag("rotate", SWITCH, "Make a new one; the old one is good no more")
ONLY = Flag("quiet", SWITCH, "Print the token only", "q")
GROUP = Group(
    "swarm",
    summary="Manage the swarm",
    commands=[
        Command("init", init, summary="Make a cluster whose first manager is this node", arity=NONE, flags=INIT),
        Command(
            "join",
            join,
            summary="Join a cluster as worker or manager, as the token says",
            usage="HOST:PORT",
            arity=ONE,
            flags=[*ADDRESSES, Flag("token", STRING, "Token of the cluster, for a worker or a manager")],
        ),
        Command(
            "leave",
            leave,
            summary="Leave the cluster",
            arity=NONE,
            flags=[Flag("force", SWITCH, "Also when the cluster loses its majority, or its last manager", "f")],
        ),
        Command(
            "join-token",
            join_token,
            summary="Show or renew the token that nodes join with",
            usage="(worker|manager)",
            arity=ONE,
            flags=[ROTATE, ONLY],
            complete=completion.words("worker", "manager"),
        ),
        Command("update", update, summary="Change the cluster's settings", arity=NONE, flags=SETTINGS),
        Command("unlock", unlock, summary="Unlock a manager that was locked when it stopped", arity=NONE),
        Command("unlock-key", unlock_key, summary="Show or renew the unlock key", arity=NONE, flags=[ROTATE, ONLY]),
        Command(
            "ca",
            ca,
            summary="Show or renew the root certificate",
            arity=NONE,
            flags=[
                ROTATE,
                Flag("ca-cert", STRING, "File with the new root certificate (PEM)"),
                Flag("ca-key", STRING, "File with the new root key (PEM)"),
                Flag("detach", SWITCH, "Do not wait until all nodes have new certificates", "d"),
                Flag("quiet", SWITCH, "Print no progress", "q"),
            ],
        ),
    ],
)
