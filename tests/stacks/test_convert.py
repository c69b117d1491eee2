"""Specs: what docker stack deploy has no words for, references, order, warnings. The rest: test_docker.py."""

import os
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from essaim.stacks.canonical.values import familiar_image
from essaim.stacks.convert.convert import Dependency, Stack, resolve

StackOf = Callable[..., Stack]


def service(stack_of: StackOf, body: str, **options: Any) -> dict[str, Any]:
    text = f"services:\n  a:\n    image: x\n    {body}\nvolumes: {{v: {{}}}}\n"
    found: dict[str, Any] = msgspec.to_builtins(stack_of(text, **options).services[0])
    return found


def engine(stack_of: StackOf, body: str, **options: Any) -> Any:
    return service(stack_of, body, **options)["TaskTemplate"]["ContainerSpec"].get("EngineOptions")


def container(stack_of: StackOf, body: str) -> Any:
    return service(stack_of, body)["TaskTemplate"]["ContainerSpec"]


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("privileged: true", {"Privileged": True}),
        ("privileged: false", None),
        ("devices: ['/dev/fuse']",
         {"Devices": [{"PathOnHost": "/dev/fuse", "PathInContainer": "/dev/fuse", "CgroupPermissions": "rwm"}]}),
        ("gpus: all", {"DeviceRequests": [{"Count": -1, "Capabilities": [["gpu"]]}]}),
        ("gpus: [{driver: nvidia, count: 2}]",
         {"DeviceRequests": [{"Driver": "nvidia", "Count": 2, "Capabilities": [["gpu"]]}]}),
        ("deploy: {resources: {reservations: {devices: [{capabilities: [gpu, utility], device_ids: ['0']}]}}}",
         {"DeviceRequests": [{"DeviceIDs": ["0"], "Capabilities": [["gpu", "utility"]]}]}),
        ("shm_size: 64m", {"ShmSize": 67108864}),
        ("pid: host", {"PidMode": "host"}), ("ipc: host", {"IpcMode": "host"}), ("uts: host", {"UTSMode": "host"}),
        ("userns_mode: host", {"UsernsMode": "host"}), ("cgroup: host", {"CgroupnsMode": "host"}),
        ("cgroupns_mode: private", {"CgroupnsMode": "private"}), ("cgroup_parent: /x", {"CgroupParent": "/x"}),
        ("runtime: kata", {"Runtime": "kata"}), ("storage_opt: {size: 1G}", {"StorageOpt": {"size": "1G"}}),
        ("cpu_shares: 512", {"CpuShares": 512}), ("cpuset: 0-1", {"CpusetCpus": "0-1"}),
        ("cpu_rt_period: 100ms", {"CpuRealtimePeriod": 100000}), ("cpu_rt_runtime: 5000", {"CpuRealtimeRuntime": 5000}),
        ("network_mode: host", {"NetworkMode": "host"}), ("domainname: d", {"Domainname": "d"}),
        ("mac_address: 02:42:ac:11:65:43", {"MacAddress": "02:42:ac:11:65:43"}),
        ("oom_kill_disable: true", {"OomKillDisable": True}),
        ("container_name: only", {"ContainerName": "only"}), ("pull_policy: always", {"PullPolicy": "always"}),
        ("pull_policy: daily", {"PullPolicy": "always"}), ("annotations: {a: b}", {"Annotations": {"a": "b"}}),
        ("device_cgroup_rules: ['c 1:3 mr']", {"DeviceCgroupRules": ["c 1:3 mr"]}),
        ("security_opt: [no-new-privileges:true]", {"SecurityOpt": ["no-new-privileges:true"]}),
        ("blkio_config: {weight: 300, device_read_bps: [{path: /dev/sda, rate: 1m}]}",
         {"BlkioWeight": 300, "BlkioDeviceReadBps": [{"Path": "/dev/sda", "Rate": 1048576}]}),
    ],
)  # fmt: skip
def test_key_beyond_swarm_reaches_the_engine(body: str, expected: Any, stack_of: StackOf) -> None:
    assert engine(stack_of, body) == expected


