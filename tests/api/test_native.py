"""The native API answers as its own description says."""

from typing import Any

import jsonschema
from prometheus_client.parser import text_string_to_metric_families

from essaim.api.node import Manager
from essaim.raft.interface import Leadership
from tests.api.conftest import Served

NATIVE = "/essaim/v1"


async def check(served: Served, path: str, status: int = 200) -> Any:
    """Fetch it and hold the answer against the description's schema for this status."""
    document = await served.call("GET", f"{NATIVE}/openapi.json")
    template = "/essaim/v1/lb/config/{target}" if "/lb/config/" in path else path
    if template not in document["paths"]:
        template = template.rpartition("/")[0] + "/{id}"
    described = document["paths"][template]["get"]["responses"][str(status)]["content"]
    async with served.client.get("http://essaim" + path) as reply:
        assert reply.status == status
        (content_type,) = described
        assert reply.content_type == content_type
        value = await reply.json() if content_type == "application/json" else await reply.text()
    schema = described[content_type]["schema"] | {"components": document["components"]}
    jsonschema.validate(value, schema)
    return value


async def test_every_path_answers_as_described(served: Served) -> None:
    document = await served.call("GET", f"{NATIVE}/openapi.json?pretty=1")
    for template, operations in document["paths"].items():
        if "get" not in operations:
            continue
        if "{id}" not in template:
            await check(served, template.replace("{target}", "haproxy"))
    assert (await check(served, f"{NATIVE}/routes"))["Version"] == 7
    assert await check(served, f"{NATIVE}/lb/config/haproxy") == "global \n"
    assert await check(served, f"{NATIVE}/lb/config/haproxy?bind=2001:DB8::1") == "global 2001:db8::1\n"
    message = (await check(served, f"{NATIVE}/lb/config/haproxy?bind=here", 400))["message"]
    assert message == 'invalid bind "here": an IP address is expected'
    message = (await check(served, f"{NATIVE}/lb/config/nosuch", 404))["message"]
    assert "known: haproxy" in message


async def test_every_route_is_described_and_every_description_served(served: Served) -> None:
    document = await served.call("GET", f"{NATIVE}/openapi.json")
    routes = {r.resource.canonical for r in served.app.router.routes() if r.resource is not None}
    assert {r for r in routes if r.startswith(NATIVE)} == set(document["paths"])


async def test_health_fails_without_a_leader_and_when_locked(served: Served) -> None:
    assert (await check(served, f"{NATIVE}/health"))["Leader"] is True
    manager = served.node.manager
    assert manager is not None
    lost = Leadership(term=2, leader_id=0, leader_address="", is_local=False)
    served.node.manager = Manager(manager.store, manager.writer, lost, {})
    assert (await check(served, f"{NATIVE}/health", 503))["Reason"] == "no leader is known"
    served.node.swarm_state, served.node.error, served.node.manager = "error", "the disk is full", None
    assert (await check(served, f"{NATIVE}/health", 503))["Reason"] == "the disk is full"


async def test_metrics_count_what_is_in_the_store(served: Served) -> None:
    await served.create("web")
    await served.node.add_worker("wk")
    families = {f.name: f for f in text_string_to_metric_families(await check(served, f"{NATIVE}/metrics"))}
    assert families["essaim_services"].samples[0].value == 1
    assert families["essaim_leader"].samples[0].value == 1
    nodes = {s.labels["role"]: s.value for s in families["essaim_nodes"].samples}
    assert nodes == {"manager": 1, "worker": 1}
    assert families["essaim_service_tasks_running"].samples[0].labels == {"service": "web"}
    assert "essaim_gateway_fake" in families


async def test_metrics_of_a_worker_say_that_it_is_one(outside: Served) -> None:
    outside.node.become_worker()
    families = {f.name: f for f in text_string_to_metric_families(await check(outside, f"{NATIVE}/metrics"))}
    assert families["essaim_node_active"].samples[0].value == 1
    assert families["essaim_node_manager"].samples[0].value == 0
    assert "essaim_services" not in families


async def test_rebalance_marks_the_service_or_says_why_it_cannot(served: Served) -> None:
    path = f"{NATIVE}/services/web/rebalance"
    assert (await served.error("POST", path))[0] == 404
    service_id = await served.create("web")
    assert await served.call_raw("POST", path, None) == 202
    assert await served.call_raw("POST", path, None) == 202
    manager = served.node.manager
    assert manager is not None
    stored = manager.store.services.get(service_id)
    assert stored is not None
    assert stored.rebalance is True
    await served.create("all", Mode={"Global": {}})
    status, message = await served.error("POST", f"{NATIVE}/services/all/rebalance")
    assert status == 400
    assert "only replicated services can be rebalanced" in message


async def test_schedule_that_cannot_be_kept_is_refused_at_creation(served: Served) -> None:
    job = {"Mode": {"ReplicatedJob": {}}}
    template = {"TaskTemplate": {"ContainerSpec": {"Image": "essaim/whoami"}}}
    for labels, mode, words in (
        ({"essaim.schedule": "@daily"}, {}, "only jobs can be scheduled"),
        ({"essaim.schedule": "at noon"}, job, "invalid schedule 'at noon'"),
    ):
        body = {"Name": "backup", "Labels": labels, **template, **mode}
        status, message = await served.error("POST", "/services/create", body)
        assert status == 400
        assert words in message
    await served.create("backup", Labels={"essaim.schedule": "0 3 * * *"}, **job)
