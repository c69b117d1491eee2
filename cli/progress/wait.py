"""Waiting for what `depends_on` asks for before a dependent service is made."""

from essaim.api.client import ApiError, Client, encode_filters, path_of
from essaim.cli.app import App, CliError

from .tracker import Count, count_tasks, problem_of

POLL = 0.2
"""Seconds between two looks."""
MANY_FAILURES = 3
"""Tasks that must have failed before a completion is given up (restarts may still save the first ones)."""


async def wait_for(app: App, name: str, condition: str, *, required: bool) -> None:
    """Until the service has started, is healthy (all replicas run: an unhealthy one does not), or has completed.

    Raises CliError when it cannot complete and is `required`.
    """
    app.print(f"Waiting for service {name} ({condition.removeprefix('service_')})")
    client = await app.client()
    while True:
        count, failed, problem = await look(client, name)
        if condition == "service_completed_successfully":
            if count.done >= max(count.total, 1) and count.is_job:
                return
            if failed >= MANY_FAILURES:
                if required:
                    raise CliError(f"service {name} did not complete: {problem or 'its tasks failed'}")
                return
        elif count.is_complete:
            return
        await app.sleep(POLL)


async def look(client: Client, name: str) -> tuple[Count, int, str]:
    """(tasks that are where they should be, failed tasks, newest error)."""
    try:
        service = await client.get(path_of("services", name), {"insertDefaults": "false"})
    except ApiError as error:
        raise CliError(f"cannot wait for service {name}: {error}") from None
    tasks = await client.get("/tasks", {"filters": encode_filters({"service": [service["ID"]]})})
    nodes = await client.get("/nodes")
    active = frozenset(node["ID"] for node in nodes if (node.get("Status") or {}).get("State") != "down")
    failed = [task for task in tasks if (task.get("Status") or {}).get("State") in ("failed", "rejected")]
    completed = sum(1 for task in tasks if (task.get("Status") or {}).get("State") == "complete")
    count = count_tasks(service, tasks, active)
    if not count.is_job and completed:
        # A replicated service whose command ends (restart: no) has completed too.
        count = Count(completed, count.total, is_job=True)
    return count, len(failed), problem_of(failed)
