"""Every key of both schemas, in every form that they allow: what becomes of it is what the table says.

A key that is carried out must be seen in what is deployed; one without effect must not be, and must be said; one that
is refused must be an error at its place. So no key can be dropped in silence.
"""

import copy
import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from essaim.stacks.check.schema import compose_schema
from essaim.stacks.check.support import Answer, answer_to
from essaim.stacks.convert.convert import Stack, convert
from essaim.stacks.read.load import Source, load
from essaim.stacks.source.errors import StackError

from .conftest import MemoryFiles

STACK_FILE = Path(__file__).parent / "schemas" / "stack-file-v3.13.json"
SCHEMAS = {"compose": compose_schema(), "stack": json.loads(STACK_FILE.read_text())}

BASE: dict[str, Any] = {
    "services": {"a": {"image": "x"}, "b": {"image": "y"}},
    "networks": {"n": {}},
    "volumes": {"v": {}},
    "secrets": {"s": {"environment": "E"}},
    "configs": {"c": {"content": "t"}},
}
OF_THE_USER = {
    "services": "a", "networks": "n", "volumes": "v", "secrets": "s", "configs": "c", "ulimits": "nofile",
    "depends_on": "b", "models": "m",
}  # fmt: skip
USES: dict[str, Any] = {
    "services.NAME.networks": ["n"],
    "services.NAME.volumes": [{"type": "volume", "source": "v", "target": "/v"}],
    "services.NAME.secrets": ["s"],
    "services.NAME.configs": ["c"],
}
"""What must be there for a key of a network, volume, secret or config to matter."""

AROUND: dict[str, dict[str, Any]] = {
    "services.NAME.depends_on.NAME": {"condition": "service_started"},
    "services.NAME.secrets[]": {"source": "s"},
    "services.NAME.configs[]": {"source": "c"},
    "services.NAME.ports[]": {"target": 80},
    "services.NAME.devices[]": {"source": "/dev/a"},
    "services.NAME.env_file[]": {"path": "e"},
    "services.NAME.ulimits.NAME": {"soft": 1, "hard": 2},
    "services.NAME.gpus[]": {"driver": "d"},
    "services.NAME.extends": {"service": "b"},
    "services.NAME.deploy.resources.reservations.devices[]": {"capabilities": ["gpu"]},
    "services.NAME.deploy.resources.reservations.generic_resources[].discrete_resource_spec": {"kind": "k", "value": 1},
    "services.NAME.blkio_config.weight_device[]": {"path": "/dev/a", "weight": 10},
    "services.NAME.develop.watch[]": {"path": ".", "action": "sync"},
    "services.NAME.provider": {"type": "t"},
    "services.NAME.post_start[]": {"command": "x"},
    "services.NAME.pre_stop[]": {"command": "x"},
    "services.NAME.models.NAME": {},
    "models.NAME": {"model": "m"},
    "include[]": {"path": ["inc.yml"]},
    "services.NAME.develop.watch[].exec": {"command": "x"},
    "services.NAME.build.ulimits.NAME": {"soft": 1, "hard": 2},
}  # fmt: skip
SOURCES = ("file", "environment", "content", "external", "driver", "driver_opts")
"""Keys that must stand beside, in the object at a path."""
MOUNTS = {
    "volume": {"type": "volume", "source": "v"},
    "bind": {"type": "bind", "source": "/s"},
    "tmpfs": {"type": "tmpfs"},
    "image": {"type": "image", "source": "i"},
}
for kind in ("device_read_bps", "device_read_iops", "device_write_bps", "device_write_iops"):
    AROUND[f"services.NAME.blkio_config.{kind}[]"] = {"path": "/dev/a", "rate": 10}

