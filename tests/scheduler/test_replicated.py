"""Replicated services through the real loops: creation, scale, failures, lost nodes, removal."""

import msgspec
from msgspec.structs import replace

from essaim.cluster.container import DriverSpec
from essaim.cluster.service import RestartPolicy
from essaim.cluster.swarm import OrchestrationConfig, TaskDefaults, default_spec
from essaim.cluster.task import TaskState
from tests.scheduler.world import World, image_of, replicated, with_image, with_replicas


def test_service_created_runs_its_replicas_evenly() -> None:
    world = World()
    world.add_nodes(3)
    service = world.add_service(replicated("web", 6))
    world.settle()
    assert world.per_node(service.id) == {"n1": 2, "n2": 2, "n3": 2}
    assert sorted(t.slot or 0 for t in world.running(service.id)) == [1, 2, 3, 4, 5, 6]
    task = world.running(service.id)[0]
    assert task.name == f"web.{task.slot}.{task.id}"


def test_service_with_ports_waits_for_their_allocation() -> None:
    world = World()
    world.add_nodes(1)
    service = world.add_service(replicated("web", 1, ports=[(0, 80), (4000, 81)]))
    world.settle()
    stored = world.service(service.id)
    assert stored.endpoint is not None
    assert [p.published_port for p in stored.endpoint.ports or []] == [30000, 4000]
    assert len(world.running(service.id)) == 1


def test_tasks_have_the_clusters_log_driver_of_the_time_when_they_were_made() -> None:
    """As in Swarm: who changes it replaces no task."""
    world = World()
    world.add_nodes(1)
    service = world.add_service(replicated("web", 1))
    world.settle()
    cluster = world.store.cluster
    assert cluster is not None
    driver = DriverSpec(name="journald", options={"tag": "x"})
    world.put("clusters", replace(cluster, spec=replace(cluster.spec, task_defaults=TaskDefaults(log_driver=driver))))
    world.settle()
    world.update_service(service.id, with_replicas(service.spec, 2))
    world.settle()
    assert [task.log_driver for task in world.running(service.id)] == [None, driver]


def test_scale_up_and_down_keeps_the_spread() -> None:
    world = World()
    world.add_nodes(3)
    service = world.add_service(replicated("web", 3))
    world.settle()
    world.update_service(service.id, with_replicas(service.spec, 9))
    world.settle()
    before = {t.id for t in world.running(service.id)}
    assert world.per_node(service.id) == {"n1": 3, "n2": 3, "n3": 3}
    world.update_service(service.id, with_replicas(service.spec, 3))
    world.settle()
    assert world.per_node(service.id) == {"n1": 1, "n2": 1, "n3": 1}
    assert {t.id for t in world.tasks(service.id)} < before


def test_scale_to_zero_leaves_nothing() -> None:
    world = World()
    world.add_nodes(2)
    service = world.add_service(replicated("web", 4))
    world.settle()
    world.update_service(service.id, with_replicas(service.spec, 0))
    world.settle()
    assert world.tasks(service.id) == []


def test_failed_task_is_replaced_after_the_delay() -> None:
    world = World()
    world.add_nodes(1)
    world.ends = lambda task: "failed"
    spec = replicated("web", 1, task_fields={"restart_policy": RestartPolicy(delay=7_000_000_000)})
    service = world.add_service(spec)
    world.settle()
    failed = next(t for t in world.tasks(service.id) if t.state == TaskState.FAILED)
    waiting = world.live(service.id)[0]
    assert waiting.desired == TaskState.READY
    assert waiting.state == TaskState.READY
    world.ends = lambda task: None
    world.pass_time(6)
    assert world.running(service.id) == []
    world.pass_time(2)
    assert [t.id for t in world.running(service.id)] == [waiting.id]
    assert failed.slot == waiting.slot


def test_condition_none_leaves_the_slot_as_it_is() -> None:
    world = World()
    world.add_nodes(1)
    world.ends = lambda task: "complete"
    service = world.add_service(replicated("once", 2, task_fields={"restart_policy": RestartPolicy(condition="none")}))
    world.pass_time(30)
    assert [t.state for t in world.tasks(service.id)] == [TaskState.COMPLETE] * 2


def test_max_attempts_ends_the_restarts() -> None:
    world = World()
    world.add_nodes(1)
    world.ends = lambda task: "failed"
    policy = RestartPolicy(condition="on-failure", delay=1_000_000_000, max_attempts=3)
    service = world.add_service(replicated("web", 1, task_fields={"restart_policy": policy}))
    world.pass_time(200, step=5)
    assert [t.state for t in world.tasks(service.id)] == [TaskState.FAILED] * 4


