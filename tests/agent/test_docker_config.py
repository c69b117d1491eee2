"""Tasks in the Engine's terms, and what the Engine says in ours."""

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from essaim.agent.runtime.docker.age import fit, only_windows
from essaim.agent.runtime.docker.container_config import create_body
from essaim.agent.runtime.docker.container_view import view_of
from essaim.agent.runtime.docker.description import node_description
from essaim.agent.runtime.docker.host_config import extra_hosts, security_options
from essaim.agent.runtime.docker.log_frames import LogFrames
from essaim.agent.runtime.docker.port_bindings import exposed_ports
from essaim.agent.runtime.interface import Health, LogLine, Phase, Rejected, Work
from essaim.agent.runtime.resources import generic_resource_env
from essaim.cluster.container import (
    AppArmor,
    BindOptions,
    ContainerSpec,
    CredentialSpec,
    DriverSpec,
    HealthConfig,
    Mount,
    Privileges,
    Seccomp,
    SELinuxContext,
    TmpfsOptions,
    VolumeOptions,
)
from essaim.cluster.engine_options import DeviceMapping, DeviceRequest, EngineOptions
from essaim.cluster.service import (
    DiscreteResource,
    GenericResource,
    NamedResource,
    NetworkAttachmentConfig,
    PortConfig,
    ResourceRequirements,
    Resources,
    TaskSpec,
)

from .doubles import NODE, ingress, make_task
from .test_process_plan import EVERYTHING, sample

ADDRESS = "10.0.0.1"


def body(**changes: Any) -> dict[str, Any]:
    return create_body(Work(make_task(**{"image": "a:1", **changes}), NODE), ADDRESS, [])


def test_body_of_a_bare_task_leaves_everything_to_the_engine() -> None:
    made = body()
    assert made.pop("Labels")["com.docker.swarm.task.name"] == "web.1.t1"
    assert made == {"Image": "a:1", "StopTimeout": 10, "HostConfig": {"Isolation": "default"}, "Env": []}


def test_body_grace_period_is_never_shorter_than_asked_for() -> None:
    assert body(stop_grace_period=1_200_000_000)["StopTimeout"] == 2


def test_body_ports_of_ingress_mode_go_to_the_data_address_and_host_mode_as_asked() -> None:
    ports = [ingress(80), PortConfig(target_port=53, protocol="udp", publish_mode="host", published_port=5353)]
    made = body(ports=ports)
    assert made["HostConfig"]["PortBindings"] == {
        "80/tcp": [{"HostIp": ADDRESS, "HostPort": ""}],
        "53/udp": [{"HostIp": "", "HostPort": "5353"}],
    }
    assert made["ExposedPorts"] == {"80/tcp": {}, "53/udp": {}}


def test_body_engine_options_are_passed_on_under_their_names() -> None:
    options = EngineOptions(
        privileged=True,
        pid_mode="host",
        ipc_mode="shareable",
        shm_size=1 << 20,
        devices=[DeviceMapping(path_on_host="/dev/fuse", path_in_container="/dev/fuse", cgroup_permissions="rwm")],
        device_requests=[DeviceRequest(count=-1, capabilities=[["gpu"]])],
        security_opt=["label=disable"],
        network_mode="host",
        mac_address="02:00:00:00:00:01",
        expose=["9000", "9001-9002/udp"],
        runtime="runc",
    )
    made = body(engine_options=options, privileges=Privileges(no_new_privileges=True))
    host = made["HostConfig"]
    assert (host["Privileged"], host["PidMode"], host["IpcMode"], host["ShmSize"]) == (
        True,
        "host",
        "shareable",
        1 << 20,
    )
    assert host["Devices"] == [{"PathOnHost": "/dev/fuse", "PathInContainer": "/dev/fuse", "CgroupPermissions": "rwm"}]
    assert host["DeviceRequests"] == [{"Count": -1, "Capabilities": [["gpu"]]}]
    assert host["SecurityOpt"] == ["no-new-privileges", "label=disable"]
    assert (host["NetworkMode"], host["Runtime"], made["MacAddress"]) == ("host", "runc", "02:00:00:00:00:01")
    assert made["ExposedPorts"] == {"9000/tcp": {}, "9001/udp": {}, "9002/udp": {}}
    assert "MacAddress" not in host
    assert "Expose" not in host