D, S, B = "10s", "64m", "/dev/b"
VALUES: dict[str, list[Any]] = {
    "include": [["inc.yml"], [{"path": "inc.yml"}]],
    "include[].path": ["inc.yml", ["inc.yml", "inc2.yml"]],
    "include[].env_file": ["e", ["e"]],
    "include[].project_directory": ["sub"],
    "name": ["other"], "version": ["3.9"],
    "models": [{"m": {"model": "m"}}],
    "services": [{"c": {"image": "z"}}], "networks": [{"z": {}}], "volumes": [{"z": {}}],
    "secrets": [{"z": {"external": True}}], "configs": [{"z": {"external": True}}],
    "configs.NAME.content": ["other"], "configs.NAME.environment": ["E"], "configs.NAME.file": ["f"],
    "secrets.NAME.template_driver": ["golang"], "configs.NAME.template_driver": ["golang"],
    "secrets.NAME.environment": ["F"], "secrets.NAME.file": ["f"],
    "secrets.NAME.driver_opts": [{"a": "b"}, {"a": 1}],
    "configs.NAME.external": [True, {"name": "z"}], "secrets.NAME.external": [True, {"name": "z"}],
    "networks.NAME.external": [True, {"name": "z"}], "volumes.NAME.external": [True, {"name": "z"}],
    "networks.NAME.driver": ["bridge"], "networks.NAME.enable_ipv4": [False],
    "networks.NAME.driver_opts": [{"a": "b"}, {"a": 1}], "volumes.NAME.driver_opts": [{"a": "b"}, {"a": 1}],
    "networks.NAME.ipam.config": [[{"subnet": "10.9.0.0/24"}]],
    "networks.NAME.ipam": [{"driver": "d"}],
    "networks.NAME.ipam.config[].aux_addresses": [{"h": "10.9.0.2"}],
    "networks.NAME.ipam.config[].gateway": ["10.9.0.1", "fd00::1"],
    "networks.NAME.ipam.config[].ip_range": ["10.9.0.128/25"],
    "networks.NAME.ipam.config[].subnet": ["10.9.0.0/24", "fd00::/64"],
    "networks.NAME.ipam.options": [{"a": "b"}],
    "volumes.NAME.x-cluster-spec": [{"group": "g"}],
    "services.NAME.blkio_config": [{"weight": 10}],
    "services.NAME.configs": [["c"], [{"source": "c"}]], "services.NAME.secrets": [["s"], [{"source": "s"}]],
    "services.NAME.configs[].source": ["c2"], "services.NAME.secrets[].source": ["s2"],
    "services.NAME.container_name": ["only"],
    "services.NAME.cpu_rt_period": ["100ms", 5], "services.NAME.cpu_rt_runtime": ["100ms", 5],
    "services.NAME.cpus": ["0.5", 0.5],
    "services.NAME.cpu_period": ["50ms", "50000", 50000], "services.NAME.cpu_quota": ["25ms", "25000", -1],
    "services.NAME.credential_spec": [{"file": "f"}], "services.NAME.credential_spec.config": ["c"],
    "services.NAME.depends_on": [["b"], {"b": {"condition": "service_healthy"}}],
    "services.NAME.depends_on.NAME.required": [False],
    "services.NAME.deploy": [{"replicas": 2}],
    "services.NAME.deploy.placement": [{"constraints": ["node.role==worker"]}],
    "services.NAME.deploy.placement.constraints": [["node.role==worker"]],
    "services.NAME.deploy.placement.preferences": [[{"spread": "node.labels.a"}]],
    "services.NAME.deploy.resources": [{"limits": {"cpus": "1"}}],
    "services.NAME.deploy.resources.limits": [{"cpus": "1"}],
    "services.NAME.deploy.resources.limits.cpus": ["0.5", 0.5],
    "services.NAME.deploy.resources.limits.memory": [S],
    "services.NAME.deploy.resources.reservations": [{"cpus": "1"}],
    "services.NAME.deploy.resources.reservations.cpus": ["0.5", 0.5],
    "services.NAME.deploy.resources.reservations.memory": [S],
    "services.NAME.deploy.resources.reservations.devices": [[{"capabilities": ["gpu"]}]],
    "services.NAME.deploy.resources.reservations.devices[].count": [2, "3"],
    "services.NAME.deploy.resources.reservations.generic_resources": [
        [{"discrete_resource_spec": {"kind": "k", "value": 1}}]
    ],
    "services.NAME.deploy.resources.reservations.generic_resources[].discrete_resource_spec": [
        {"kind": "k", "value": 1}
    ],
    "services.NAME.deploy.restart_policy": [{"condition": "none"}],
    "services.NAME.deploy.restart_policy.delay": [D], "services.NAME.deploy.restart_policy.window": [D],
    "services.NAME.deploy.restart_policy.condition": ["none"],
    "services.NAME.deploy.update_config": [{"delay": D}], "services.NAME.deploy.rollback_config": [{"delay": D}],
    **{
        f"services.NAME.deploy.{kind}_config.{key}": values
        for kind in ("update", "rollback")
        for key, values in {
            "delay": [D], "monitor": [D], "failure_action": ["continue"], "max_failure_ratio": [0.5, "0.5"],
            "parallelism": [3, "3"],
        }.items()
    },
    "services.NAME.deploy.mode": ["global", "replicated-job", "global-job"],
    "services.NAME.deploy.endpoint_mode": ["dnsrr"],
    "services.NAME.develop.watch": [[{"path": ".", "action": "sync"}]],
    "services.NAME.develop.watch[].exec": [{"command": "x"}],
    "services.NAME.develop": [{"watch": [{"path": ".", "action": "sync"}]}],
    "services.NAME.devices": [["/dev/a:/dev/b:r"], [{"source": "/dev/a"}]],
    "services.NAME.devices[].permissions": ["r"],
    "services.NAME.dns": ["1.1.1.1", ["1.1.1.1", "8.8.8.8"]],
    "services.NAME.env_file": ["e", ["e"], [{"path": "e"}]], "services.NAME.env_file[].path": ["e2"],
    "services.NAME.env_file[].format": ["raw"],
    "services.NAME.expose": [["80"], [80], ["80-81/udp"]],
    "services.NAME.extends": ["b", {"service": "b"}],
    "services.NAME.extends.service": ["b2"], "services.NAME.extends.file": ["inc.yml"],
    "services.NAME.extra_hosts": [["h:1.2.3.4"], {"h": "1.2.3.4"}, {"h": ["1.2.3.4", "::1"]}],
    "services.NAME.gpus": ["all", [{"count": 1}]], "services.NAME.gpus[].count": [2, "3"],
    "services.NAME.healthcheck": [{"test": "x"}],
    "services.NAME.healthcheck.test": ["x", ["CMD", "x"], ["CMD-SHELL", "x"], ["NONE"]],
    **{f"services.NAME.healthcheck.{key}": [D] for key in ("interval", "timeout", "start_period", "start_interval")},
    "services.NAME.image": ["other"],
    "services.NAME.isolation": ["hyperv"],
    "services.NAME.ipc": ["host", "shareable"], "services.NAME.pid": ["host"],
    "services.NAME.label_file": ["l", ["l"]],
    "services.NAME.logging": [{"driver": "local"}],
    "services.NAME.mem_limit": [S, 8388608], "services.NAME.mem_reservation": [S, 8388608],
    "services.NAME.memswap_limit": [-1, "-1"], "services.NAME.mem_swappiness": [10, "10"],
    "services.NAME.models": [["m"], {"m": {}}],
    "services.NAME.network_mode": ["host", "none", "bridge"],
    "services.NAME.networks": [["n"], {"n": None}, {"n": {"aliases": ["z"]}}],
    "services.NAME.pids_limit": [5, "5"],
    "services.NAME.ports": [["80:80"], [80], ["80"], [{"target": 80}]],
    "services.NAME.ports[].app_protocol": ["http"], "services.NAME.ports[].host_ip": ["10.0.0.1"],
    "services.NAME.ports[].mode": ["host"], "services.NAME.ports[].protocol": ["udp"],
    "services.NAME.ports[].published": ["81", 81, "81-82"], "services.NAME.ports[].target": [90, "90"],
    "services.NAME.profiles": [["p"]],
    "services.NAME.provider": [{"type": "t"}],
    "services.NAME.post_start": [[{"command": "x"}]], "services.NAME.pre_stop": [[{"command": "x"}]],
    "services.NAME.pull_policy": ["daily", "build", "every_1h"],
    "services.NAME.restart": ["always", "no", "unless-stopped", "on-failure:3"],
    "services.NAME.scale": [3, "3"],
    "services.NAME.security_opt": [["no-new-privileges:true"]],
    "services.NAME.shm_size": [S, 100],
    "services.NAME.stop_grace_period": [D],
    "services.NAME.tmpfs": ["/t", ["/t"]],
    "services.NAME.ulimits": [{"nofile": 5}, {"nofile": {"soft": 1, "hard": 2}}],
    "services.NAME.ulimits.NAME.soft": [7, "7"], "services.NAME.ulimits.NAME.hard": [7, "7"],
    "services.NAME.volumes": [["v:/t"], ["/s:/t"], ["/t"], [{"type": "bind", "source": "/s", "target": "/t"}]],
    "services.NAME.volumes[].type": ["npipe"], "services.NAME.volumes[].source": ["v2"],
    "services.NAME.volumes[].bind": [{"propagation": "shared"}],
    "services.NAME.volumes[].bind.propagation": ["shared"], "services.NAME.volumes[].bind.recursive": ["disabled"],
    "services.NAME.volumes[].bind.selinux": ["z"],
    "services.NAME.volumes[].tmpfs": [{"size": 5}], "services.NAME.volumes[].tmpfs.size": [5, "5m"],
    "services.NAME.volumes[].tmpfs.mode": [5, "0755"],
    "services.NAME.volumes[].volume": [{"nocopy": True}], "services.NAME.volumes[].image": [{"subpath": "s"}],
    "services.NAME.volumes[].consistency": ["cached"],
    "services.NAME.volumes_from": [["b"]],
    "services.NAME.use_api_socket": [True],
    "services.NAME.build": [".", {"context": "."}],
    "services.NAME.blkio_config.weight_device": [[{"path": "/dev/a", "weight": 10}]],
    **{
        f"services.NAME.blkio_config.{kind}": [[{"path": "/dev/a", "rate": 10}]]
        for kind in ("device_read_bps", "device_read_iops", "device_write_bps", "device_write_iops")
    },
    **{
        f"services.NAME.blkio_config.{kind}[].rate": ["1m" if kind.endswith("bps") else 11, 12]
        for kind in ("device_read_bps", "device_read_iops", "device_write_bps", "device_write_iops")
    },
}  # fmt: skip
"""Where a value of the type alone would not be understood."""

