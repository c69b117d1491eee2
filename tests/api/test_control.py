"""Decisions by themselves: ports, subnets, references, and who may leave."""

import ipaddress
import random
from datetime import UTC, datetime
from typing import Literal

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from essaim.api.control import lookup, networks, ports, services, swarm
from essaim.cluster.changes import Change, ChangeSet, encode, put
from essaim.cluster.container import ContainerSpec
from essaim.cluster.errors import ClusterError, FailedPrecondition, InvalidArgument, NotFound, OutOfSequence
from essaim.cluster.service import EndpointSpec, PortConfig, ServiceSpec, TaskSpec, UpdateConfig, UpdateStatus
from essaim.cluster.store import Store
from essaim.cluster.swarm import RaftConfig, SwarmSpec, default_spec
from essaim.scheduler.orchestrate.plan import Plan
from essaim.scheduler.orchestrate.updater import Policy, give_up
from essaim.scheduler.tasks import current_template, new_task

NOW = datetime(2026, 1, 2, tzinfo=UTC)
PORTS = st.lists(
    st.builds(
        PortConfig,
        protocol=st.sampled_from(["tcp", "udp"]),
        target_port=st.integers(1, 3),
        published_port=st.none() | st.integers(1, 4) | st.just(30000),
        publish_mode=st.sampled_from(["ingress", "host"]),
        host_ip=st.sampled_from([None, "127.0.0.1", "127.0.0.2"]),
    ),
    max_size=3,
)


def apply(store: Store, changes: list[Change]) -> None:
    outcome = store.apply(store.version + 1, encode(ChangeSet(changes, NOW)))
    assert outcome.ok


def spec(name: str, wanted: list[PortConfig] | None = None) -> ServiceSpec:
    endpoint = EndpointSpec(ports=wanted) if wanted else None
    return ServiceSpec(
        name=name, task_template=TaskSpec(container_spec=ContainerSpec(image="a")), endpoint_spec=endpoint
    )


def clash(one: PortConfig, other: PortConfig) -> bool:
    """Two ports of different services that cannot both be had on one node, in the plainest words."""
    if (one.published_port, one.protocol) != (other.published_port, other.protocol) or not one.published_port:
        return False
    if one.publish_mode == "host" and other.publish_mode == "host":
        return False
    return not (one.host_ip and other.host_ip and one.host_ip != other.host_ip)


@given(st.lists(PORTS, max_size=6))
def test_services_that_were_accepted_never_share_a_port(wanted: list[list[PortConfig]]) -> None:
    store, chance = Store(), random.Random(1)
    for number, asked in enumerate(wanted):
        try:
            apply(store, services.create(store, spec(f"s{number}", asked), now=NOW, chance=chance)[0])
        except InvalidArgument:
            continue
    found = [(s.id, p) for s in store.services for p in (s.endpoint.ports if s.endpoint else None) or []]
    assert [(a, b) for a, p in found for b, q in found if a < b and clash(p, q)] == []
    assert all(p.published_port for _, p in found if p.publish_mode == "ingress")


def test_ports_run_out_with_a_word_about_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ports, "DYNAMIC", range(30000, 30001))
    store, chance = Store(), random.Random(1)
    one = [PortConfig(target_port=80)]
    apply(store, services.create(store, spec("a", one), now=NOW, chance=chance)[0])
    with pytest.raises(FailedPrecondition, match="no port is free"):
        services.create(store, spec("b", one), now=NOW, chance=chance)


@given(st.lists(st.sampled_from(["", "10.0.2.0/24", "10.0.4.0/22", "10.9.0.0/16", "192.168.7.0/28"]), max_size=12))
def test_networks_never_overlap(subnets: list[str]) -> None:
    store, chance = Store(), random.Random(1)
    for number, subnet in enumerate(subnets):
        ipam = {"config": [{"subnet": subnet}]} if subnet else None
        request = networks.NetworkRequest(name=f"n{number}", driver="overlay", ipam=ipam)
        try:
            apply(store, networks.create(store, request, chance=chance)[0])
        except ClusterError:
            assert subnet
    given_out = [ipaddress.ip_network(n.spec.ipam["Config"][0]["Subnet"]) for n in store.networks if n.spec.ipam]
    assert not [1 for i, a in enumerate(given_out) for b in given_out[i + 1 :] if a.overlaps(b)]


STEPS = st.lists(
    st.tuples(st.sampled_from(["update", "roll back", "note", "fail", "other"]), st.integers(0, 9)), max_size=25
)


@given(STEPS)
def test_update_is_out_of_sequence_if_the_spec_changed_since_it_was_read(steps: list[tuple[str, int]]) -> None:
    """Against a second version that numbers the specs and remembers which one each reader saw."""
    store, chance = Store(), random.Random(1)
    apply(store, services.create(store, spec("web"), now=NOW, chance=chance)[0])
    revision, readings = 0, {next(iter(store.services)).version.index: 0}
    for number, (step, reading) in enumerate(steps):
        service = lookup.service(store, "web")
        version = list(readings)[reading % len(readings)]
        if step == "other":
            apply(store, services.create(store, spec(f"s{number}"), now=NOW, chance=chance)[0])
        elif step == "note":
            noted = UpdateStatus(state="updating", message=str(number))
            apply(store, [put("services", msgspec.structs.replace(service, update_status=noted))])
        elif step == "fail" and service.previous_spec and service.update_status:
            plan = Plan(service, lambda _: None, NOW, chance)
            culprit = new_task(service, current_template(service), task_id="t", slot=1, node_id="n", now=NOW)
            give_up(plan, culprit, Policy.of(UpdateConfig(failure_action="rollback")), rolling_back=False)
            apply(store, plan.changes())
            revision += 1
        elif step in ("update", "roll back") and (step == "update" or service.previous_spec):
            wanted = msgspec.structs.replace(spec("web"), labels={"number": str(number)})
            rollback: Literal["", "previous"] = "previous" if step == "roll back" else ""
            try:
                apply(store, services.update(store, "web", version, wanted, now=NOW, rollback=rollback)[0])
            except OutOfSequence:
                assert readings[version] != revision
            else:
                assert readings[version] == revision
                revision += 1
        readings[lookup.service(store, "web").version.index] = revision
    for version in (0, store.version + 1):
        with pytest.raises(OutOfSequence):
            services.update(store, "web", version, spec("web"), now=NOW)


