"""What a process is given of its task's specification: command, environment, ports, limits; and what it is refused."""

import signal
from typing import Any

import msgspec
import pytest

from essaim.agent.runtime.durations import health_plan, stop_grace, stop_signal
from essaim.agent.runtime.interface import Rejected, Work
from essaim.agent.runtime.process.meaning import ignored
from essaim.agent.runtime.process.plan import DEFAULT_PORT, Place, cpu_list, make_plan
from essaim.agent.runtime.process.ports import FIRST, LAST, PortPool
from essaim.cluster.container import (
    ConfigReference,
    ContainerSpec,
    DNSConfig,
    DriverSpec,
    HealthConfig,
    Mount,
    Privileges,
    SecretReference,
    Ulimit,
)
from essaim.cluster.engine_options import EngineOptions
from essaim.cluster.service import (
    GenericResource,
    NamedResource,
    PortConfig,
    ResourceRequirements,
    Resources,
    TaskSpec,
)
from essaim.cluster.task import NetworkAttachment

from .doubles import NODE, ingress, make_task


def place(**changes: Any) -> Place:
    settings: dict[str, Any] = {
        "address": "127.0.0.2",
        "ports": {("tcp", DEFAULT_PORT): 21000, ("tcp", 80): 21080, ("udp", 53): 21053, ("tcp", 443): 8443},
        "work_dir": "/work",
        "secrets_dir": "/mem/secrets",
        "configs_dir": "/mem/configs",
        "user": None,
        "environment": {"PATH": "/bin"},
        "python": "/py",
        "whoami": "/whoami.py",
    }
    return Place(**(settings | changes))


def test_plan_tells_the_task_who_and_where_it_is() -> None:
    ports = [ingress(80), ingress(53, protocol="udp")]
    plan = make_plan(Work(make_task(command=["a"], env=["X={{.Task.Slot}}", "PATH"], ports=ports), NODE), place())
    env = plan.shim.env
    assert (env["HOST"], env["PORT"], env["PORT_80"], env["PORT_53"]) == ("127.0.0.2", "21080", "21080", "21053")
    assert (env["ESSAIM_TASK_NAME"], env["ESSAIM_SECRETS_DIR"], env["X"]) == ("web.1.t1", "/mem/secrets", "1")
    assert "PATH" not in env
    assert [(e.target_port, e.port) for e in plan.endpoints] == [(80, 21080), (53, 21053)]


def test_plan_without_target_ports_still_has_a_port_of_its_own() -> None:
    plan = make_plan(Work(make_task(command=["a"]), NODE), place())
    assert plan.shim.env["PORT"] == "21000"
    assert plan.endpoints == []


def test_plan_host_mode_port_is_reported_as_it_came_out() -> None:
    port = PortConfig(protocol="tcp", target_port=443, published_port=8443, publish_mode="host")
    plan = make_plan(Work(make_task(command=["a"], ports=[port]), NODE), place())
    assert plan.host_ports == [port]


@pytest.mark.parametrize(
    ("spec", "argv"),
    [
        ({"image": "host", "command": ["a"], "args": ["b"]}, ["a", "b"]),
        ({"image": "host:latest", "args": ["b", "c"]}, ["b", "c"]),
        ({"image": "essaim/whoami"}, ["/py", "-I", "-S", "/whoami.py"]),
        ({"image": "essaim/whoami:1@sha256:ab", "args": ["-x"]}, ["/py", "-I", "-S", "/whoami.py", "-x"]),
    ],
)
def test_plan_argv_of_an_image(spec: dict[str, Any], argv: list[str]) -> None:
    assert make_plan(Work(make_task(**spec), NODE), place()).shim.argv == argv


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ({"image": "nginx:1"}, "has no images: nginx:1 cannot run here. Use the image host"),
        ({"image": "host"}, "give one"),
        ({"image": "host", "args": ["a"], "stop_signal": "SIGNOTHING"}, "unknown stop signal SIGNOTHING"),
        ({"image": "host", "args": ["a"], "env": ["A={{.No}}"]}, "unknown field"),
        ({"image": "host", "args": ["a"], "ulimits": [Ulimit(name="x")]}, "unknown ulimit x; known are as, core"),
    ],
)
def test_plan_refuses_with_an_explanation(spec: dict[str, Any], words: str) -> None:
    with pytest.raises(Rejected, match=words):
        make_plan(Work(make_task(**spec), NODE), place())