GENERIC: dict[str, Any] = {
    "string": "text", "integer": 3, "number": 3, "boolean": True, "array": ["text"], "object": {"key": "text"},
}  # fmt: skip
NO_TRACE = {
    "version": "says nothing",
    "services.NAME.env_file[].required": "seen where the file is missing (test_forms.py)",
    "services.NAME.env_file[].format": "seen where lines differ (test_forms.py)",
    "services.NAME.depends_on.NAME.condition": "stands in every dependency (tests below)",
    "include[].path": "stands in every include",
    "include[].env_file": "test_merge.py",
    "include[].project_directory": "test_merge.py",
    "volumes": "a volume that no service mounts is not made",
    "networks": "a network that no service joins is not made",
    "secrets": "an external secret that no service uses is not asked for",
    "configs": "an external config that no service uses is not asked for",
}  # fmt: skip
FILES = {"e": "V=1\n", "e2": "V=2\n", "f": "data", "l": "k=v\n", "inc.yml": "services: {b: {image: z}}",
         "inc2.yml": "services: {c: {image: z}}"}  # fmt: skip


def keys(schema: Mapping[str, Any], root: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Every key's path, with the schema of what stands there."""
    if "$ref" in schema:
        yield from keys(root["definitions"][schema["$ref"].rpartition("/")[2]], root, path)
        return
    for alternative in schema.get("oneOf", schema.get("anyOf", ())):
        yield from keys(alternative, root, path)
    for key, below in schema.get("properties", {}).items():
        yield f"{path}.{key}".lstrip("."), below
        yield from keys(below, root, f"{path}.{key}".lstrip("."))
    for pattern, below in schema.get("patternProperties", {}).items():
        if not pattern.startswith("^x-"):
            yield from keys(below, root, f"{path}.NAME")
    if isinstance(schema.get("additionalProperties"), dict) and "patternProperties" not in schema:
        yield from keys(schema["additionalProperties"], root, f"{path}.NAME")
    if "items" in schema:
        yield from keys(schema["items"], root, f"{path}[]")


def types(schema: Mapping[str, Any], root: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """The types that a schema allows."""
    if "$ref" in schema:
        yield from types(root["definitions"][schema["$ref"].rpartition("/")[2]], root)
        return
    for alternative in schema.get("oneOf", schema.get("anyOf", ())):
        yield from types(alternative, root)
    kinds = schema.get("type", [])
    for kind in [kinds] if isinstance(kinds, str) else kinds:
        yield kind, schema


def samples(path: str, schema: Mapping[str, Any], root: Mapping[str, Any]) -> list[Any]:
    if path in VALUES:
        return VALUES[path]
    found = []
    kinds = {kind for kind, _ in types(schema, root)}
    written = "true" if "boolean" in kinds else "3" if kinds & {"integer", "number"} else "text"
    for kind, own in types(schema, root):
        if "enum" in own:
            found += list(own["enum"])
        elif kind == "array" and own.get("items", {}).get("type") == "object":
            found.append([{}])
        elif kind in GENERIC:
            found.append(written if kind == "string" else GENERIC[kind])
    return found


def all_keys() -> dict[str, list[Any]]:
    found: dict[str, list[Any]] = {}
    for root in SCHEMAS.values():
        for path, schema in keys(root, root):
            found.setdefault(path, samples(path, schema, root))
    return found


KEYS = all_keys()


def file_without(path: str) -> tuple[dict[str, Any], Any]:
    """A file in which all that a key needs is there, and the object that the key goes into."""
    file = copy.deepcopy(BASE)
    if "extends" in path:
        file["services"] = {"a": {"image": "x"}, "b": {"image": "y", "user": "u"}, "b2": {"image": "w", "user": "w"}}
    if path.startswith("include"):
        del file["services"]["b"]
    if path == "networks.NAME.driver":
        file["networks"]["n"]["driver"] = "other"
    for name, where in (("v2", "volumes"), ("c2", "configs"), ("s2", "secrets")):
        file[where][name] = copy.deepcopy(BASE[where][name[0]])
    section = path.split(".")[0]
    if section in ("networks", "volumes", "secrets", "configs") and "." in path:
        file["services"]["a"][section] = copy.deepcopy(USES[f"services.NAME.{section}"])
    here: Any = file
    walked = ""
    of_mount = next((kind for kind in MOUNTS if path.startswith(f"services.NAME.volumes[].{kind}")), "volume")
    parts = path.replace("[]", ".[]").split(".")
    for at, part in enumerate(parts[:-1]):
        walked = f"{walked}[]" if part == "[]" else f"{walked}.{part}".lstrip(".")
        around = copy.deepcopy(AROUND.get(walked, {}))
        following = parts[at + 1]
        if walked == "services.NAME.volumes[]":
            around = {"target": "/t", **MOUNTS[of_mount]}
        if part == "[]":
            here.append(around)
            here = here[-1]
        else:
            name = OF_THE_USER.get(parts[at - 1], "key") if part == "NAME" else part
            here = here.setdefault(name, [] if following == "[]" else around)
            if isinstance(here, dict):
                here.update(around)
    return file, here


def deployed(file: dict[str, Any]) -> Stack:
    env = {"E": "value", "F": "other"}
    document = load([Source("f.yml", yaml.safe_dump(file))], env, Path("/project"), (), MemoryFiles(FILES))
    return convert(document, "ns")


def with_key(path: str, value: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """The file without and with the key."""
    file, here = file_without(path)
    before = copy.deepcopy(file)
    key = path.rpartition(".")[2]
    if path in ("services", "networks", "volumes", "secrets", "configs"):
        here[key] = here[key] | value
    else:
        if path.startswith(("secrets.NAME.", "configs.NAME.")) and path.split(".")[2] in SOURCES:
            file[path.split(".")[0]][OF_THE_USER[path.split(".")[0]]] = here = {}
            if path.endswith("external.name"):
                here = here.setdefault("external", {})
                before = copy.deepcopy(file)
            if key == "driver_opts":
                here["driver"] = "vault"
        here[key] = value
    return before, file


CASES = [(path, value) for path, values in sorted(KEYS.items()) for value in values]


def test_every_key_of_both_schemas_has_an_answer_and_a_sample() -> None:
    assert len(KEYS) > 350
    assert [path for path in KEYS if answer_to(path) is None] == []
    assert [path for path, values in KEYS.items() if not values] == []


def check_refused(path: str, file: dict[str, Any]) -> None:
    with pytest.raises(StackError) as caught:
        deployed(file)
    shown = path.replace("NAME", OF_THE_USER[path.split(".")[0]], 1).partition("[]")[0]
    assert any(problem.path and shown.startswith(problem.path) for problem in caught.value.problems)


@pytest.mark.parametrize(("path", "value"), CASES, ids=[f"{path}={str(value)[:30]}" for path, value in CASES])
def test_key_becomes_what_the_table_says(path: str, value: Any) -> None:
    support = answer_to(path)
    assert support is not None
    before, file = with_key(path, value)
    if support.answer is Answer.REFUSED:
        check_refused(path, file)
        return
    with_it, without_it = deployed(file), deployed(before)
    said = [warning for warning in with_it.warnings if warning not in without_it.warnings]
    trace = replace(with_it, warnings=[]) != replace(without_it, warnings=[])
    if support.answer is Answer.CARRIED:
        assert said == []
        assert trace or path in NO_TRACE
        return
    assert trace == (support.answer is Answer.DIFFERS and path != "name")
    if path.count(".") < 3:
        assert any(path.rpartition(".")[2] in warning and support.note in warning for warning in said), said
        assert all(warning.startswith("f.yml:") for warning in said)


@pytest.mark.parametrize("condition", ["service_started", "service_healthy", "service_completed_successfully"])
def test_every_condition_is_handed_on(condition: str) -> None:
    file = copy.deepcopy(BASE)
    file["services"]["a"]["depends_on"] = {"b": {"condition": condition}}
    (need,) = deployed(file).dependencies["ns_a"]
    assert need.condition == condition
