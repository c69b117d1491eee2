"""What must hold once a fault is over, each a check that tells what is wrong now, in words; nothing when all is well.

Whoever calls asks again until nothing is wrong or a deadline passes: a cluster needs its time to mend.
"""

import re
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path

from essaim.api.client import ApiError, Unreachable, encode_filters
from tests.lab.host import Host

from .ledger import PREFIX, Book
from .world import Object, World

TASK_LABEL = "com.docker.swarm.task.id"
NETWORK_LABEL = "essaim.network"
FINAL = {"complete", "failed", "shutdown", "rejected", "orphaned", "remove"}
Check = Callable[[World], Awaitable[list[str]]]


async def nodes_ready(world: World) -> list[str]:
    """All nodes are ready and active, managers reachable, with exactly one leader, as every manager sees it."""
    wrong: list[str] = []
    leaders: dict[str, list[str]] = {}
    for host in world.hosts:
        if host.name not in world.managers:
            continue
        nodes = await world.nodes(host=host)
        for name, node in nodes.items():
            status = node.get("ManagerStatus") or {}
            if node["Status"]["State"] != "ready" or node["Spec"]["Availability"] != "active":
                state, availability = node["Status"]["State"], node["Spec"]["Availability"]
                wrong.append(f"{name} is {state} and {availability} as {host.name} sees it")
            if name in world.managers and status.get("Reachability") != "reachable":
                wrong.append(f"manager {name} is {status.get('Reachability', 'no manager')} as {host.name} sees it")
        leaders[host.name] = sorted(n for n, node in nodes.items() if (node.get("ManagerStatus") or {}).get("Leader"))
    if len({tuple(names) for names in leaders.values()}) != 1 or any(len(names) != 1 for names in leaders.values()):
        wrong.append(f"not one leader: {leaders}")
    return wrong


async def replicas_run(world: World) -> list[str]:
    """Each service has the tasks that it asks for, running, each with a container that runs; no update is under way."""
    wrong = []
    tasks = await world.read("/tasks")
    services = await world.read("/services")
    nodes = len(await world.nodes())
    for service in services:
        name, mode = service["Spec"]["Name"], service["Spec"]["Mode"]
        if "Replicated" not in mode and "Global" not in mode:
            continue
        if name.startswith("hostile"):
            continue
        wanted = mode["Replicated"]["Replicas"] if "Replicated" in mode else nodes
        meant = [t for t in tasks if t["ServiceID"] == service["ID"] and t["DesiredState"] in ("running", "ready")]
        states = Counter(t["Status"]["State"] for t in meant)
        if states != Counter({"running": wanted}):
            problems = {t["Status"].get("Err", "") for t in meant if t["Status"].get("Err")}
            wrong.append(f"{name} has tasks {dict(states)}, wanted {wanted} running {sorted(problems) or ''}".rstrip())
        state = (service.get("UpdateStatus") or {}).get("State", "")
        if state in ("updating", "rollback_started", "paused", "rollback_paused"):
            wrong.append(f"the update of {name} is {state}: {service['UpdateStatus'].get('Message', '')}")
    return wrong


async def containers_match(world: World) -> list[str]:
    """On each Engine exactly the containers run that the tasks of its node say; none belongs to a forgotten task."""
    wrong = []
    tasks = {t["ID"]: t for t in await world.read("/tasks")}
    nodes = await world.nodes()
    for host in world.hosts:
        here = {i: t for i, t in tasks.items() if t.get("NodeID") == nodes[host.name]["ID"]}
        running: set[str] = set()
        for container in await world.containers(host, "all"):
            task = container["Labels"].get(TASK_LABEL)
            name = container["Names"][0].lstrip("/")
            if task is None:
                continue
            if container["State"] == "running":
                running.add(task)
            if task not in here:
                wrong.append(f"{host.name} has a container of a forgotten task: {name} ({container['Status']})")
            elif container["State"] == "running" and here[task]["Status"]["State"] in FINAL:
                wrong.append(f"{host.name} runs {name}, whose task is {here[task]['Status']['State']}")
            # A container that could not be started is kept as any failed task's is, until the task is forgotten.
            elif container["State"] == "created" and here[task]["Status"]["State"] in FINAL - {"failed"}:
                wrong.append(f"{host.name} has {name} created, whose task is {here[task]['Status']['State']}")
        missing = [i for i, t in here.items() if t["Status"]["State"] == "running" and i not in running]
        wrong += [f"{host.name} runs no container for {_named(tasks[i])}, which is said to be running" for i in missing]
    return wrong


