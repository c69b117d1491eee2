"""`essaim service explain`: how a service is doing and why, in sentences.

Tasks in the same state for the same reason share one sentence. It is about the newest task of each slot, and about the
one before where the newest does not run: that one says what went wrong.

Pure: API objects to text.
"""

import textwrap
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from typing import Any

from essaim.cli.values.durations import parse_time, time_ago

from .naturalsort import natural
from .tasks import Names

WAITING = {"new", "allocated", "pending"}
ENDED = {"complete", "failed", "rejected", "shutdown", "orphaned", "remove"}
USUAL = {"started", "preparing", "starting", "ready", "accepted", "assigned", "finished", "created", "shutdown"}
"""Messages that say no more than the state does."""
NAMED = 3
"""Tasks that a sentence names; the others are counted."""
ADVICE = (
    ("not available for new tasks", "Nodes are drained or paused: essaim node update --availability active NODE"),
    ("not ready", "Nodes are down: see essaim node ls, and the log of essaimd there"),
    ("whose Docker Engine does not answer", "Start Docker on the nodes, or see why it does not answer"),
    ("only serving as gateway", "Let a node that runs tasks join (essaimd without --gateway-only)"),
    ("not satisfied on", "Give nodes what the constraint asks for (essaim node update --label-add), or change it"),
    ("unsupported platform", "The image is not made for these nodes' systems or processors: use another image"),
    ("missing plugin", "Install the driver on the nodes, or use another one"),
    ("insufficient", "Ask for less (--reserve-cpu, --reserve-memory, --generic-resource), or add a node"),
    ("host-mode port already in use", "Fewer replicas, another port, or publish the port in ingress mode"),
    ("max replicas per node", "Raise --replicas-max-per-node, or add a node"),
    ("runs tasks as plain processes", "Images need Docker: keep the service to nodes that have it, or add one"),
    ("pull access denied", "Check the image's name, or docker login and pass --with-registry-auth"),
    ("No such image", "Check the image's name and tag, and that the node reaches its registry"),
    ("unhealthy", "The health check fails: see essaim service logs SERVICE"),
    ("non-zero exit", "The program ends by itself: see essaim service logs SERVICE"),
)
"""What to do about words that a task's error holds."""


def explanation(
    service: Mapping[str, Any], tasks: Iterable[Mapping[str, Any]], names: Names, said: Iterable[str], now: datetime
) -> str:
    """All that can be said of one service; `said` is what the gateway says of it."""
    name = service["Spec"].get("Name") or service["ID"]
    newest, before = in_slots(tasks)
    lines = [f"{name}: {how_many(service)}"]
    lines += grouped((sentence(task, names, now), names.task(task)) for task in newest)
    lines += [f"  the last attempt {line.strip()}" for line in last_attempts(newest, before, names, now)]
    update = service.get("UpdateStatus") or {}
    if update.get("State") in ("paused", "rollback_paused"):
        lines.append(f"  update {update['State'].replace('_', ' ')}: {update.get('Message', '')}")
    lines += [f"  {line}" for line in said]
    lines += [f"  what to do: {line}" for line in advice(lines, name)]
    return "\n".join(lines) + "\n"


def how_many(service: Mapping[str, Any]) -> str:
    status = service.get("ServiceStatus") or {}
    mode = service["Spec"].get("Mode") or {}
    running, wanted = status.get("RunningTasks") or 0, status.get("DesiredTasks") or 0
    if "ReplicatedJob" in mode or "GlobalJob" in mode:
        return f"a job; {status.get('CompletedTasks') or 0} tasks completed, {running} running"
    if "Global" in mode:
        return f"runs on {running} of {wanted} nodes"
    return f"{running} of {wanted} replicas running"


