"""The Docker SDK for Python drives swarm, nodes, services, secrets, configs and networks unchanged."""

import asyncio
from collections.abc import Callable
from typing import Any, TypeVar

import docker
import pytest
from docker.errors import APIError, NotFound

from tests.api.conftest import Served

pytestmark = pytest.mark.blocking_allowed
T = TypeVar("T")


async def sdk(served: Served, work: Callable[[docker.DockerClient], T], version: str = "auto") -> T:
    """Run blocking calls of the SDK beside the server's loop."""

    def run() -> T:
        client = docker.DockerClient(base_url=f"unix://{served.socket}", version=version, timeout=30)
        try:
            return work(client)
        finally:
            client.close()

    return await asyncio.to_thread(run)


async def test_sdk_makes_changes_and_leaves_a_swarm(outside: Served) -> None:
    def work(client: docker.DockerClient) -> None:
        assert client.swarm.init(advertise_addr="127.0.0.1", snapshot_interval=5000, labels={"a": "b"})
        assert client.swarm.attrs["Spec"]["Raft"]["SnapshotInterval"] == 5000
        before = client.swarm.attrs["JoinTokens"]["Worker"]
        assert client.swarm.update(rotate_worker_token=True, snapshot_interval=7000, node_cert_expiry=7600000000000000)
        client.swarm.reload()
        assert client.swarm.attrs["JoinTokens"]["Worker"] != before
        assert client.swarm.attrs["Spec"]["Raft"]["SnapshotInterval"] == 7000
        assert client.swarm.attrs["Spec"]["Labels"] == {"a": "b"}
        assert client.swarm.get_unlock_key() == {"UnlockKey": ""}
        with pytest.raises(APIError) as refused:
            client.swarm.leave()
        assert refused.value.response.status_code == 503
        assert client.swarm.leave(force=True)
        with pytest.raises(APIError):
            client.swarm.reload()

    await sdk(outside, work)


async def test_sdk_reads_and_changes_nodes(served: Served) -> None:
    def work(client: docker.DockerClient) -> None:
        node = client.nodes.list(filters={"role": "manager"})[0]
        spec = {"Availability": "active", "Role": "manager", "Labels": {"foo": "bar"}}
        assert node.update(spec)
        node.reload()
        assert node.attrs["Spec"]["Labels"] == {"foo": "bar"}
        with pytest.raises(NotFound):
            client.api.remove_node("foobar01", force=True)
        with pytest.raises(APIError) as refused:
            client.api.remove_node(node.id, force=True)
        assert refused.value.response.status_code == 400

    await sdk(served, work)


async def test_sdk_manages_services_through_their_life(scheduled: Served) -> None:
    def create(client: docker.DockerClient) -> Any:
        return client.services.create(
            "busybox",
            ["sleep", "300"],
            name="web",
            labels={"foo": "bar"},
            container_labels={"container": "label"},
            env=["A=1"],
            mode=docker.types.ServiceMode("replicated", 2),
            update_config=docker.types.UpdateConfig(parallelism=10, delay=5, failure_action="continue"),
            rollback_config=docker.types.RollbackConfig(parallelism=10, delay=5, order="start-first"),
            resources=docker.types.Resources(cpu_limit=4000000, mem_limit=3 * 1024**3),
            endpoint_spec=docker.types.EndpointSpec(ports={8085: (80, "tcp", "host")}),
            constraints=["node.role==manager"],
            healthcheck=docker.types.Healthcheck(test="true", interval=10**9),
        ).id

    def work(client: docker.DockerClient) -> None:
        service = client.services.get(create(client))
        assert service.name == "web"
        assert service.attrs["Spec"]["Labels"] == {"foo": "bar"}
        template = service.attrs["Spec"]["TaskTemplate"]["ContainerSpec"]
        assert template["Labels"] == {"container": "label"}
        assert client.services.list(filters={"name": "we"}, status=True)[0].id == service.id
        assert client.services.list(filters={"label": "foo"})[0].id == service.id
        assert service.update(image="busybox:2", command=["sleep", "600"], fetch_current_spec=True)
        service.reload()
        assert service.attrs["Spec"]["TaskTemplate"]["ContainerSpec"]["Image"] == "busybox:2"
        assert service.attrs["Spec"]["TaskTemplate"]["ContainerSpec"]["Env"] == ["A=1"]
        assert service.scale(3)
        service.reload()
        assert service.attrs["Spec"]["Mode"] == {"Replicated": {"Replicas": 3}}
        assert service.force_update()
        assert service.remove()
        with pytest.raises(NotFound):
            client.services.get(service.id)

    await sdk(scheduled, work)