def test_body_node_network_is_taken_and_swarm_networks_are_not_the_engines() -> None:
    def of(target: str) -> Any:
        spec = TaskSpec(container_spec=ContainerSpec(image="a"), networks=[NetworkAttachmentConfig(target=target)])
        return body(spec=spec)["HostConfig"].get("NetworkMode")

    assert of("host") == "host"
    assert of("net1id") is None


def test_body_swap_counts_on_top_of_memory() -> None:
    def of(swap: int) -> Any:
        resources = ResourceRequirements(limits=Resources(memory_bytes=100), swap_bytes=swap, memory_swappiness=0)
        config = body(spec=TaskSpec(container_spec=ContainerSpec(image="a"), resources=resources))["HostConfig"]
        return config["MemorySwap"], config["MemorySwappiness"]

    assert of(50) == (150, 0)
    assert of(-1) == (-1, 0)


def test_body_with_a_bad_placeholder_is_rejected() -> None:
    with pytest.raises(Rejected, match="unknown field"):
        body(hostname="{{.Task.No}}")


def test_placeholders_are_filled_in_in_values_of_variables_not_in_their_names() -> None:
    env = ["A={{.Task.Slot}}={{.Service.Name}}", "{{.Task.Slot}}=x", "{{GONE", "E="]
    assert body(env=env)["Env"] == ["A=1=web", "{{.Task.Slot}}=x", "{{GONE", "E="]


def test_whoami_is_told_who_it_is_and_other_images_are_not() -> None:
    assert "ESSAIM_TASK_NAME=web.1.t1" in body(image="essaim/whoami:latest")["Env"]
    assert body(image="other/whoami")["Env"] == []


def test_generic_resources_are_told_by_their_names() -> None:
    resources = [
        GenericResource(named_resource_spec=NamedResource(kind="gpu", value="a")),
        GenericResource(named_resource_spec=NamedResource(kind="gpu", value="b")),
        GenericResource(discrete_resource_spec=DiscreteResource(kind="ssd", value=3)),
    ]
    assert generic_resource_env(resources) == ["DOCKER_RESOURCE_GPU=a,b", "DOCKER_RESOURCE_SSD=3"]


@pytest.mark.parametrize(
    ("privileges", "options"),
    [
        (Privileges(seccomp=Seccomp(mode="unconfined")), ["seccomp=unconfined"]),
        (Privileges(seccomp=Seccomp(mode="custom", profile=b'{ "a": 1 }')), ['seccomp={"a": 1}']),
        (Privileges(apparmor=AppArmor(mode="disabled")), ["apparmor=unconfined"]),
        (Privileges(selinux_context=SELinuxContext(disable=True)), ["label=disable"]),
        (Privileges(selinux_context=SELinuxContext(user="u", level="l")), ["label=user:u", "label=level:l"]),
    ],
)
def test_privileges_in_the_words_of_security_opt(privileges: Privileges, options: list[str]) -> None:
    assert security_options(privileges) == options


def test_extra_hosts_are_turned_around() -> None:
    assert extra_hosts("10.0.0.9 db db.local") == ["db:10.0.0.9", "db.local:10.0.0.9"]


def test_expose_takes_ranges() -> None:
    assert list(exposed_ports([], ["1-3", "5/udp"])) == ["1/tcp", "2/tcp", "3/tcp", "5/udp"]


def test_old_engine_loses_comfort_by_name_and_refuses_what_matters() -> None:
    made = body(healthcheck=HealthConfig(test=["CMD", "x"], start_interval=5))
    assert fit(made, (1, 41)) == [
        "Healthcheck.StartInterval needs a Docker Engine with API 1.44 or newer, this node's has 1.41"
    ]
    assert made["Healthcheck"] == {"Test": ["CMD", "x"]}


OLD = (1, 39)


