"""Plans: what is created, updated, left alone and removed, and in which order."""

from collections.abc import Callable, Sequence
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from essaim.cluster.objects import Config, Secret
from essaim.cluster.service import Service, ServiceSpec
from essaim.cluster.shape import Version
from essaim.stacks.convert.convert import Stack, resolve_service
from essaim.stacks.plan.difference import changes
from essaim.stacks.plan.operations import Existing, Plan
from essaim.stacks.plan.plan import PlanError, plan
from essaim.stacks.plan.removal import removal

StackOf = Callable[..., Stack]

WEB = """
services:
  web:
    image: nginx:1
    ports: ["80:80"]
    environment: {A: 1}
    secrets: [s]
    configs: [c]
    networks: [front]
    depends_on: {db: {condition: service_healthy}}
    deploy: {replicas: 2, update_config: {parallelism: 2}}
  db: {image: db}
networks: {front: {}}
secrets: {s: {environment: V}}
configs: {c: {content: text}}
"""


def stored(spec: ServiceSpec, network_ids: dict[str, str], id_: str) -> Service:
    """As a manager keeps a spec: defaults filled in, networks by id, the image pinned."""
    data: dict[str, Any] = msgspec.to_builtins(spec)
    task = data["TaskTemplate"]
    task |= {"ForceUpdate": 3, "Runtime": "container"}
    task["ContainerSpec"] |= {"Isolation": "default", "Image": task["ContainerSpec"]["Image"] + "@sha256:" + "0" * 64}
    task["Placement"] = {"Platforms": [{"Architecture": "amd64", "OS": "linux"}]}
    for attachment in task["Networks"]:
        attachment["Target"] = network_ids[attachment["Target"]]
    data["EndpointSpec"] = {"Mode": "vip"} | data["EndpointSpec"]
    data["Mode"] = {"Replicated": {"Replicas": 1} | data["Mode"]["Replicated"]}
    if "UpdateConfig" in data:
        defaults = {"FailureAction": "pause", "MaxFailureRatio": 0, "Order": "stop-first"}
        data["UpdateConfig"] = defaults | data["UpdateConfig"]
    return Service(id=id_, version=Version(index=7), spec=msgspec.convert(data, ServiceSpec))


def deployed(stack: Stack, missing: Sequence[str] = ()) -> Existing:
    """The cluster after the stack was deployed."""
    secrets = [Secret(id=f"id-{spec.name}", spec=spec) for spec in stack.secrets]
    configs = [Config(id=f"id-{spec.name}", spec=spec) for spec in stack.configs]
    ids = {item.spec.name or "": item.id for item in [*secrets, *configs]}
    networks = {network.name or "": f"id-{network.name}" for network in stack.networks}
    services = [
        stored(resolve_service(spec, ids, ids), networks, f"id-{spec.name}")
        for spec in stack.services
        if spec.name not in missing
    ]
    hidden = [msgspec.structs.replace(s, spec=msgspec.structs.replace(s.spec, data=None)) for s in secrets]
    return Existing(services, networks, hidden, configs)


def steps(found: Plan) -> list[str]:
    return [f"{step.verb} {step.kind} {step.name}" for step in found.operations]


def test_first_deploy_creates_what_services_need_before_them(stack_of: StackOf) -> None:
    assert steps(plan(stack_of(WEB, env={"V": "v"}), Existing())) == [
        "create network ns_front", "create network ns_default", "create secret ns_s", "create config ns_c",
        "create service ns_db", "wait service ns_db", "create service ns_web",
    ]  # fmt: skip


def test_second_deploy_of_the_same_file_changes_nothing(stack_of: StackOf) -> None:
    stack = stack_of(WEB, env={"V": "v"})
    found = plan(stack, deployed(stack))
    assert [step.verb for step in found.operations] == [
        "unchanged", "unchanged", "verify", "unchanged", "unchanged", "unchanged",
    ]  # fmt: skip
    assert found.is_empty
    assert str(found).endswith("Plan: nothing to change.")


@pytest.mark.parametrize(
    ("old", "new", "change"),
    [
        ("replicas: 2", "replicas: 3", "Mode.Replicated.Replicas: 2 -> 3"),
        ("{A: 1}", "{A: 2, B: 1}", "TaskTemplate.ContainerSpec.Env: -A=1 +A=2 +B=1"),
        ("nginx:1", "nginx:2", "Labels.com.docker.stack.image: nginx:1 -> nginx:2"),
        ('"80:80"', '"81:80"', "EndpointSpec.Ports: "),
        ("parallelism: 2", "parallelism: 0", "UpdateConfig.Parallelism: 2 -> 0"),
        ("[front]", "[front, default]", "TaskTemplate.Networks: "),
        ("replicas: 2, ", "", "Mode.Replicated.Replicas: 2 -> 1"),
        ("{environment: V}", "{environment: V, name: other}", "TaskTemplate.ContainerSpec.Secrets: "),
    ],
)
def test_changed_file_updates_that_service_and_names_the_field(
    old: str, new: str, change: str, stack_of: StackOf
) -> None:
    before, after = stack_of(WEB, env={"V": "v"}), stack_of(WEB.replace(old, new), env={"V": "v"})
    found = plan(after, deployed(before))
    updates = [step for step in found.operations if step.verb == "update"]
    assert [step.name for step in updates] == ["ns_web"]
    assert (updates[0].id, updates[0].version) == ("id-ns_web", 7)
    assert any(str(one).startswith(change) for one in updates[0].changes), updates[0].changes
    assert change in str(found)


