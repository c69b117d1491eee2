"""One service's specification, whatever is in it, stops no decision about others: every loop is run beside it."""

from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from essaim.certificates.book.book import BookMaker
from essaim.cluster import wire
from essaim.cluster.objects import Network, NetworkSpec
from essaim.cluster.service import (
    DiscreteResource,
    GenericResource,
    JobStatus,
    NetworkAttachmentConfig,
    Placement,
    Replicated,
    ReplicatedJob,
    ResourceRequirements,
    Resources,
    Service,
    ServiceMode,
    ServiceSpec,
)
from essaim.cluster.shape import NO_VERSION, Version
from essaim.cluster.task import TaskState
from essaim.scheduler.dispatch.assignments import Told
from essaim.scheduler.dispatch.overlays import overlays
from essaim.scheduler.traffic.traffic import Traffic
from tests.scheduler.hostile import hostile, labels, specs
from tests.scheduler.world import LONG, World, image_of, replicated, with_image

JOB = ServiceMode(replicated_job=ReplicatedJob(total_completions=1))
CERTIFICATE = {"traefik.http.routers.w.rule": "Host(`w.example`)", "traefik.http.routers.w.tls.certresolver": "le"}


class Neighbourhood:
    """A cluster with healthy services of every kind, and whatever a test puts beside them."""

    def __init__(self) -> None:
        self.world = world = World()
        world.ends = lambda task: "complete" if (task.service_id or "").startswith("svc-job") else None
        world.add_nodes(2)
        subnet = {"Config": [{"Subnet": "10.0.1.0/24"}]}
        world.put("networks", Network(id="net", spec=NetworkSpec(name="net", driver="overlay", ipam=subnet)))
        fields = {"networks": [NetworkAttachmentConfig(target="net")]}
        self.web = world.add_service(replicated("web", 2, ports=[(8080, 80)], labels=CERTIFICATE, task_fields=fields))
        schedule = {"essaim.schedule": "* * * * *"}
        status = JobStatus(job_iteration=NO_VERSION, last_execution=world.now)
        spec = replicated("job", 1, mode=JOB, labels=schedule, task_fields={})
        self.job = world.add_service(spec, job_status=status)
        self.traffic = Traffic(world.store, world.faults)
        self.traffic.look_at_everything(0)

    def add(self, service: Service) -> None:
        self.world.put("services", service)

    def live(self) -> None:
        """Two minutes, in which the healthy service is updated too."""
        world = self.world
        watch = world.store.watch("services", "tasks", "nodes", limit=1_000_000)
        with watch:
            world.pass_time(70, step=10)
            world.update_service(self.web.id, with_image(world.service(self.web.id).spec, "web:2"))
            world.pass_time(70, step=10)
            self.traffic.observe(watch.drain(), 0)
        self.traffic.publish()

    def check(self) -> None:
        world = self.world
        running = world.running(self.web.id)
        assert [image_of(task) for task in running] == ["web:2", "web:2"]
        assert all(task.networks_attachments for task in running)
        done = [t for t in world.tasks(self.job.id) if t.state == TaskState.COMPLETE]
        assert len(done) >= 2, "the scheduled job did not run each minute"
        encoded = self.traffic.history.since(None)
        assert encoded is not None
        message = wire.decode_to_agent(encoded[1])
        assert isinstance(message, wire.Routes)
        routed = {s.id: s for s in message.table.services}
        assert len(routed[self.web.id].ports[0].endpoints) == 2
        assert routed[self.web.id].fault is None
        tables = overlays(world.store)
        assert all("web" in tables[task.node_id or ""][0].names for task in running)
        told = [t.id for n in ("n1", "n2") for t in Told(n).full(world.store, lambda _: False).tasks]
        assert {task.id for task in running} <= set(told)
        book = BookMaker().make(world.store, world.now.timestamp())
        problems = [p for p in book.problems if p.service == "web"]
        assert any("'le'" in p.text for p in problems), "nobody asks for its certificate"


def beside(service: Service) -> Neighbourhood:
    neighbourhood = Neighbourhood()
    neighbourhood.add(service)
    neighbourhood.live()
    neighbourhood.check()
    return neighbourhood


def spec_with(**fields: Any) -> ServiceSpec:
    return msgspec.structs.replace(replicated("bad", 1), **fields)


KNOWN = [
    spec_with(labels={"traefik.http.services.x.loadbalancer.server.port": "²"}),
    spec_with(labels={"essaim.schedule": "* * * * *", "essaim.schedule.deadline": "20000000h"}, mode=JOB),
    spec_with(labels={"essaim.schedule": "* * * * *", "essaim.schedule.deadline": "9" * 400 + "h"}, mode=JOB),
    spec_with(labels={f"traefik.http.routers.w.tls.domains[{'9' * 5000}].main": "x", **CERTIFICATE}),
    spec_with(mode=ServiceMode(replicated=Replicated(replicas=(1 << 63) - 1))),
    spec_with(mode=ServiceMode(replicated_job=ReplicatedJob(total_completions=(1 << 63) - 1))),
    replicated(
        "bad",
        1,
        task_fields={
            "resources": ResourceRequirements(
                reservations=Resources(
                    generic_resources=[
                        GenericResource(discrete_resource_spec=DiscreteResource(kind="{x!r}", value=1)),
                    ]
                )
            ),
            "placement": Placement(constraints=["node.labels.{a}=={0}"]),
        },
    ),
]


@pytest.mark.parametrize("spec", KNOWN, ids=range(len(KNOWN)))
def test_loops_beside_a_known_poison_serve_the_others(spec: ServiceSpec) -> None:
    beside(Service(id="bad", spec=spec, spec_version=Version(index=1)))


@settings(
    max_examples=3000 if LONG else 60,
    derandomize=not LONG,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
@given(spec=specs, more=labels, shaped=st.booleans())
@example(spec=ServiceSpec(), more={}, shaped=False)
def test_loops_beside_any_specification_serve_the_others(spec: ServiceSpec, more: dict[str, str], shaped: bool) -> None:
    if shaped:  # as a whole service that is hostile in a few places
        plain = replicated("bad", 1)
        given_fields = {f: getattr(spec, f) for f in spec.__struct_fields__ if getattr(spec, f) is not None}
        spec = msgspec.structs.replace(plain, **given_fields)
    spec = msgspec.structs.replace(spec, name="bad", labels={**(spec.labels or {}), **more})
    beside(Service(id="bad", spec=spec, spec_version=Version(index=1)))


@settings(
    max_examples=2000 if LONG else 40, derandomize=not LONG, deadline=None, suppress_health_check=list(HealthCheck)
)
@given(service=hostile(Service))
def test_loops_beside_any_stored_service_serve_the_others(service: Service) -> None:
    spec = msgspec.structs.replace(service.spec, name="bad")
    beside(msgspec.structs.replace(service, id="bad", spec=spec))