@pytest.mark.parametrize("option", ["max-size", "max-file"])
def test_plan_names_a_log_option_that_it_cannot_read(option: str) -> None:
    container = ContainerSpec(image="host", args=["a"])
    spec = TaskSpec(container_spec=container, log_driver=DriverSpec(options={option: "many"}))
    with pytest.raises(Rejected, match=option.removeprefix("max-") + r".*many|many.*size"):
        make_plan(Work(make_task(spec=spec), NODE), place())


def test_plan_limits_and_log_options_are_carried_out_as_far_as_they_can_be() -> None:
    container = ContainerSpec(image="host", args=["a"], ulimits=[Ulimit(name="nofile", soft=10, hard=20)])
    spec = TaskSpec(
        container_spec=container,
        resources=ResourceRequirements(limits=Resources(memory_bytes=50 << 20, nano_cpus=1, pids=5)),
        log_driver=DriverSpec(name="json-file", options={"max-size": "10k", "max-file": "2"}),
    )
    plan = make_plan(Work(make_task(spec=spec), NODE), place())
    assert plan.shim.rlimits == {"RLIMIT_DATA": (50 << 20, 50 << 20), "RLIMIT_NOFILE": (10, 20)}
    assert (plan.shim.log_max_bytes, plan.shim.log_max_files) == (10_000, 2)
    assert plan.ignored == ["Resources.Limits.NanoCPUs", "Resources.Limits.Pids"]


def test_ignored_names_what_a_process_cannot_have() -> None:
    mounts = [Mount(type="bind", source="/a", target="/a"), Mount(type="volume", source="v", target="/v")]
    assert ignored(make_task(hostname="x", mounts=mounts, read_only=True)) == ["Hostname", "ReadOnly", "Mounts[/v]"]


def test_ignored_names_networks_whose_names_a_process_cannot_resolve() -> None:
    attached = [NetworkAttachment(network_id="n1", addresses=["10.0.1.3/24"])]
    task = msgspec.structs.replace(make_task(), networks_attachments=attached)
    assert ignored(task) == ["Networks"]


EVERYTHING: dict[str, Any] = {
    "image": "host", "labels": {"a": "b"}, "command": ["a"], "args": ["b"], "hostname": "h", "env": ["A=1"],
    "dir": "/tmp", "user": "0", "groups": ["5"], "privileges": Privileges(no_new_privileges=True), "init": True,
    "stop_signal": "INT", "tty": True, "open_stdin": True, "read_only": True,
    "mounts": [Mount(type="bind", source="/a", target="/b")], "stop_grace_period": 5,
    "healthcheck": HealthConfig(test=["CMD", "x"]), "hosts": ["1.2.3.4 h"], "dns_config": DNSConfig(search=["a"]),
    "secrets": [SecretReference(secret_id="s")], "configs": [ConfigReference(config_id="c")], "isolation": "default",
    "sysctls": {"a": "b"}, "capability_add": ["CAP_X"], "capability_drop": ["CAP_Y"],
    "ulimits": [Ulimit(name="nofile", soft=5)], "oom_score_adj": 5, "engine_options": EngineOptions(privileged=True),
}  # fmt: skip
ELSEWHERE = {"labels", "init", "isolation", "user", "groups", "secrets", "configs", "image"}
"""Carried out outside of the plan (test_process_runtime.py, test_payloads.py), or without meaning for anybody here."""


def test_every_field_of_a_container_is_honoured_or_named() -> None:
    """A field that is added to ContainerSpec must be thought of here."""
    assert set(EVERYTHING) == set(ContainerSpec.__struct_fields__)
    bare = {"image": "host", "command": ["z"]}
    before = make_plan(Work(make_task(**bare), NODE), place())
    for field, value in EVERYTHING.items():
        if field not in ELSEWHERE:
            plan = make_plan(Work(make_task(**(bare | {field: value})), NODE), place())
            assert plan != before, field


ASKS_NOTHING = {"annotations", "container_name", "expose", "pull_policy"}


def sample(field: msgspec.structs.FieldInfo) -> Any:
    kind = str(field.type)
    if field.name == "cpuset_cpus":
        return "0"
    return ["x"] if "list" in kind else {"a": "b"} if "dict" in kind else 1 if "int" in kind else "own"


@pytest.mark.parametrize("field", msgspec.structs.fields(EngineOptions), ids=lambda field: field.name)
def test_every_engine_option_is_honoured_or_named(field: msgspec.structs.FieldInfo) -> None:
    task = make_task(command=["a"], engine_options=EngineOptions(**{field.name: sample(field)}))
    plan = make_plan(Work(task, NODE), place())
    if field.name in ASKS_NOTHING:
        assert plan.ignored == []
    elif field.name == "cpuset_cpus":
        assert (plan.shim.cpus, plan.ignored) == ([0], [])
    else:
        assert plan.ignored == [field.encode_name]


