"""Creating, updating, rolling back and removing services.

The specification's version (see `Service`): one more than the store's version that the decision was made from, set
whenever new tasks are needed. The commit is guarded by the service's own version, so no two specifications share one.

Pure: the store and a request in, changes and a result out, or ClusterError in Docker's words.
"""

from datetime import datetime
from typing import Literal

import msgspec
from msgspec.structs import replace

from essaim.cluster.changes import Change, Delete, Expect, put
from essaim.cluster.ids import Chance, new_id
from essaim.cluster.service import (
    Endpoint,
    JobStatus,
    PortConfig,
    Service,
    ServiceMode,
    ServiceSpec,
    TaskSpec,
    UpdateStatus,
)
from essaim.cluster.shape import Version
from essaim.cluster.store import Store
from essaim.scheduler.orchestrate.rebalance import why_not
from essaim.scheduler.tasks import routed_ports

from . import lookup, ports, references, validate
from .errors import exists, precondition, unimplemented
from .names import random_name
from .normalise import stored
from .sequence import check_sequence
from .spec_labels import is_job


class Created(msgspec.Struct, rename={"id": "ID", "warnings": "Warnings"}, omit_defaults=True):
    id: str
    warnings: list[str] | None = None


class Updated(msgspec.Struct, rename={"warnings": "Warnings"}):
    warnings: list[str] | None = None


def create(
    store: Store, spec: ServiceSpec, *, now: datetime, chance: Chance, registry_auth: str = ""
) -> tuple[list[Change], Created]:
    if not spec.name:
        spec = replace(spec, name=random_name(chance, {s.spec.name for s in store.services}))
    validate.check(spec)
    spec = stored(references.resolve(store, spec))
    if lookup.is_taken(store.services, spec.name or ""):
        raise exists(f"name conflicts with an existing object: service {spec.name} already exists")
    service_id = new_id(chance)
    ports.check_free(store, spec, service_id)
    service = Service(
        id=service_id,
        spec=spec,
        endpoint=ports.endpoint(store, spec, service_id, None),
        spec_version=Version(index=store.version + 1),
        spec_after=Version(index=store.version),
        registry_auth=registry_auth or None,
        job_status=JobStatus(job_iteration=Version(index=0), last_execution=now) if is_job(spec.mode) else None,
    )
    return [put("services", service, new=True), *_guards(store, spec)], Created(service_id)


def update(
    store: Store,
    reference: str,
    version: int,
    spec: ServiceSpec,
    *,
    now: datetime,
    rollback: Literal["", "previous"] = "",
    registry_auth: str = "",
    auth_from: str = "spec",
) -> tuple[list[Change], Updated]:
    """With `rollback`, `spec` is ignored and the previous specification comes back. Without credentials of its own the
    request keeps those of the present specification, or of the previous one (`auth_from`: spec or previous-spec)."""
    service = lookup.service(store, reference)
    if rollback:
        return _roll_back(store, service, version, now), Updated()
    if spec.name and spec.name != service.spec.name:
        raise unimplemented("renaming services is not supported")
    validate.check(replace(spec, name=service.spec.name))
    spec = stored(references.resolve(store, replace(spec, name=service.spec.name)))
    check_sequence(service, version)
    if mode_name(spec.mode) != mode_name(service.spec.mode):
        raise unimplemented("service mode change is not allowed")
    ports.check_free(store, spec, service.id)
    fresh = needs_new_tasks(service.spec, spec)
    kept = service.previous_registry_auth if auth_from == "previous-spec" else service.registry_auth
    changed = replace(
        service,
        spec=spec,
        previous_spec=service.spec,
        spec_version=Version(index=store.version + 1) if fresh else service.spec_version,
        previous_spec_version=service.spec_version,
        spec_after=service.version,
        endpoint=_endpoint(store, spec, service),
        update_status=None,
        registry_auth=registry_auth or kept or None,
        previous_registry_auth=service.registry_auth,
        job_status=_next_job(service, spec, now, fresh=fresh),
    )
    return [put("services", changed), *_guards(store, spec)], Updated()