def test_seccomp_profile_is_sent_by_its_text(stack_of: StackOf) -> None:
    found = engine(
        stack_of, "security_opt: ['seccomp:./p.json', 'seccomp=unconfined']", files={"p.json": '{ "a": 1 }\n'}
    )
    assert found == {"SecurityOpt": ['seccomp={"a":1}', "seccomp=unconfined"]}


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ('restart: "no"', {"Condition": "none"}), ("restart: always", {"Condition": "any"}),
        ("restart: unless-stopped", {"Condition": "any"}), ("restart: on-failure", {"Condition": "on-failure"}),
        ("restart: on-failure:3", {"Condition": "on-failure", "MaxAttempts": 3}),
        ("restart: always\n    deploy: {restart_policy: {condition: none, delay: 1s}}",
         {"Condition": "none", "Delay": 10**9}),
    ],
)  # fmt: skip
def test_restart_is_a_policy_unless_deploy_has_one(body: str, expected: Any, stack_of: StackOf) -> None:
    assert service(stack_of, body)["TaskTemplate"]["RestartPolicy"] == expected


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("cpus: 1.5\n    mem_limit: 1g\n    mem_reservation: 512m\n    pids_limit: 10",
         {"Limits": {"NanoCPUs": 1500000000, "MemoryBytes": 2**30, "Pids": 10},
          "Reservations": {"MemoryBytes": 2**29}}),
        ("cpus: 4\n    deploy: {resources: {limits: {cpus: '1'}}}", {"Limits": {"NanoCPUs": 10**9}}),
        ("mem_limit: 1g\n    memswap_limit: 3g", {"Limits": {"MemoryBytes": 2**30}, "SwapBytes": 2**31}),
        ("memswap_limit: -1\n    mem_swappiness: 10", {"SwapBytes": -1, "MemorySwappiness": 10}),
        ("pids_limit: -1", {}),
    ],
)  # fmt: skip
def test_limits_of_a_service_are_resources(body: str, expected: Any, stack_of: StackOf) -> None:
    assert service(stack_of, body)["TaskTemplate"]["Resources"] == expected


def test_tmpfs_keys_are_mounts_with_their_options(stack_of: StackOf) -> None:
    found = container(stack_of, "tmpfs: [/run, '/x:size=5m,mode=1777,noexec,uid=5,ro']")["Mounts"]
    options = {"SizeBytes": 5242880, "Mode": 0o1777, "Options": [["noexec"], ["uid", "5"]]}
    assert found == [
        {"Type": "tmpfs", "Target": "/run"},
        {"Type": "tmpfs", "Target": "/x", "ReadOnly": True, "TmpfsOptions": options},
    ]


@pytest.mark.parametrize(
    ("mount", "expected"),
    [
        (
            "{type: bind, source: /a, target: /b, bind: {create_host_path: true}}",
            {"BindOptions": {"CreateMountpoint": True}},
        ),
        ("{type: bind, source: /a, target: /b, bind: {recursive: disabled}}", {"BindOptions": {"NonRecursive": True}}),
        (
            "{type: bind, source: /a, target: /b, bind: {recursive: readonly}}",
            {"BindOptions": {"ReadOnlyForceRecursive": True}},
        ),
        ("{type: image, source: i, target: /b, image: {subpath: s}}", {"ImageOptions": {"Subpath": "s"}}),
        ("{type: volume, target: /b, volume: {labels: {a: b}}}", {"VolumeOptions": {"Labels": {"a": "b"}}}),
        ("{type: tmpfs, target: /b, tmpfs: {mode: 01777}}", {"TmpfsOptions": {"Mode": 0o1777}}),
        ("{type: npipe, source: p, target: /b}", {}),
    ],
)
def test_mount_options_are_those_of_the_engine(mount: str, expected: Any, stack_of: StackOf) -> None:
    (found,) = container(stack_of, f"volumes: [{mount}]")["Mounts"]
    assert {key: value for key, value in found.items() if key.endswith("Options")} == expected


def test_other_container_fields_are_carried(stack_of: StackOf) -> None:
    body = "group_add: [1, audio]\n    oom_score_adj: -5\n    dns_opt: [use-vc]\n    "
    body += "healthcheck: {test: NONE, start_interval: 1s}"
    found = container(stack_of, body)
    assert (found["Groups"], found["OomScoreAdj"]) == (["1", "audio"], -5)
    assert found["DNSConfig"] == {"Options": ["use-vc"]}
    assert found["Healthcheck"]["StartInterval"] == 10**9


