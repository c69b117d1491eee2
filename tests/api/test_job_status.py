"""What `service ls` says of jobs: clients print `running/desired (completed/completed + desired)` for global ones."""

from datetime import UTC, datetime

import pytest

from essaim.api.control.tasks import status
from essaim.cluster import changes
from essaim.cluster.changes import ChangeSet, put
from essaim.cluster.service import (
    Empty,
    JobStatus,
    ReplicatedJob,
    Service,
    ServiceMode,
    ServiceSpec,
    ServiceStatus,
    TaskSpec,
)
from essaim.cluster.shape import Version
from essaim.cluster.store import Store
from essaim.cluster.task import Task, TaskStatus

NOW = Version(index=7)


@pytest.mark.parametrize(
    ("mode", "states", "expected"),
    [
        (ServiceMode(global_job=Empty()), ["complete", "complete", "complete"], (0, 0, 3)),
        (ServiceMode(global_job=Empty()), ["complete", "running", "preparing"], (1, 2, 1)),
        (ServiceMode(replicated_job=ReplicatedJob(max_concurrent=2, total_completions=5)), ["complete"], (0, 2, 1)),
    ],
)
def test_status_of_a_job_counts_what_runs_what_is_left_and_what_is_done(
    mode: ServiceMode, states: list[str], expected: tuple[int, int, int]
) -> None:
    store = Store()
    service = Service(id="s", spec=ServiceSpec(name="job", mode=mode), job_status=JobStatus(job_iteration=NOW))
    tasks = [
        Task(
            id=f"t{number}", service_id="s", spec=TaskSpec(), status=TaskStatus(state=state),
            desired_state="complete", job_iteration=NOW,
        )
        for number, state in enumerate(states)
    ]  # fmt: skip
    first = [put("services", service, new=True), *(put("tasks", task, new=True) for task in tasks)]
    assert store.apply(1, changes.encode(ChangeSet(first, datetime.now(UTC)))).ok
    running, desired, completed = expected
    assert status(store, service) == ServiceStatus(
        running_tasks=running, desired_tasks=desired, completed_tasks=completed
    )
