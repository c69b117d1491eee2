"""A task's networks as clients of Docker's API look for them (Traefik finds replicas so)."""

from essaim.cluster.changes import put
from essaim.cluster.ids import new_id
from essaim.cluster.service import TaskSpec
from essaim.cluster.task import NetworkAttachment, Task, TaskStatus
from tests.api.conftest import Served


async def on_network(served: Served, network_id: str) -> str:
    """A running task with an address there; its id."""
    task_id, manager = new_id(served.node.chance), served.node.manager
    assert manager is not None
    attached = [NetworkAttachment(network_id=network_id, addresses=["10.0.1.5/24"])]
    status = TaskStatus(state="running")
    task = Task(id=task_id, spec=TaskSpec(), service_name="web", networks_attachments=attached, status=status)
    await manager.writer.commit([put("tasks", task, new=True)])
    return task_id


async def test_task_shows_its_network_whole_and_its_address_on_it(served: Served) -> None:
    network_id = (await served.call("POST", "/networks/create", {"Name": "inside", "Driver": "overlay"}, 201))["Id"]
    task_id = await on_network(served, network_id)
    [listed] = await served.call("GET", "/v1.30/tasks")
    for shown in (listed, await served.call("GET", f"/tasks/{task_id}")):
        [attached] = shown["NetworksAttachments"]
        assert attached["Addresses"] == ["10.0.1.5/24"]
        assert attached["Network"]["ID"] == network_id
        assert attached["Network"]["Spec"]["Name"] == "inside"
        assert attached["Network"]["Spec"]["Scope"] == "swarm"
        assert set(attached) == {"Network", "Addresses"}
    manager = served.node.manager
    assert manager is not None
    stored = manager.store.tasks.get(task_id)
    assert stored is not None
    assert stored.networks_attachments == [NetworkAttachment(network_id=network_id, addresses=["10.0.1.5/24"])]


async def test_network_that_has_gone_is_named_still(served: Served) -> None:
    task_id = await on_network(served, "gone")
    shown = await served.call("GET", f"/tasks/{task_id}")
    assert shown["NetworksAttachments"] == [{"Network": {"ID": "gone"}, "Addresses": ["10.0.1.5/24"]}]
