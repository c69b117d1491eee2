"""A faulty service's fault, as a task that clients are shown: no store holds it and no node gets it.

`docker service ps` reads nothing but tasks, so that is where its user learns why a service has none, or why those that
it has are no longer looked after. A faulty service has one such task in every list: it waits, in a slot where nothing
runs, with the fault as its error. Its id is made from the service's, so that it can be inspected.

Rejected: a task in the store (placement, dispatch and the update would each have to know that it is none), and the
fault as the error of tasks that run well.

Pure: the store in, tasks out.
"""

from essaim.cluster.service import Service
from essaim.cluster.store import Store
from essaim.cluster.task import Task, TaskStatus
from essaim.scheduler.tasks import task_spec

MARK = "0fault0"
"""What begins its id: those of real tasks are random, and 36**7 to one against."""


def of(service: Service, store: Store) -> Task:
    """The task that stands for the service's fault."""
    mode = service.spec.mode
    has_slots = mode is None or (mode.global_ is None and mode.global_job is None)
    status = TaskStatus(
        timestamp=service.updated_at, state="pending", message="pending task scheduling", err=service.fault
    )
    return Task(
        id=_id_of(service),
        version=service.version,
        created_at=service.updated_at,
        updated_at=service.updated_at,
        spec=task_spec(service.spec),
        service_id=service.id,
        service_name=service.spec.name or service.id,
        service_labels=service.spec.labels,
        slot=_free_slot(service, store) if has_slots else None,
        status=status,
        job_iteration=service.job_status.job_iteration if service.job_status else None,
        spec_version=service.spec_version,
    )


def by_id(reference: str, store: Store) -> Task | None:
    """The placeholder of that id, or with an id that begins so."""
    if not reference.startswith(MARK):
        return None
    for service in store.services:
        if service.fault and _id_of(service).startswith(reference):
            return of(service, store)
    return None


def _id_of(service: Service) -> str:
    return f"{MARK}{service.id}"[:25]


def _free_slot(service: Service, store: Store) -> int:
    """The lowest without a task that has not ended: a client would call that one the placeholder's past."""
    taken = {task.slot for task in store.tasks.by("service", service.id) if task.status.state in LIVING}
    return next(number for number in range(1, len(taken) + 2) if number not in taken)


LIVING = {"new", "pending", "assigned", "accepted", "preparing", "ready", "starting", "running"}
