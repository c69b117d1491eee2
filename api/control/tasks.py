"""Which tasks a list's filters select, which are up to date, and what they add up to for their service.

Pure: the store in, tasks and counts out.
"""

from essaim.api.query import Filters, any_prefix, labels_match
from essaim.cluster.errors import ClusterError
from essaim.cluster.service import Service, ServiceStatus
from essaim.cluster.store import Store
from essaim.cluster.task import Task, TaskState

from . import lookup, placeholder_tasks

FILTERS = {"_up-to-date", "desired-state", "id", "label", "name", "node", "runtime", "service"}
DESIRED = {"running", "shutdown", "accepted", "ready", "complete", "remove"}


def select(store: Store, filters: Filters) -> list[Task]:
    """Raises NotFound for an unknown service or node, ClusterError for an unknown desired state."""
    desired = filters.get("desired-state", [])
    for value in desired:
        if value not in DESIRED:
            raise ClusterError(f"Invalid desired-state filter: '{value}'")
    if not {"container"}.issuperset(filters.get("runtime", [])):
        return []
    ids, names, labels = filters.get("id", []), filters.get("name", []), filters.get("label", [])
    fresh = "true" in filters.get("_up-to-date", [])
    return [
        task
        for task in [*_candidates(store, filters), *_placeholders(store, filters)]
        if (not desired or task.desired_state in desired)
        and any_prefix([task.id], ids)
        and (not names or any_prefix([full_name(store, task)], names))
        and (not labels or labels_match(_labels(store, task), labels))
        and (not fresh or is_up_to_date(store, task))
    ]


def _candidates(store: Store, filters: Filters) -> list[Task]:
    """Through the indexes where a service or a node is named."""
    if "service" in filters:
        services = {lookup.service(store, s).id: None for s in filters["service"]}
        found = [task for service_id in services for task in store.tasks.by("service", service_id)]
        nodes = {lookup.node(store, n).id for n in filters.get("node", [])}
        return [t for t in found if not nodes or t.node_id in nodes]
    if "node" in filters:
        by_id = {lookup.node(store, n).id: None for n in filters["node"]}
        return [task for node_id in by_id for task in store.tasks.by("node", node_id)]
    return list(store.tasks)


def _placeholders(store: Store, filters: Filters) -> list[Task]:
    """Those of faulty services, where no node is named."""
    if "node" in filters:
        return []
    named = [lookup.service(store, s).id for s in filters.get("service", [])]
    found = [placeholder_tasks.of(service, store) for service in store.services if service.fault]
    return [task for task in found if not named or task.service_id in named]


def service_name(store: Store, task: Task) -> str:
    if task.service_name:
        return task.service_name
    service = store.services.get(task.service_id or "")
    return (service.spec.name if service else None) or task.service_id or ""


def full_name(store: Store, task: Task) -> str:
    """`web.1.id`, and for global services the node in place of the slot; containers are named so."""
    place = str(task.slot) if task.slot else task.node_id or ""
    return f"{service_name(store, task)}.{place}.{task.id}"


def _labels(store: Store, task: Task) -> dict[str, str] | None:
    """Of the task's service: they select tasks too."""
    if task.service_labels is not None:
        return task.service_labels
    service = store.services.get(task.service_id or "")
    return service.spec.labels if service else None


def is_up_to_date(store: Store, task: Task) -> bool:
    """The task was made from what its service says now."""
    service = store.services.get(task.service_id or "")
    if service is None:
        return False
    if service.job_status is not None and task.job_iteration is not None:
        return task.job_iteration == service.job_status.job_iteration
    if service.spec_version is not None and task.spec_version is not None:
        return task.spec_version == service.spec_version
    return task.spec == service.spec.task_template


def status(store: Store, service: Service) -> ServiceStatus:
    """How many tasks run, how many should, and how many of a job are done."""
    mode = service.spec.mode
    tasks = store.tasks.by("service", service.id)
    running = sum(t.state is TaskState.RUNNING and t.desired <= TaskState.COMPLETE for t in tasks)
    if mode is not None and (mode.replicated_job is not None or mode.global_job is not None):
        current = [t for t in tasks if is_up_to_date(store, t)]
        done = sum(t.state is TaskState.COMPLETE for t in current)
        if mode.replicated_job is not None:
            job = mode.replicated_job
            total = job.total_completions if job.total_completions is not None else job.max_concurrent
            wanted = job.max_concurrent if job.max_concurrent is not None else total
        else:
            # What is left to do: clients add what is done.
            wanted = sum(t.desired <= TaskState.COMPLETE and t.state is not TaskState.COMPLETE for t in current)
        return ServiceStatus(running_tasks=running, desired_tasks=1 if wanted is None else wanted, completed_tasks=done)
    if mode is not None and mode.global_ is not None:
        wanted = sum(t.desired is TaskState.RUNNING for t in tasks)
    else:
        replicas = mode.replicated.replicas if mode and mode.replicated else None
        wanted = 1 if replicas is None else replicas
    return ServiceStatus(running_tasks=running, desired_tasks=wanted, completed_tasks=0)
