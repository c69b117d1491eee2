"""From `GET /containers/{id}/json`, and from the list of containers, to a View.

Pure: no I/O, no clock.
"""

from typing import Any

from essaim.agent.runtime.interface import Health, Phase, View

from .port_bindings import endpoints

HEALTH = {"starting": Health.STARTING, "healthy": Health.HEALTHY, "unhealthy": Health.UNHEALTHY}


PHASES = {
    "created": Phase.CREATED, "running": Phase.RUNNING, "paused": Phase.RUNNING, "restarting": Phase.RUNNING,
}  # fmt: skip
"""By the Engine's word in a list; what is not named has ended."""
MARKS = {"(healthy)": Health.HEALTHY, "(unhealthy)": Health.UNHEALTHY, "(health: starting)": Health.STARTING}
GRACE = 10.0
"""Seconds, of a container that names none: the Engine's own."""


def grace_of(inspected: dict[str, Any]) -> float:
    """Seconds between the stop signal and the end."""
    timeout = (inspected.get("Config") or {}).get("StopTimeout")
    return GRACE if timeout is None else float(timeout)


def listed_view(entry: dict[str, Any]) -> View:
    """What an entry of `GET /containers/json` says: no ports, no exit code."""
    phase = PHASES.get(entry.get("State") or "", Phase.EXITED)
    marks = [health for mark, health in MARKS.items() if mark in (entry.get("Status") or "")]
    return View(phase, marks[0] if marks and phase is Phase.RUNNING else Health.NONE, container_id=entry["Id"])


def differs(entry: dict[str, Any], view: View) -> bool:
    """Whether an entry of the list says something else than what is known."""
    listed = listed_view(entry)
    if view.phase is Phase.EXITED and view.error and listed.phase is Phase.CREATED:
        return False  # it could not be started
    if listed.phase is not view.phase:
        return True
    return entry.get("State") == "running" and listed.health is not view.health


def view_of(inspected: dict[str, Any], data_addr: str) -> View:
    state = inspected["State"]
    health = HEALTH.get((state.get("Health") or {}).get("Status", ""), Health.NONE)
    container_id = inspected["Id"]
    if state.get("Running") or state.get("Paused") or state.get("Restarting"):
        found, host_ports = endpoints(inspected, data_addr)
        return View(
            Phase.RUNNING,
            health,
            container_id=container_id,
            pid=state.get("Pid"),
            endpoints=found,
            host_ports=host_ports,
        )
    if state.get("Status") == "created" and not state.get("Error"):
        return View(Phase.CREATED, container_id=container_id)
    error = state.get("Error") or ("out of memory: killed by the kernel" if state.get("OOMKilled") else "")
    return View(Phase.EXITED, exit_code=state.get("ExitCode", 0), error=error, container_id=container_id)
