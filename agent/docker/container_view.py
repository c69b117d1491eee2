"""From `GET /containers/{id}/json` to a View.

Pure: no I/O, no clock.
"""

from typing import Any

from essaim.agent.runtime import Health, Phase, View

from .port_bindings import endpoints

HEALTH = {"starting": Health.STARTING, "healthy": Health.HEALTHY, "unhealthy": Health.UNHEALTHY}


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