@pytest.mark.parametrize(
    "options",
    [
        {"network_mode": "host"}, {"pid_mode": "host"}, {"ipc_mode": "shareable"}, {"uts_mode": "host"},
        {"userns_mode": "host"}, {"cgroupns_mode": "host"}, {"security_opt": ["no-new-privileges:true"]},
        {"privileged": False},
    ],
)  # fmt: skip
def test_what_a_process_has_anyway_is_not_named(options: dict[str, Any]) -> None:
    plan = make_plan(Work(make_task(command=["a"], engine_options=EngineOptions(**options)), NODE), place())
    assert plan.ignored == []
    assert plan.shim.no_new_privileges == ("security_opt" in options)


def test_every_resource_is_honoured_or_named() -> None:
    given = ResourceRequirements(
        limits=Resources(nano_cpus=1, memory_bytes=5, pids=1), swap_bytes=1, memory_swappiness=0
    )
    spec = TaskSpec(container_spec=ContainerSpec(image="host", args=["a"]), resources=given)
    plan = make_plan(Work(make_task(spec=spec), NODE), place())
    assert plan.shim.rlimits == {"RLIMIT_DATA": (5, 5)}
    assert [name.removeprefix("Resources.") for name in plan.ignored] == [
        "Limits.NanoCPUs", "Limits.Pids", "SwapBytes", "MemorySwappiness",
    ]  # fmt: skip


def test_generic_resources_and_another_log_driver() -> None:
    gpu = GenericResource(named_resource_spec=NamedResource(kind="gpu", value="a"))
    spec = TaskSpec(container_spec=ContainerSpec(image="host", args=["a"]), log_driver=DriverSpec(name="syslog"))
    plan = make_plan(Work(make_task(spec=spec, assigned_generic_resources=[gpu]), NODE), place())
    assert plan.shim.env["DOCKER_RESOURCE_GPU"] == "a"
    assert plan.ignored == ["LogDriver[syslog]"]


@pytest.mark.parametrize(("text", "cpus"), [("0", [0]), ("0-2,5", [0, 1, 2, 5]), ("1, 0", [0, 1])])
def test_list_of_cpus(text: str, cpus: list[int]) -> None:
    assert cpu_list(text) == cpus


@pytest.mark.parametrize("text", ["a", "2-1", "1,", "-1"])
def test_list_of_cpus_that_is_none(text: str) -> None:
    with pytest.raises(ValueError, match="is no list of CPUs"):
        cpu_list(text)


@pytest.mark.parametrize(("given", "number"), [(None, signal.SIGTERM), ("INT", 2), ("sigquit", 3), ("9", 9)])
def test_stop_signal_in_any_spelling(given: str | None, number: int) -> None:
    assert stop_signal(ContainerSpec(stop_signal=given)) == number


def test_stop_grace_defaults_to_ten_seconds_and_may_be_none() -> None:
    assert stop_grace(ContainerSpec()) == 10
    assert stop_grace(ContainerSpec(stop_grace_period=0)) == 0


def test_health_plan_has_dockers_defaults_and_none_means_none() -> None:
    plan = health_plan(HealthConfig(test=["CMD-SHELL", "true"]))
    assert plan is not None
    assert (plan.interval, plan.timeout, plan.retries, plan.start_period) == (30, 30, 3, 0)
    assert plan.argv == ["/bin/sh", "-c", "true"]
    assert health_plan(HealthConfig(test=["NONE"])) is None
    assert health_plan(HealthConfig()) is None
    bare = health_plan(HealthConfig(test=["CMD", "a", "b"], interval=10**9))
    assert bare is not None
    assert (bare.argv, bare.interval) == (["a", "b"], 1)


def test_ports_are_free_distinct_and_given_back() -> None:
    pool = PortPool(iter([0.5, 0.5, 0.25, 0.5]).__next__)
    first, second = (pool.take(task, "tcp", "127.0.0.1") for task in ("t1", "t2"))
    assert first != second
    assert all(FIRST <= port < LAST for port in (first, second))
    with pytest.raises(Rejected, match=f"port {first}/tcp on 127.0.0.1 is already in use"):
        pool.take("t2", "tcp", "127.0.0.1", first)
    pool.release("t1")
    assert pool.take("t3", "tcp", "127.0.0.1", first) == first