@pytest.mark.parametrize(
    ("mount", "said"),
    [
        (Mount(type="image", source="a", target="/a"), r"Mounts\[/a\] of type image needs .* API 1.48"),
        (Mount(type="cluster", source="a", target="/a"), r"Mounts\[/a\] of type cluster needs .* API 1.42"),
        (Mount(type="bind", source="/b", target="/a", bind_options=BindOptions(non_recursive=True)), "NonRecursive"),
        (Mount(type="bind", source="/b", target="/a", bind_options=BindOptions(create_mountpoint=True)), "1.42"),
        (Mount(type="volume", source="b", target="/a", volume_options=VolumeOptions(subpath="x")), "Subpath .* 1.45"),
        (Mount(type="tmpfs", target="/a", tmpfs_options=TmpfsOptions(options=[["noexec"]])), "Options .* API 1.46"),
    ],
)
def test_old_engine_is_not_given_a_mount_that_it_would_get_wrong(mount: Mount, said: str) -> None:
    with pytest.raises(Rejected, match=said):
        fit(body(mounts=[mount]), OLD)
    assert fit(body(mounts=[mount]), (1, 48)) == []


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (EngineOptions(device_requests=[DeviceRequest(count=1)]), "HostConfig.DeviceRequests needs .* API 1.40"),
        (EngineOptions(cgroupns_mode="private"), "HostConfig.CgroupnsMode needs .* API 1.41"),
    ],
)
def test_old_engine_is_not_given_an_option_that_it_would_ignore(options: EngineOptions, said: str) -> None:
    with pytest.raises(Rejected, match=said):
        fit(body(engine_options=options), OLD)


def test_what_only_windows_has_is_named() -> None:
    spec = ContainerSpec(isolation="hyperv", privileges=Privileges(credential_spec=CredentialSpec(file="x")))
    assert only_windows(spec) == ["Isolation is for Windows", "Privileges.CredentialSpec is for Windows"]
    assert only_windows(ContainerSpec(isolation="default")) == []


WITHOUT_TRACE = {
    "secrets": "files that are made first (task_files.py)",
    "configs": "files that are made first (task_files.py)",
    "isolation": "of Windows; the default is always asked for",
}
ON_THE_SIDE = {"container_name": "names the container", "pull_policy": "for the image"}


@pytest.mark.parametrize("field", ContainerSpec.__struct_fields__)
def test_every_field_of_a_container_reaches_the_engine(field: str) -> None:
    """A field that is added to ContainerSpec must be thought of here."""
    assert (body(**{field: EVERYTHING[field]}) != body()) == (field not in WITHOUT_TRACE)


@pytest.mark.parametrize("field", msgspec.structs.fields(EngineOptions), ids=lambda field: field.name)
def test_every_engine_option_reaches_the_engine(field: msgspec.structs.FieldInfo) -> None:
    value = ["80"] if field.name == "expose" else sample(field)
    made = body(engine_options=EngineOptions(**{field.name: value}))
    assert (made != body()) == (field.name not in ON_THE_SIDE)


def test_every_resource_and_the_log_driver_reach_the_engine() -> None:
    given = ResourceRequirements(
        limits=Resources(nano_cpus=5, memory_bytes=7, pids=9), swap_bytes=2, memory_swappiness=3
    )
    driver = DriverSpec(name="json-file", options={"max-size": "1m"})
    spec = TaskSpec(container_spec=ContainerSpec(image="a"), resources=given, log_driver=driver)
    assert body(spec=spec)["HostConfig"] == {
        "NanoCpus": 5, "Memory": 7, "PidsLimit": 9, "MemorySwap": 9, "MemorySwappiness": 3, "Isolation": "default",
        "LogConfig": {"Type": "json-file", "Config": {"max-size": "1m"}},
    }  # fmt: skip


def inspected(state: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"Id": "c1", "State": state, "HostConfig": {}, **more}