def test_ports_carry_address_and_application_protocol(stack_of: StackOf) -> None:
    found = service(stack_of, "ports: ['10.0.0.5:443:8443/http', {target: 5, name: five}]")["EndpointSpec"]["Ports"]
    assert found[1]["HostIP"] == "10.0.0.5"
    assert (found[1]["AppProtocol"], found[1]["Protocol"]) == ("http", "tcp")
    assert found[0]["Name"] == "five"


def test_platform_is_a_placement_on_system_and_architecture(stack_of: StackOf) -> None:
    found = service(stack_of, "platform: linux/arm64/v8")["TaskTemplate"]["Placement"]
    assert found["Platforms"] == [{"Architecture": "arm64", "OS": "linux"}]


def test_network_mode_joins_no_network_and_creates_none(stack_of: StackOf) -> None:
    found = stack_of("services: {a: {image: x, network_mode: host}}")
    assert found.networks == []
    assert found.services[0].task_template is not None
    assert found.services[0].task_template.networks is None


def test_data_comes_from_file_environment_and_content(stack_of: StackOf) -> None:
    text = """
services: {a: {image: x, secrets: [f, e, o], configs: [c, {source: p, target: /etc/p}]}}
secrets: {f: {file: f.txt}, e: {environment: VALUE}, o: {external: true, name: outer}}
configs: {c: {content: "port=${PORT}", labels: {a: b}}, p: {external: {name: old-style}}}
"""
    found = stack_of(text, files={"f.txt": "from file"}, env={"VALUE": "from env", "PORT": "80"})
    assert [(spec.name, spec.data) for spec in found.secrets] == [
        ("ns_f", b"from file"), ("ns_e", b"from env"),
    ]  # fmt: skip
    assert [(spec.name, spec.data) for spec in found.configs] == [("ns_c", b"port=80")]
    assert (found.external_secrets, found.external_configs) == (["outer"], ["old-style"])


def test_resolve_puts_in_the_ids_that_are_known(stack_of: StackOf) -> None:
    text = """
services: {a: {image: x, secrets: [s, t], credential_spec: {config: c}}}
secrets: {s: {environment: V}, t: {environment: V}}
configs: {c: {content: x}}
"""
    (spec,) = resolve(stack_of(text, env={"V": "v"}), {"ns_s": "id1"}, {"ns_c": "id2"}).services
    assert spec.task_template is not None
    assert spec.task_template.container_spec is not None
    found = spec.task_template.container_spec
    assert [secret.secret_id for secret in found.secrets or ()] == ["id1", None]
    assert [(config.config_id, config.runtime) for config in found.configs or ()] == [("id2", {})]
    assert found.privileges is not None
    assert found.privileges.credential_spec is not None
    assert found.privileges.credential_spec.config == "id2"


def test_services_stand_after_what_they_depend_on(stack_of: StackOf) -> None:
    text = """
services:
  web: {image: x, depends_on: {db: {condition: service_healthy}, once: {condition: service_completed_successfully}}}
  other: {image: x}
  once: {image: x, depends_on: [db]}
  db: {image: x}
"""
    found = stack_of(text)
    assert [spec.name for spec in found.services] == ["ns_db", "ns_once", "ns_web", "ns_other"]
    assert found.dependencies["ns_web"] == [
        Dependency("ns_db", "service_healthy"), Dependency("ns_once", "service_completed_successfully"),
    ]  # fmt: skip
    assert (found.services[2].labels or {})["com.essaim.stack.depends_on"] == "ns_db,ns_once"


def test_dependency_on_a_service_of_another_profile_is_dropped_if_not_required(stack_of: StackOf) -> None:
    text = """
services:
  a: {image: x, depends_on: {b: {condition: service_started, required: false}}}
  b: {image: x, profiles: [p]}
"""
    assert stack_of(text).dependencies == {}