def test_update_keeps_the_pinned_image_and_the_forced_count(stack_of: StackOf) -> None:
    before, after = stack_of(WEB, env={"V": "v"}), stack_of(WEB.replace("replicas: 2", "replicas: 3"), env={"V": "v"})
    spec = plan(after, deployed(before)).operations[-1].spec
    assert isinstance(spec, ServiceSpec)
    assert spec.task_template is not None
    assert spec.task_template.force_update == 3
    assert spec.task_template.container_spec is not None
    assert spec.task_template.container_spec.image == "nginx:1@sha256:" + "0" * 64
    assert spec.task_template.placement is not None
    assert spec.task_template.placement.platforms is not None


def test_image_that_the_file_changes_is_not_kept(stack_of: StackOf) -> None:
    before = stack_of(WEB, env={"V": "v"})
    after = stack_of(WEB.replace("nginx:1", "nginx:2"), env={"V": "v"})
    found = plan(after, deployed(before))
    (changed,) = [operation for operation in found.operations if operation.verb == "update"]
    assert isinstance(changed.spec, ServiceSpec)
    assert changed.spec.task_template is not None
    assert changed.spec.task_template.container_spec is not None
    assert (changed.name, changed.spec.task_template.container_spec.image) == ("ns_web", "nginx:2")


def test_update_without_kept_images_goes_back_to_the_tag(stack_of: StackOf) -> None:
    stack = stack_of(WEB, env={"V": "v"})
    found = plan(stack, deployed(stack), keep_images=False)
    assert [step.name for step in found.operations if step.verb == "update"] == ["ns_db", "ns_web"]


def test_unchanged_service_is_not_waited_for(stack_of: StackOf) -> None:
    stack = stack_of(WEB, env={"V": "v"})
    assert "wait service ns_db" not in steps(plan(stack, deployed(stack)))
    waits = [step for step in plan(stack, deployed(stack, missing=["ns_web"])).operations if step.verb == "wait"]
    assert [(step.name, step.condition, step.required) for step in waits] == [("ns_db", "service_healthy", True)]


def test_prune_removes_what_the_file_no_longer_has_first(stack_of: StackOf) -> None:
    before, after = stack_of(WEB, env={"V": "v"}), stack_of("services: {new: {image: x}}")
    existing = deployed(before)
    assert steps(plan(after, existing, prune=True))[:3] == [
        "remove service ns_web", "wait service ns_web", "remove service ns_db",
    ]  # fmt: skip
    assert not [step for step in plan(after, existing).operations if step.verb == "remove"]


def test_prune_leaves_other_stacks_alone(stack_of: StackOf) -> None:
    other = stack_of("services: {a: {image: x}}")
    foreign = msgspec.structs.replace(other.services[0], labels={"com.docker.stack.namespace": "else"}, name="else_a")
    existing = Existing([Service(id="1", spec=foreign), Service(id="2", spec=ServiceSpec(name="alone"))])
    assert steps(plan(stack_of("services: {}"), existing, prune=True)) == []


def test_missing_external_objects_are_all_named(stack_of: StackOf) -> None:
    text = """
services: {a: {image: x, networks: [n], secrets: [s], configs: [c]}}
networks: {n: {external: true, name: net}}
secrets: {s: {external: true}}
configs: {c: {external: true}}
"""
    with pytest.raises(PlanError) as caught:
        plan(stack_of(text), Existing())
    assert [message.partition(",")[0] for message in caught.value.messages] == [
        'network "net" is declared as external', "secret not found: s", "config not found: c",
    ]  # fmt: skip


def test_changed_config_content_is_refused_with_the_way_out(stack_of: StackOf) -> None:
    before, after = (
        stack_of(WEB, env={"V": "v"}),
        stack_of(WEB.replace("content: text", "content: more"), env={"V": "v"}),
    )
    with pytest.raises(PlanError) as caught:
        plan(after, deployed(before))
    assert "give it another name" in str(caught.value)


def test_changed_labels_of_a_config_are_an_update(stack_of: StackOf) -> None:
    before = stack_of(WEB, env={"V": "v"})
    after = stack_of(WEB.replace("content: text", "content: text, labels: {k: v}"), env={"V": "v"})
    (step,) = [step for step in plan(after, deployed(before)).operations if step.verb == "update"]
    assert (step.kind, step.name, str(step.changes[0])) == ("config", "ns_c", "Labels.k: (none) -> v")


def test_removal_goes_in_reverse_order_of_dependencies(stack_of: StackOf) -> None:
    found = removal("ns", deployed(stack_of(WEB, env={"V": "v"})))
    assert str(found).splitlines()[:4] == [
        "remove     service ns_web", "wait       service ns_web until gone", "remove     service ns_db",
        "remove     secret ns_s",
    ]  # fmt: skip
    assert [step.kind for step in found.operations if step.verb == "remove"] == [
        "service", "service", "secret", "config", "network", "network",
    ]  # fmt: skip


