"""Specifications with anything in any field, over HTTP: refused or taken, never an internal error; the others go on."""

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings

from essaim.api.context import API
from essaim.cluster.changes import put
from essaim.cluster.service import ServiceSpec
from essaim.cluster.task import TaskState
from essaim.scheduler.dispatch.dispatcher import Dispatcher
from essaim.scheduler.leader import Leader
from tests.api.conftest import Served
from tests.api.fakes import utc_now
from tests.scheduler.agents import Quiet, SimulatedAgent, until
from tests.scheduler.hostile import labels, specs
from tests.scheduler.world import LONG, replicated

AS_AN_ENGINE = ("network ", "rpc error: code = Un")
"""An Engine answers 500 or 501 with these words of its own: an unknown network, a bad constraint."""
COUNT = 3000 if LONG else 60


class Recorder:
    """Stands for the daemon's log; what is logged as an error is a bug found."""

    def __init__(self) -> None:
        self.failures: list[dict[str, Any]] = []

    def error(self, event: str, **fields: Any) -> None:
        self.failures.append(fields)

    def warning(self, event: str, **fields: Any) -> None:
        return


def collected() -> list[bytes]:
    """Bodies of requests: wholly hostile ones, and sound ones that are hostile in some fields or labels."""
    found: list[bytes] = []

    @settings(max_examples=COUNT, derandomize=not LONG, database=None, suppress_health_check=list(HealthCheck))
    @given(spec=specs, more=labels)
    def collect(spec: ServiceSpec, more: dict[str, str]) -> None:
        sound = replicated(f"s{len(found)}", 1)
        for name in spec.__struct_fields__:
            value = getattr(spec, name)
            if value is not None and name not in ("name", "task_template"):
                found.append(msgspec.json.encode(msgspec.structs.replace(sound, **{name: value})))
        named = msgspec.structs.replace(sound, labels=more)
        found.extend((msgspec.json.encode(spec), msgspec.json.encode(named)))
        if spec.task_template is not None:
            for name in spec.task_template.__struct_fields__:
                if (value := getattr(spec.task_template, name)) is not None:
                    task = msgspec.structs.replace(sound.task_template, **{name: value})
                    found.append(msgspec.json.encode(msgspec.structs.replace(sound, task_template=task)))

    collect()
    return found


@pytest.fixture
async def led(served: Served) -> AsyncIterator[tuple[Served, Quiet]]:
    """The API of a manager that leads with the real loops."""
    manager = served.node.manager
    assert manager is not None
    quiet = Quiet()
    dispatcher = Dispatcher(
        manager.store,
        manager.writer,
        time.monotonic,
        quiet,
        leader_address=lambda: "127.0.0.1:2377",
        manager_addresses=lambda: ["127.0.0.1:2377"],
    )
    leader = Leader(manager.store, manager.writer, dispatcher, served.node.chance, utc_now, time.monotonic, quiet)
    await leader.start()
    async with SimulatedAgent(served.node.node_id, dispatcher):
        yield served, quiet
    await leader.stop()


@pytest.mark.timeout(1200 if LONG else 60)
async def test_api_takes_or_refuses_any_specification_and_the_leader_goes_on(led: tuple[Served, Quiet]) -> None:
    served, quiet = led
    recorder = Recorder()
    served.app[API].log = recorder
    manager = served.node.manager
    assert manager is not None
    statuses: dict[int, int] = {}
    for body in await asyncio.to_thread(collected):
        headers = {"Content-Type": "application/json"}
        async with served.client.post("http://essaim/services/create", data=body, headers=headers) as reply:
            answer = await reply.json()
            statuses[reply.status] = statuses.get(reply.status, 0) + 1
            refused = reply.status < 500 or answer["message"].startswith(AS_AN_ENGINE)
            assert refused, (body[:500], answer)
            if reply.status == 201:
                await served.call("GET", "/tasks")
                assert await served.call("GET", f"/services/{answer['ID']}")
                await served.call("DELETE", f"/services/{answer['ID']}")
            else:
                assert answer["message"]
    assert statuses[201] > 10
    assert statuses[400] > 10
    healthy = await served.create("healthy")
    await until(lambda: [t.state for t in manager.store.tasks.by("service", healthy)] == [TaskState.RUNNING])
    assert recorder.failures == []
    assert quiet.errors == []