@pytest.mark.parametrize(
    ("body", "condition"),
    [
        ("", "none"), (", restart: on-failure", "on-failure"), (", restart: always", "any"),
        (", deploy: {restart_policy: {condition: any}}", "any"), (", deploy: {replicas: 1}", "none"),
    ],
)  # fmt: skip
def test_service_that_is_waited_for_to_complete_is_not_restarted_unless_it_says_so(
    body: str, condition: str, stack_of: StackOf
) -> None:
    text = f"""
services:
  app:
    image: x
    depends_on: {{init: {{condition: service_completed_successfully}}, db: {{condition: service_started}}}}
  init: {{image: x{body}}}
  db: {{image: x}}
"""
    policies = {spec.name: spec.task_template.restart_policy for spec in stack_of(text).services if spec.task_template}
    policy = policies["ns_init"]
    assert policy is not None
    assert policy.condition == condition
    assert policies["ns_db"] is policies["ns_app"] is None


def test_keys_without_effect_are_said_once_with_the_first_place(stack_of: StackOf) -> None:
    text = """
services:
  a: {image: x, build: ., links: [b], attach: false, develop: {}}
  b:
    image: x
    build: .
"""
    built, linked = stack_of(text).warnings
    assert built.startswith("stack.yml:3:17: services.a.build: has no effect: Images are not built here: build and")
    assert built.endswith(" (also services.b.build)")
    assert linked.startswith("stack.yml:3:27: services.a.links: has no effect: Not needed: services on a common")


def test_many_places_of_one_key_are_counted(stack_of: StackOf) -> None:
    text = "services:" + "".join(f"\n  s{n}: {{image: x, build: .}}" for n in range(9))
    (warning,) = stack_of(text).warnings
    assert warning.endswith("(also services.s1.build, services.s2.build, services.s3.build and 5 more)")


def test_differences_are_said_where_the_value_makes_one(stack_of: StackOf) -> None:
    text = """
name: other
services:
  a: {image: x, pull_policy: daily, isolation: hyperv}
  b: {image: x, pull_policy: never, isolation: default, privileged: false, use_api_socket: false, volumes_from: []}
"""
    said = [warning.split(": ")[:3] for warning in stack_of(text).warnings]
    assert said == [
        ["stack.yml:4:17", "services.a.pull_policy", "is carried out with a difference"],
        ["stack.yml:4:37", "services.a.isolation", "is carried out with a difference"],
        ["stack.yml:2:1", "name", "is carried out with a difference"],
    ]
    assert stack_of("name: ns\nservices: {a: {image: x}}").warnings == []


def test_fixed_addresses_are_warned_about(stack_of: StackOf) -> None:
    text = "services: {a: {image: x, networks: {n: {ipv4_address: 10.0.0.9}}}}\nnetworks: {n: {}}"
    (warning,) = stack_of(text).warnings
    assert warning.startswith("stack.yml:1:41: services.a.networks.n.ipv4_address: has no effect: The cluster gives")


def test_bridge_of_a_single_host_becomes_an_overlay_with_a_warning(stack_of: StackOf) -> None:
    text = """
services: {a: {image: x, networks: [n]}}
networks: {n: {driver: bridge, driver_opts: {com.docker.network.bridge.name: br0, encrypted: ""}}}
"""
    found = stack_of(text)
    assert [(network.driver, network.options) for network in found.networks] == [("overlay", {"encrypted": ""})]
    (warning,) = found.warnings
    assert warning.startswith("stack.yml:3:16: networks.n.driver: is carried out with a difference: Kept as it is, but")


def test_network_options_are_carried(stack_of: StackOf) -> None:
    text = """
services: {a: {image: x, networks: {n: {driver_opts: {k: 1}}}}}
networks:
  n: {name: plain, driver: custom, attachable: true, internal: true, enable_ipv6: true, driver_opts: {a: 1},
      ipam: {driver: d, options: {o: p}, config: [{subnet: 10.0.0.0/24, gateway: 10.0.0.1,
      aux_addresses: {h: 10.0.0.2}}]}}
"""
    (found,) = stack_of(text).networks
    config = {"Subnet": "10.0.0.0/24", "Gateway": "10.0.0.1", "AuxiliaryAddresses": {"h": "10.0.0.2"}}
    assert (found.name, found.driver, found.attachable, found.internal) == ("plain", "custom", True, True)
    assert found.ipam == {"Driver": "d", "Options": {"o": "p"}, "Config": [config]}