def in_slots(tasks: Iterable[Mapping[str, Any]]) -> tuple[list[Mapping[str, Any]], dict[str, Mapping[str, Any]]]:
    """The newest task of each slot in order, and the one before it by the newest one's ID."""
    slots: dict[tuple[str, Any], list[Mapping[str, Any]]] = {}
    for task in sorted(tasks, key=created, reverse=True):
        key = (task.get("ServiceID") or "", task.get("Slot") or task.get("NodeID") or "")
        slots.setdefault(key, []).append(task)
    ordered = [slots[key] for key in sorted(slots, key=lambda key: natural(f"{key[0]}.{key[1]}"))]
    shown = [found for found in ordered if not is_past(found[0])]
    return [found[0] for found in shown], {found[0]["ID"]: found[1] for found in shown if len(found) > 1}


def created(task: Mapping[str, Any]) -> float:
    return parse_time(task["CreatedAt"]).timestamp() if task.get("CreatedAt") else 0.0


def is_past(task: Mapping[str, Any]) -> bool:
    """It was told to end, and did: a slot that is no longer wanted."""
    return task.get("DesiredState") in ("shutdown", "remove") and state_of(task) in ("shutdown", "complete")


def state_of(task: Mapping[str, Any]) -> str:
    return str((task.get("Status") or {}).get("State") or "new")


def sentence(task: Mapping[str, Any], names: Names, now: datetime) -> str:
    """How a task is doing, without its name."""
    status = task.get("Status") or {}
    state, node = state_of(task), names.node(task)
    place = f" on {node}" if node else ", on no node yet" if state in WAITING else ""
    since = time_ago(status.get("Timestamp"), now)
    return f"{state}{place}{f' ({since})' if since else ''}{reason_of(status)}"


def reason_of(status: Mapping[str, Any]) -> str:
    message, error = str(status.get("Message") or ""), str(status.get("Err") or "")
    head, _, left_out = message.partition("; left out: ")
    if error:
        return f": {error}"
    if left_out:
        return f"; left out: {left_out}"
    return "" if head in USUAL or not head else f": {head}"


def grouped(sentences: Iterable[tuple[str, str]]) -> Iterator[str]:
    groups: dict[str, list[str]] = {}
    for text, name in sentences:
        groups.setdefault(text, []).append(name)
    for text, names in groups.items():
        more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
        yield f"  {', '.join(names[:NAMED])}{more}: {text}"


def last_attempts(
    newest: Iterable[Mapping[str, Any]], before: Mapping[str, Mapping[str, Any]], names: Names, now: datetime
) -> Iterator[str]:
    """What became of the task before, where the newest does not run and does not say it already."""
    told = []
    for task in newest:
        last = before.get(task["ID"])
        if last is None or state_of(task) == "running" or state_of(last) not in ENDED:
            continue
        error = str((last.get("Status") or {}).get("Err") or "")
        if error and error not in str((task.get("Status") or {}).get("Err") or ""):
            told.append((sentence(last, names, now), f"of {names.task(task)}"))
    yield from grouped(told)


def advice(lines: Iterable[str], name: str) -> list[str]:
    text = "\n".join(lines)
    return [hint.replace("SERVICE", name) for words, hint in ADVICE if words in text]


def gateway_says(status: Mapping[str, Any], service_id: str) -> list[str]:
    """What is wrong with a service's ports, routes and certificates, and which replicas get no requests."""
    lines: list[str] = []
    for service in status.get("services") or []:
        if service.get("id") != service_id:
            continue
        lines += [f"faulty: {service['fault']}"] if service.get("fault") else []
        lines += [f"gateway: {warning}" for warning in service.get("warnings") or []]
        for port in service.get("ports") or []:
            lines += [
                f"gateway: {endpoint.get('task_name') or endpoint.get('task_id')} gets no requests at "
                f"{port.get('published')}: {endpoint.get('verdict')}, {endpoint.get('reason')}"
                for endpoint in port.get("endpoints") or []
                if endpoint.get("verdict") in ("down", "ejected")
            ]
    return lines


def folded(text: str, width: int | None) -> str:
    """For a terminal of so many columns: what follows a line's first is set in."""
    if width is None or width < 40:
        return text
    return "".join(
        textwrap.fill(line, width, subsequent_indent=" " * (len(line) - len(line.lstrip()) + 4), break_on_hyphens=False)
        + "\n"
        for line in text.splitlines()
    )