@pytest.mark.parametrize("mode", ["global", "replicated", "replicated-job", "global-job"])
async def test_sdk_makes_services_of_every_mode(served: Served, mode: str) -> None:
    def work(client: docker.DockerClient) -> Any:
        made = client.services.create("busybox", name="svc", mode=docker.types.ServiceMode(mode))
        return client.api.inspect_service(made.id)["Spec"]["Mode"]

    key = {"global": "Global", "replicated": "Replicated", "replicated-job": "ReplicatedJob", "global-job": "GlobalJob"}
    assert list(await sdk(served, work)) == [key[mode]]


async def test_sdk_lists_tasks_of_a_service(scheduled: Served) -> None:
    service_id = await scheduled.create("web", Mode={"Replicated": {"Replicas": 2}})
    manager = scheduled.node.manager
    assert manager is not None
    with manager.store.watch("tasks") as watch:
        while len(manager.store.tasks) < 2:
            await watch.next()
    tasks = await sdk(scheduled, lambda c: c.services.get(service_id).tasks({"desired-state": "running"}))
    assert {t["Slot"] for t in tasks} == {1, 2}
    task = tasks[0]["ID"]
    scheduled.node.logs[task] = [(1, b"hello\n")]
    logs = await sdk(scheduled, lambda c: b"".join(c.services.get(service_id).logs(stdout=True)))
    assert logs == b"hello\n"


async def test_sdk_keeps_secrets_and_configs(served: Served) -> None:
    def work(client: docker.DockerClient) -> None:
        secret = client.secrets.create(name="touhou", data=b"phantasm", labels={"lunatic": "true"})
        assert client.secrets.list(filters={"names": ["touhou"]})[0].id == secret.id
        assert client.secrets.get(secret.id).attrs["Spec"]["Labels"] == {"lunatic": "true"}
        config = client.configs.create(name="conf", data=b"text", templating={"name": "golang"})
        assert client.configs.get(config.id).attrs["Spec"]["Templating"] == {"Name": "golang"}
        reference = docker.types.SecretReference(secret.id, "touhou")
        service = client.services.create("busybox", name="svc", secrets=[reference])
        with pytest.raises(APIError):
            secret.remove()
        service.remove()
        assert secret.remove()
        assert config.remove()
        with pytest.raises(NotFound):
            client.secrets.get(secret.id)

    await sdk(served, work)


async def test_sdk_makes_overlay_networks(served: Served) -> None:
    def work(client: docker.DockerClient) -> None:
        pool = docker.types.IPAMPool(subnet="10.7.0.0/24", gateway="10.7.0.1")
        ipam = docker.types.IPAMConfig(pool_configs=[pool])
        network = client.networks.create("net", driver="overlay", ipam=ipam, labels={"a": "b"}, attachable=True)
        network.reload()
        assert network.attrs["IPAM"]["Config"] == [{"Subnet": "10.7.0.0/24", "Gateway": "10.7.0.1"}]
        assert client.networks.list(names=["net"])[0].id == network.id
        assert client.networks.list(ids=[network.id])[0].name == "net"
        with pytest.raises(APIError) as refused:
            client.networks.create("net", driver="overlay")
        assert refused.value.response.status_code == 409
        network.remove()
        with pytest.raises(NotFound):
            client.networks.get("net")

    await sdk(served, work)


@pytest.mark.parametrize("version", ["1.24", "1.30", "1.41"])
async def test_sdk_of_an_older_version_is_served(served: Served, version: str) -> None:
    await served.create("web")
    found = await sdk(served, lambda c: c.services.list(), version)
    assert found[0].name == "web"