def _named(task: Object) -> str:
    return f"task {task['ID']} (slot {task.get('Slot', '-')})"


async def nothing_left(world: World) -> list[str]:
    """Secrets' files are those of running tasks; bridges and links are those of networks that tasks here are on."""
    wrong = []
    tasks = await world.read("/tasks")
    nodes = await world.nodes()
    for host in world.hosts:
        here = [t for t in tasks if t.get("NodeID") == nodes[host.name]["ID"]]
        live = {t["ID"] for t in here if t["Status"]["State"] not in FINAL}
        known = {t["ID"] for t in here}
        for folder in await _folders(host):
            if folder.name not in live:
                why = "an ended" if folder.name in known else "a forgotten"
                wrong.append(f"{host.name} keeps secrets of {why} task: {folder}")
        networks = [n for n in await world.engine(host).get("/networks") if NETWORK_LABEL in (n.get("Labels") or {})]
        wanted = {network for t in here if t["ID"] in live for network in _networks(t)}
        have = {n["Name"] for n in networks}
        if have != wanted:
            wrong.append(f"{host.name} has bridges of networks {sorted(have)}, tasks here are on {sorted(wanted)}")
        links = [line for line in (await _links(host)) if line.startswith("esvx")]
        if len(links) != len(have):
            wrong.append(f"{host.name} has links {links} for {len(have)} networks")
    return wrong


def _networks(task: Object) -> list[str]:
    """The overlay networks that a task is on, by id."""
    return [n.get("NetworkID") or n["Network"]["ID"] for n in task.get("NetworksAttachments") or ()]


async def _folders(host: Host) -> list[Path]:
    """The folders of tasks' secrets, seen through the host's own process 1: /run is its own."""
    root = Path(f"/proc/{next(iter(host.cgroup.below('system').pids()))}/root/run")
    return [path for path in root.glob("essaim-*/*/*") if path.is_dir()]


async def _links(host: Host) -> list[str]:
    from .world import blocking

    done = await blocking(host.run, ["ip", "-brief", "link"])
    return [line.split("@")[0].split()[0] for line in done.stdout.splitlines()]


async def writes_kept(world: World, book: Book) -> list[str]:
    """Every manager shows what was acknowledged, and nothing that was removed."""
    wrong = []
    for host in world.hosts:
        if host.name not in world.managers:
            continue
        # Taken before the question: what is acknowledged while it is on its way need not be in the answer.
        before = Book(dict(book.present), set(book.removed), book.written)
        shown = await world.read("/configs", {"filters": encode_filters({"name": [PREFIX]})}, host=host)
        names = [c["Spec"]["Name"] for c in shown]
        # What was asked to be removed since may be gone.
        before.present = {n: i for n, i in before.present.items() if n in book.present}
        wrong += [f"{host.name}: {what}" for what in before.differences(names)]
    return wrong


RECORD = re.compile(r"\d{4}-\d\d-\d\dT\S+ \[(?P<level>\w+) *\] (?P<text>.*)")
STRAY = re.compile(r"Traceback|never awaited|Unclosed|was never retrieved|Fatal Python error")


def troubles(lines: list[str]) -> list[str]:
    """Errors among a log's lines, each with what follows it up to the next record: first and last line, the exception.
    Pure."""
    found: list[str] = []
    place = 0
    while place < len(lines):
        end = next((n for n in range(place + 1, len(lines)) if RECORD.match(lines[n])), len(lines))
        first, rest = lines[place], lines[place + 1 : end]
        record = RECORD.match(first)
        if (record and record["level"] in ("error", "critical")) or any(STRAY.search(line) for line in [first, *rest]):
            words = [line.strip(" |+-") for line in rest if line.strip(" |+-")]
            found.append(" ... ".join([record["text"] if record else first, *words[-1:]])[:600])
        place = end
    return found


class Logs:
    """What daemons wrote since the last look that no fault excuses: errors, tracebacks, and Python's own complaints."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._places: dict[Path, int] = {}

    def look(self) -> list[str]:
        found: list[str] = []
        for host in self._world.hosts:
            for path in sorted((host.directory / "log").glob("essaimd-*")):
                with path.open(errors="replace") as log:
                    log.seek(self._places.get(path, 0))
                    lines = log.read().splitlines()
                    self._places[path] = log.tell()
                found += [f"{host.name} logs: {text}" for text in troubles(lines)]
        return list(dict.fromkeys(found))


RETRIED = (ApiError, Unreachable, TimeoutError, OSError)