@pytest.mark.parametrize(
    ("given", "image"),
    [
        ("nginx", "nginx:latest"), ("docker.io/library/nginx:1", "nginx:1"), ("library/nginx", "nginx:latest"),
        ("localhost:5000/a/b", "localhost:5000/a/b:latest"), ("localhost/a", "localhost/a:latest"),
        ("a/b@sha256:" + "0" * 64, "a/b@sha256:" + "0" * 64),
        ("r.io/a:v1@sha256:" + "0" * 64, "r.io/a:v1@sha256:" + "0" * 64),
        ("sha256:" + "0" * 64, "sha256:" + "0" * 64), ("index.docker.io/a/b:1", "a/b:1"),
    ],
)  # fmt: skip
def test_image_is_named_as_dockers_client_names_it(given: str, image: str) -> None:
    assert familiar_image(given) == image


@pytest.mark.parametrize("given", ["", "A", "a b", "a:", ":a", "a@b", "-a", "a//b", "UPPER/a", "a:" + "t" * 200])
def test_image_that_is_no_reference_is_refused(given: str) -> None:
    with pytest.raises(ValueError, match=r".*"):
        familiar_image(given)


@pytest.mark.parametrize(
    "mount", ["data:/x:z", "'data:/x:ro,Z'", "{type: volume, source: data, target: /x, bind: {selinux: z}}"]
)
def test_label_on_a_named_volume_is_warned_about_and_not_refused(mount: str, stack_of: StackOf) -> None:
    stack = stack_of(f"services: {{a: {{image: x, volumes: [{mount}]}}}}\nvolumes: {{data: {{}}}}")
    (found,) = stack.services[0].task_template.container_spec.mounts  # type: ignore[union-attr]
    assert (found.type, found.source, found.target, found.bind_options) == ("volume", "ns_data", "/x", None)
    (warning,) = stack.warnings
    assert "services.a.volumes[0].bind.selinux: has no effect" in warning


def test_variable_that_is_no_text_is_replaced_in_text_and_kept_in_secrets(stack_of: StackOf) -> None:
    text = "services: {a: {image: x, command: ['$V'], environment: [V]}}\nsecrets: {s: {environment: V}}"
    stack = stack_of(text, env={"V": os.fsdecode(b"a\xff")})
    container = stack.services[0].task_template.container_spec  # type: ignore[union-attr]
    assert (container.args, container.env) == (["a\ufffd"], ["V=a\ufffd"])  # type: ignore[union-attr]
    assert stack.secrets[0].data == b"a\xff"


def test_adding_a_capability_wins_over_dropping_it(stack_of: StackOf) -> None:
    stack = stack_of("services: {a: {image: x, cap_add: [net_admin, KILL], cap_drop: [CAP_NET_ADMIN, MKNOD]}}")
    container = stack.services[0].task_template.container_spec  # type: ignore[union-attr]
    assert (container.capability_add, container.capability_drop) == (  # type: ignore[union-attr]
        ["CAP_KILL", "CAP_NET_ADMIN"],
        ["CAP_MKNOD"],
    )


@pytest.mark.parametrize(
    ("given", "policy"),
    [
        *((name, "always") for name in ("always", "refresh", "daily", "weekly", "every_12h")),
        *((name, "missing") for name in ("missing", "build")), ("if_not_present", "if_not_present"), ("never", "never"),
    ],
)  # fmt: skip
def test_pull_policy_is_one_that_a_node_knows(given: str, policy: str, stack_of: StackOf) -> None:
    stack = stack_of(f"services: {{a: {{image: x, pull_policy: {given}}}}}")
    options = stack.services[0].task_template.container_spec.engine_options  # type: ignore[union-attr]
    assert options.pull_policy == policy  # type: ignore[union-attr]


@pytest.mark.parametrize("mode", ["'1777'", "0o1777", "01777", "1023"])
def test_mode_of_a_tmpfs_is_octal_in_quotes_and_as_yaml_reads_it_without(mode: str, stack_of: StackOf) -> None:
    stack = stack_of(f"services: {{a: {{image: x, volumes: [{{type: tmpfs, target: /t, tmpfs: {{mode: {mode}}}}}]}}}}")
    (mount,) = stack.services[0].task_template.container_spec.mounts  # type: ignore[union-attr]
    assert mount.tmpfs_options.mode == 0o1777