@pytest.mark.parametrize(
    ("state", "phase", "health", "code", "error"),
    [
        ({"Status": "created"}, Phase.CREATED, Health.NONE, None, ""),
        ({"Status": "running", "Running": True, "Pid": 5}, Phase.RUNNING, Health.NONE, None, ""),
        ({"Running": True, "Health": {"Status": "starting"}}, Phase.RUNNING, Health.STARTING, None, ""),
        ({"Running": True, "Health": {"Status": "unhealthy"}}, Phase.RUNNING, Health.UNHEALTHY, None, ""),
        ({"Status": "exited", "ExitCode": 3}, Phase.EXITED, Health.NONE, 3, ""),
        ({"Status": "created", "ExitCode": 127, "Error": "no x"}, Phase.EXITED, Health.NONE, 127, "no x"),
        (
            {"Status": "exited", "ExitCode": 137, "OOMKilled": True},
            Phase.EXITED,
            Health.NONE,
            137,
            "out of memory: killed by the kernel",
        ),
    ],
)
def test_view_of_a_container(state: dict[str, Any], phase: Phase, health: Health, code: int | None, error: str) -> None:
    view = view_of(inspected(state), ADDRESS)
    assert (view.phase, view.health, view.exit_code, view.error) == (phase, health, code, error)


def test_view_tells_where_the_ports_came_out() -> None:
    asked = {
        "80/tcp": [{"HostIp": ADDRESS, "HostPort": ""}],
        "9/udp": [{"HostIp": "", "HostPort": "9000"}],
    }
    got = {
        "80/tcp": [{"HostIp": ADDRESS, "HostPort": "32768"}],
        "9/udp": [{"HostIp": "0.0.0.0", "HostPort": "9000"}, {"HostIp": "::", "HostPort": "9000"}],
        "443/tcp": None,
    }
    view = view_of(
        inspected({"Running": True}, HostConfig={"PortBindings": asked}, NetworkSettings={"Ports": got}), ADDRESS
    )
    assert [(e.protocol, e.target_port, e.port) for e in view.endpoints] == [("udp", 9, 9000), ("tcp", 80, 32768)]
    assert [(p.target_port, p.published_port, p.publish_mode) for p in view.host_ports] == [(9, 9000, "host")]


def test_view_in_the_hosts_network_is_reached_at_the_target_port() -> None:
    config = {"NetworkMode": "host", "PortBindings": {"80/tcp": [{"HostIp": ADDRESS, "HostPort": ""}]}}
    view = view_of(inspected({"Running": True}, HostConfig=config), ADDRESS)
    assert [(e.address, e.port) for e in view.endpoints] == [(ADDRESS, 80)]


def frame(stream: int, data: bytes) -> bytes:
    return bytes([stream, 0, 0, 0]) + len(data).to_bytes(4, "big") + data


@given(st.lists(st.tuples(st.sampled_from([1, 2]), st.binary(max_size=20))), st.integers(1, 30))
def test_frames_are_read_however_they_arrive(messages: list[tuple[int, bytes]], piece: int) -> None:
    clean = [(stream, data.replace(b"\n", b"").replace(b"\r", b"")) for stream, data in messages]
    data = b"".join(frame(stream, b"2026-01-01T00:00:00Z " + line + b"\n") for stream, line in clean)
    frames = LogFrames(tty=False)
    read = [line for at in range(0, len(data), piece) for line in frames.feed(data[at : at + piece])]
    assert read == [LogLine(stream, "2026-01-01T00:00:00Z", line) for stream, line in clean]
    assert list(frames.end()) == []


def test_frames_of_a_terminal_are_plain_lines() -> None:
    frames = LogFrames(tty=True)
    lines = [*frames.feed(b"T1 a\r\nT2 "), *frames.feed(b"b"), *frames.end()]
    assert lines == [LogLine(1, "T1", b"a"), LogLine(1, "T2", b"b")]


def test_description_of_a_node_from_its_engine() -> None:
    info = {
        "Name": "h", "NCPU": 2, "MemTotal": 10, "Architecture": "x86_64", "OSType": "linux", "ServerVersion": "20",
        "Labels": ["a=b"], "Plugins": {"Volume": ["local"], "Network": None},
    }  # fmt: skip
    described = node_description(info, ADDRESS, "")
    assert described.hostname == "h"
    assert described.resources == Resources(nano_cpus=2 * 10**9, memory_bytes=10)
    assert described.engine is not None
    assert described.engine.labels == {"a": "b"}
    assert [(p.type, p.name) for p in described.engine.plugins or []] == [("Volume", "local")]
    assert node_description(info, ADDRESS, "mine").hostname == "mine"