def labelled(name: str, *needs: str) -> Service:
    labels = {"com.docker.stack.namespace": "ns", "com.essaim.stack.depends_on": ",".join(needs)}
    return Service(id=f"id-{name}", spec=ServiceSpec(name=name, labels=labels))


NAMES = st.sampled_from("abcdef")


@given(st.dictionaries(NAMES, st.sets(NAMES)))
def test_removal_waits_for_every_dependent_before_what_it_needs(needs: dict[str, set[str]]) -> None:
    """Whatever labels say, also circles: each service goes once; without circles nobody goes before its dependents."""
    found = removal("ns", Existing([labelled(name, *sorted(others)) for name, others in needs.items()]))
    removed = [step.name for step in found.operations if step.verb == "remove"]
    assert sorted(removed) == sorted(needs)
    awaited = [step.name for step in found.operations if step.verb == "wait"]
    assert len(awaited) == len(set(awaited))
    reach = {name: {other for other in others if other in needs} for name, others in needs.items()}
    for _ in needs:
        reach = {name: others.union(*(reach[other] for other in others)) for name, others in reach.items()}
    if any(name in others for name, others in reach.items()):
        return
    gone: set[str] = set()
    for step in found.operations:
        if step.verb == "wait":
            gone.add(step.name)
        else:
            assert all(other in gone for other, others in needs.items() if step.name in others)


def test_zeros_that_another_client_wrote_out_are_no_change() -> None:
    """Go's clients send what they leave unset."""
    written = {
        "TaskTemplate": {"ForceUpdate": 0, "RestartPolicy": {"Condition": "any", "MaxAttempts": 0, "Window": 0}},
        "UpdateConfig": {"Parallelism": 1, "MaxFailureRatio": 0, "FailureAction": "pause", "Order": "stop-first"},
        "EndpointSpec": {"Mode": "vip", "Ports": [{"TargetPort": 80, "PublishedPort": 0, "Protocol": "tcp"}]},
    }
    bare = {
        "TaskTemplate": {"RestartPolicy": {"Condition": "any"}},
        "UpdateConfig": {"Parallelism": 1},
        "EndpointSpec": {"Ports": [{"TargetPort": 80}]},
    }
    stored_spec, wanted = (msgspec.convert(spec, ServiceSpec) for spec in (written, bare))
    assert changes(stored_spec, wanted, {}) == []
    assert changes(wanted, stored_spec, {}) == []


RESTART = """
services:
  db: {image: db, environment: {A: 1}}
  api: {image: api, depends_on: {db: {condition: service_started, restart: true}}}
  web: {image: web, depends_on: {api: {condition: service_started, restart: true}}}
  log: {image: log, depends_on: {db: {condition: service_started}}}
"""


@pytest.mark.parametrize(
    ("old", "new", "updated"),
    [
        ("A: 1", "A: 2", ["ns_db", "ns_api", "ns_web"]),
        ("db: {image: db,", "db: {image: db, deploy: {replicas: 2},", ["ns_db"]),
        ("api: {image: api,", "api: {image: api, user: u,", ["ns_api", "ns_web"]),
    ],
)
def test_restart_true_replaces_dependents_when_tasks_are_replaced(
    old: str, new: str, updated: list[str], stack_of: StackOf
) -> None:
    found = plan(stack_of(RESTART.replace(old, new)), deployed(stack_of(RESTART)))
    updates = [step for step in found.operations if step.verb == "update"]
    assert [step.name for step in updates] == updated
    forced = [str(change) for step in updates for change in step.changes if change.path.endswith("ForceUpdate")]
    assert forced == ["TaskTemplate.ForceUpdate: 3 -> 4"] * (len(updated) - 1)
    waits = [(step.name, step.dependent) for step in found.operations if step.verb == "wait"]
    assert ("ns_db", "ns_log") not in waits


def test_dependencies_that_need_not_be_there_are_dropped_with_a_word(stack_of: StackOf) -> None:
    text = """
services:
  a:
    image: x
    depends_on:
      gone: {condition: service_healthy, required: false}
      b: {condition: service_healthy, required: false}
  b: {image: x, profiles: [other]}
"""
    found = stack_of(text)
    assert steps(plan(found, Existing())) == ["create network ns_default", "create service ns_a"]
    assert found.warnings == [
        "stack.yml:6:7: services.a.depends_on: there is no service gone; it need not be there, and is not waited for."
    ]


def test_dry_run_text_lists_every_step(stack_of: StackOf) -> None:
    before, after = stack_of(WEB, env={"V": "v"}), stack_of(WEB.replace("replicas: 2", "replicas: 3"), env={"V": "v"})
    lines = str(plan(after, deployed(before))).splitlines()
    assert lines[-4:] == [
        "wait       service ns_db until healthy",
        "update     service ns_web",
        "             Mode.Replicated.Replicas: 2 -> 3",
        "Plan: 1 to update.",
    ]