def test_service_written_by_an_older_manager_takes_its_own_version_only() -> None:
    store, chance = Store(), random.Random(1)
    apply(store, services.create(store, spec("web"), now=NOW, chance=chance)[0])
    old = lookup.service(store, "web")
    apply(store, [put("services", msgspec.structs.replace(old, spec_after=None))])
    with pytest.raises(OutOfSequence):
        services.update(store, "web", old.version.index, spec("web"), now=NOW)
    services.update(store, "web", lookup.service(store, "web").version.index, spec("web"), now=NOW)


def test_networks_decided_at_once_by_two_managers_do_not_share_a_subnet() -> None:
    store, chance = Store(), random.Random(1)
    decided = [networks.create(store, networks.NetworkRequest(name=n, driver="overlay"), chance=chance) for n in "ab"]
    apply(store, decided[0][0])
    late = store.apply(store.version + 1, encode(ChangeSet(decided[1][0], NOW)))
    assert [rejected.reason for rejected in late.rejected] == ["subnet"]
    apply(store, networks.create(store, networks.NetworkRequest(name="b", driver="overlay"), chance=chance)[0])
    assert [str(n.subnets[0]) for n in store.networks] == ["10.0.0.0/24", "10.0.1.0/24"]


def test_subnets_run_out_with_a_word_about_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(networks, "DEFAULT_POOL", ["10.0.0.0/23"])
    store, chance = Store(), random.Random(1)
    for name in ("a", "b"):
        request = networks.NetworkRequest(name=name, driver="overlay")
        apply(store, networks.create(store, request, chance=chance)[0])
    with pytest.raises(FailedPrecondition, match="no free subnet"):
        networks.create(store, networks.NetworkRequest(name="c", driver="overlay"), chance=chance)


def test_reference_prefers_the_id_then_the_name_then_a_prefix() -> None:
    store, chance = Store(), random.Random(1)
    for name in ("a", "b"):
        apply(store, services.create(store, spec(name), now=NOW, chance=chance)[0])
    first, second = store.services
    apply(store, services.create(store, spec(first.id[:6]), now=NOW, chance=chance)[0])
    assert lookup.service(store, first.id) is first
    assert lookup.service(store, first.id[:6]).spec.name == first.id[:6]
    assert lookup.service(store, second.id[:12]) is second
    with pytest.raises(NotFound, match="service  not found"):
        lookup.service(store, "")
    with pytest.raises(NotFound):
        lookup.service(store, "nosuch")


def test_prefix_of_several_is_ambiguous() -> None:
    store, chance = Store(), random.Random(1)
    for number in range(40):
        apply(store, services.create(store, spec(f"s{number}"), now=NOW, chance=chance)[0])
    common = next(i for i in {s.id[0] for s in store.services} if sum(s.id[0] == i for s in store.services) > 1)
    with pytest.raises(InvalidArgument, match="ambiguous"):
        lookup.service(store, common)


@pytest.mark.parametrize(
    ("managers", "reachable", "known", "word"),
    [
        (1, 1, True, "Removing the last manager"),
        (2, 2, True, "leaves 1 managers out of 2"),
        (3, 2, True, "leaves 1 managers out of 3"),
        (3, 3, True, "--force-new-cluster"),
        (0, 0, False, "may lose the consensus"),
    ],
)
def test_manager_that_would_leave_is_told_what_it_costs(managers: int, reachable: int, known: bool, word: str) -> None:
    assert word in (swarm.leave_objection(managers, reachable, knows_cluster=known) or "")


def test_merge_keeps_what_is_left_out_or_zero() -> None:
    old = default_spec()
    new = swarm.merge(old, SwarmSpec(raft=RaftConfig(snapshot_interval=5, election_tick=0)))
    assert new.raft is not None
    assert (new.raft.snapshot_interval, new.raft.election_tick) == (5, 10)
    assert new.orchestration == old.orchestration


@given(st.lists(st.sampled_from(["template", "scale", "labels", "rollback", "stale"]), max_size=12))
def test_one_spec_version_never_stands_for_two_templates(steps: list[str]) -> None:
    store, chance = Store(), random.Random(1)
    apply(store, services.create(store, spec("web"), now=NOW, chance=chance)[0])
    seen: dict[int, TaskSpec | None] = {}
    for number, step in enumerate(steps):
        service = next(iter(store.services))
        version = service.version.index - (1 if step == "stale" else 0)
        changed = service.spec
        if step == "template":
            template = TaskSpec(container_spec=ContainerSpec(image=f"a:{number}"))
            changed = ServiceSpec(name="web", task_template=template)
        elif step == "labels":
            changed = ServiceSpec(name="web", task_template=service.spec.task_template, labels={"n": str(number)})
        try:
            decided, _ = services.update(
                store, "web", version, changed, now=NOW, rollback="previous" if step == "rollback" else ""
            )
        except (OutOfSequence, FailedPrecondition):
            continue
        apply(store, decided)
        service = next(iter(store.services))
        assert service.spec_version is not None
        known = seen.setdefault(service.spec_version.index, service.spec.task_template)
        assert known == service.spec.task_template