@pytest.mark.parametrize(
    ("driver", "config"),
    [
        (DriverSpec(options={"max-size": "1m"}), {"Type": "", "Config": {"max-size": "1m"}}),
        (DriverSpec(name="none"), {"Type": "none", "Config": {}}),
        (DriverSpec(name="", options={}), None),
        (None, None),
    ],
)
def test_log_options_without_a_driver_are_for_the_engines_own(driver: DriverSpec | None, config: Any) -> None:
    spec = TaskSpec(container_spec=ContainerSpec(image="a"), log_driver=driver)
    assert body(spec=spec)["HostConfig"].get("LogConfig") == config


def test_clusters_log_driver_is_for_services_that_name_none() -> None:
    default, own = DriverSpec(name="journald"), DriverSpec(name="none")
    for named, wanted in ((None, "journald"), (own, "none")):
        task = make_task(image="a")
        task = msgspec.structs.replace(
            task, log_driver=default, spec=msgspec.structs.replace(task.spec, log_driver=named)
        )
        assert create_body(Work(task, NODE), ADDRESS, [])["HostConfig"]["LogConfig"] == {"Type": wanted, "Config": {}}


def test_slot_of_a_global_services_task_is_its_node() -> None:
    task = msgspec.structs.replace(make_task(image="a:1", env=["S={{.Task.Slot}}"]), slot=None, node_id=NODE.id)
    assert create_body(Work(task, NODE), ADDRESS, [])["Env"] == [f"S={NODE.id}"]


def test_placeholders_are_filled_in_in_a_volumes_labels_and_driver_options() -> None:
    driver = DriverSpec(name="local", options={"o": "size={{.Task.Slot}}m"})
    options = VolumeOptions(labels={"l": "{{.Service.Name}}"}, driver_config=driver)
    mount = Mount(type="volume", source="v-{{.Task.Slot}}", target="/{{.Task.Slot}}", volume_options=options)
    (made,) = body(mounts=[mount])["HostConfig"]["Mounts"]
    assert (made["Source"], made["Target"]) == ("v-1", "/1")
    assert made["VolumeOptions"]["Labels"] == {"l": "web"}
    assert made["VolumeOptions"]["DriverConfig"]["Options"] == {"o": "size=1m"}


def test_engine_of_just_the_age_keeps_what_it_knows() -> None:
    made = body(healthcheck=HealthConfig(test=["CMD", "x"], start_interval=5))
    assert fit(made, (1, 44)) == []
    assert made["Healthcheck"]["StartInterval"] == 5


def test_one_target_published_twice_is_bound_once_on_the_data_address() -> None:
    ports = [ingress(80), ingress(80)]
    assert body(ports=ports)["HostConfig"]["PortBindings"] == {"80/tcp": [{"HostIp": ADDRESS, "HostPort": ""}]}


@pytest.mark.parametrize(
    ("address", "bound", "is_ours"),
    [
        ("fd00::1", "::", True), ("fd00::1", "0.0.0.0", False), ("fd00::1", "fd00::1", True),
        (ADDRESS, "0.0.0.0", True), (ADDRESS, "::", False), (ADDRESS, "10.9.9.9", False),
    ],
)  # fmt: skip
def test_endpoint_is_where_the_data_address_is_bound(address: str, bound: str, is_ours: bool) -> None:
    asked = {"80/tcp": [{"HostIp": "", "HostPort": "8080"}]}
    got = {"80/tcp": [{"HostIp": bound, "HostPort": "8080"}]}
    found = view_of(
        inspected({"Running": True}, HostConfig={"PortBindings": asked}, NetworkSettings={"Ports": got}), address
    )
    assert [(e.address, e.port) for e in found.endpoints] == ([(address, 8080)] if is_ours else [])