def _roll_back(store: Store, service: Service, version: int, now: datetime) -> list[Change]:
    check_sequence(service, version)
    if service.previous_spec is None:
        raise precondition(f"service {service.id} does not have a previous spec")
    spec = service.previous_spec
    ports.check_free(store, spec, service.id)
    status = UpdateStatus(state="rollback_started", started_at=now, message="manually requested rollback")
    restored = replace(
        service,
        spec=spec,
        previous_spec=service.spec,
        spec_version=service.previous_spec_version,
        previous_spec_version=service.spec_version,
        spec_after=service.version,
        endpoint=_endpoint(store, spec, service),
        update_status=status,
        registry_auth=service.previous_registry_auth,
        previous_registry_auth=service.registry_auth,
    )
    return [put("services", restored), *_guards(store, spec)]


def remove(store: Store, reference: str) -> list[Change]:
    """The service goes at once; the scheduler retires its tasks."""
    return [Delete("services", lookup.service(store, reference).id)]


def rebalance(store: Store, reference: str) -> list[Change]:
    """Ask the scheduler to spread the service's replicas anew; it takes the mark away when that is done."""
    service = lookup.service(store, reference)
    if reason := why_not(service):
        raise precondition(reason)
    return [] if service.rebalance else [put("services", replace(service, rebalance=True))]


def _endpoint(store: Store, spec: ServiceSpec, service: Service) -> Endpoint:
    made = ports.endpoint(store, spec, service.id, service.endpoint)
    return replace(made, virtual_ips=service.endpoint.virtual_ips if service.endpoint else None)


def _guards(store: Store, spec: ServiceSpec) -> list[Change]:
    """The change set falls if a secret or config that it uses changes or goes in the meantime."""
    container = spec.task_template.container_spec if spec.task_template else None
    if container is None:
        return []
    used = [store.secrets.get(r.secret_id or "") for r in container.secrets or []]
    also = [store.configs.get(r.config_id or "") for r in container.configs or []]
    return [
        *(Expect("secrets", s.id, s.version.index) for s in used if s),
        *(Expect("configs", c.id, c.version.index) for c in also if c),
    ]


def needs_new_tasks(old: ServiceSpec, new: ServiceSpec) -> bool:
    """Whether tasks of the old specification do not serve the new one."""
    return (
        (old.task_template or TaskSpec()) != (new.task_template or TaskSpec())
        or (old.networks or []) != (new.networks or [])
        or _exposed(old) != _exposed(new)
    )


def _exposed(spec: ServiceSpec) -> set[tuple[object, ...]]:
    """What a task must open: the published number matters to it only in host mode."""
    listed: list[PortConfig] = (spec.endpoint_spec.ports if spec.endpoint_spec else None) or []
    published = {
        (p.protocol, p.target_port, p.publish_mode, p.published_port if p.publish_mode == "host" else None)
        for p in listed
    }
    return published | {("tcp", port, "ingress", None) for port in routed_ports(spec.labels, spec.name or "")}


def mode_name(mode: ServiceMode | None) -> str:
    """replicated, global, replicated-job or global-job."""
    if mode is None:
        return "replicated"
    if mode.global_ is not None:
        return "global"
    if mode.replicated_job is not None:
        return "replicated-job"
    return "global-job" if mode.global_job is not None else "replicated"


def _next_job(service: Service, spec: ServiceSpec, now: datetime, *, fresh: bool) -> JobStatus | None:
    """A job runs anew when its specification asks for new tasks or another number of them."""
    if not is_job(spec.mode) or service.job_status is None:
        return service.job_status
    if not fresh and spec.mode == service.spec.mode:
        return service.job_status
    iteration = service.job_status.job_iteration.index + 1
    return JobStatus(job_iteration=Version(index=iteration), last_execution=now)