LABELS = {
    "essaim.drain": "99999999999999h",
    "essaim.placement.strategy": "anywhere",
    "essaim.port.٨٠.protocol": "http",
    "essaim.port.80.protocol": "gopher",
}


@pytest.mark.parametrize("label", LABELS)
async def test_api_refuses_a_label_that_can_mean_nothing(served: Served, label: str) -> None:
    body = {"Name": "a", "Labels": {label: LABELS[label]}, "TaskTemplate": {"ContainerSpec": {"Image": "a:1"}}}
    status, message = await served.error("POST", "/services/create", body)
    assert status == 400
    assert label in message


async def test_api_takes_a_label_of_traefik_that_means_no_port_and_the_leader_goes_on(
    led: tuple[Served, Quiet],
) -> None:
    served, quiet = led
    manager = served.node.manager
    assert manager is not None
    label = {"traefik.http.services.x.loadbalancer.server.port": "²"}
    both = [await served.create("bad", Labels=label), await served.create("good")]
    for service_id in both:
        await until(lambda s=service_id: [t.state for t in manager.store.tasks.by("service", s)] == [TaskState.RUNNING])
    assert quiet.errors == []


JOB = {"ReplicatedJob": {"TotalCompletions": 1}}


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        (
            {"Labels": {"essaim.schedule": "* * * * *", "essaim.schedule.deadline": "20000000h"}, "Mode": JOB},
            "a year at most",
        ),
        ({"Mode": {"Replicated": {"Replicas": 1 << 62}}}, "200000 at most"),
        ({"Mode": {"ReplicatedJob": {"TotalCompletions": 1 << 62}}}, "200000 at most"),
        ({"Labels": {"a\0b": "c"}}, "NUL"),
        ({"Labels": {"a": "b\0"}}, "Labels.a holds a NUL byte"),
        ({"TaskTemplate": {"ContainerSpec": {"Image": "a:1", "Env": ["A=\0"]}}}, "TaskTemplate.ContainerSpec.Env"),
        ({"TaskTemplate": {"ContainerSpec": {"Image": "a:١"}}}, "not a valid repository/tag"),
        ({"TaskTemplate": {"ContainerSpec": {"Image": "a"}, "Placement": {"MaxReplicas": -1}}}, "cannot be negative"),
        (
            {
                "TaskTemplate": {
                    "ContainerSpec": {"Image": "a"},
                    "Resources": {
                        "Reservations": {"GenericResources": [{"DiscreteResourceSpec": {"Kind": "g", "Value": -1}}]}
                    },
                }
            },
            "cannot be negative",
        ),
    ],
)
async def test_api_refuses_what_no_decision_can_be_made_about(served: Served, spec: Any, words: str) -> None:
    body = {"Name": "a", "TaskTemplate": {"ContainerSpec": {"Image": "a:1"}}, **spec}
    status, message = await served.error("POST", "/services/create", body)
    assert status == 400
    assert words in message


@pytest.mark.parametrize("path", ["/v1.²/services", "/v١.43/services", "/services/a/logs?stdout=1&tail=²"])
async def test_api_takes_no_digits_of_other_scripts_for_numbers(served: Served, path: str) -> None:
    status, message = await served.error("GET", path)
    assert 400 <= status < 500
    assert message


async def test_api_shows_a_faulty_service_in_its_tasks(served: Served) -> None:
    manager = served.node.manager
    assert manager is not None
    service_id = await served.create("bad")
    service = manager.store.services.get(service_id)
    assert service is not None
    await manager.writer.commit([put("services", msgspec.structs.replace(service, fault="it cannot be placed: why"))])
    (shown,) = await served.call("GET", '/tasks?filters={"service":["bad"]}')
    assert shown["Status"]["Err"] == "it cannot be placed: why"
    assert shown["Slot"] == 1
    assert (await served.call("GET", f"/tasks/{shown['ID']}"))["ServiceID"] == service_id
    assert (await served.call("GET", f"/services/{service_id}"))["Fault"] == "it cannot be placed: why"