def test_history_is_cut_to_the_limit() -> None:
    world = World()
    world.add_nodes(1)
    world.ends = lambda task: "failed"
    service = world.add_service(replicated("web", 1, task_fields={"restart_policy": RestartPolicy(delay=0)}))
    world.pass_time(600, step=30)
    assert 5 <= sum(t.is_terminal for t in world.tasks(service.id)) <= 6


def test_history_of_a_negative_limit_is_kept_for_ever() -> None:
    world = World()
    world.add_nodes(1)
    world.ends = lambda task: "failed"
    spec = replace(default_spec(), orchestration=OrchestrationConfig(task_history_retention_limit=-1))
    assert world.store.cluster
    world.put("clusters", replace(world.store.cluster, spec=spec))
    service = world.add_service(replicated("web", 1, task_fields={"restart_policy": RestartPolicy(delay=0)}))
    world.pass_time(600, step=30)
    assert sum(t.is_terminal for t in world.tasks(service.id)) > 8


def test_crash_loop_backs_off() -> None:
    world = World()
    world.add_nodes(1)
    starts: list[str] = []

    def fail(task: object) -> str:
        starts.append("x")
        return "failed"

    world.ends = fail
    world.add_service(replicated("web", 1, task_fields={"restart_policy": RestartPolicy(delay=1_000_000_000)}))
    world.pass_time(600, step=1)
    assert 10 < len(starts) < 25


def test_lost_node_has_its_replicas_elsewhere_and_loses_them_on_return() -> None:
    world = World()
    world.add_nodes(3)
    service = world.add_service(replicated("web", 6))
    world.settle()
    kept = {t.id for t in world.running(service.id) if t.node_id != "n3"}
    world.node_down("n3")
    world.settle()
    assert world.per_node(service.id) == {"n1": 3, "n2": 3}
    assert {t.state for t in world.tasks(service.id) if t.node_id == "n3"} == {TaskState.ORPHANED}
    world.node_back("n3")
    world.settle()
    assert world.per_node(service.id) == {"n1": 3, "n2": 3}
    assert kept <= {t.id for t in world.running(service.id)}


def test_node_back_before_a_replacement_was_placed_keeps_its_task() -> None:
    world = World()
    world.add_nodes(1)
    service = world.add_service(replicated("web", 2))
    world.settle()
    before = {t.id for t in world.running(service.id)}
    world.node_down("n1")
    world.settle()
    assert len(world.live(service.id)) == 4
    assert all("not ready" in (t.status.err or "") for t in world.live(service.id) if t.node_id is None)
    world.node_back("n1")
    world.settle()
    assert {t.id for t in world.live(service.id)} == before


def test_new_leader_moves_nothing() -> None:
    world = World()
    world.add_nodes(3)
    service = world.add_service(replicated("web", 5))
    world.settle()
    version = world.store.version
    world.new_leader()
    world.settle()
    assert world.store.version == version
    assert len(world.running(service.id)) == 5


def test_drained_node_loses_its_tasks_and_paused_gets_none() -> None:
    world = World()
    world.add_nodes(3)
    service = world.add_service(replicated("web", 6))
    world.settle()
    world.change_node("n1", availability="drain")
    world.change_node("n2", availability="pause")
    world.settle()
    assert world.per_node(service.id) == {"n2": 2, "n3": 4}


def test_removed_service_takes_its_tasks_along() -> None:
    world = World()
    world.add_nodes(2)
    service = world.add_service(replicated("web", 4))
    world.settle()
    world.remove_service(service.id)
    world.settle()
    assert len(world.store.tasks) == 0


def test_removed_service_on_a_lost_node_is_forgotten() -> None:
    world = World()
    world.add_nodes(1)
    service = world.add_service(replicated("web", 2))
    world.settle()
    world.node_down("n1")
    world.remove_service(service.id)
    world.settle()
    assert len(world.store.tasks) == 0


def test_changed_image_replaces_every_task() -> None:
    world = World()
    world.add_nodes(2)
    service = world.add_service(replicated("web", 3))
    world.settle()
    world.update_service(service.id, with_image(service.spec, "web:2"))
    world.pass_time(30)
    assert [image_of(t) for t in world.running(service.id)] == ["web:2"] * 3
    status = world.service(service.id).update_status
    assert status is not None
    assert status.state == "completed"


def test_change_of_labels_alone_restarts_nothing() -> None:

    world = World()
    world.add_nodes(2)
    service = world.add_service(replicated("web", 3))
    world.settle()
    before = {t.id for t in world.running(service.id)}
    changed = world.update_service(service.id, msgspec.structs.replace(service.spec, labels={"a": "b"}))
    world.pass_time(20)
    assert {t.id for t in world.live(service.id)} == before
    assert {t.spec_version for t in world.live(service.id)} == {changed.spec_version}
