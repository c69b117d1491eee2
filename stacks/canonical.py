"""The canonical form of a Compose file: every key in its long spelling, with typed values and absolute paths.

What comes out is what merging, `extends`, `essaim stack config` and the conversion work on: durations are
`Duration`, sizes `Size`, environments and labels mappings, ports and mounts lists of mappings.

Pure: paths are only computed, nothing is read.
"""

from functools import cached_property
from pathlib import Path as FilePath

from . import volumes
from .files import absolute
from .forms import (
    boolean,
    build,
    cpus,
    duration,
    each,
    integer,
    mapping,
    microseconds,
    number,
    octal,
    one_of,
    record,
    same,
    size,
    text,
    texts,
    words,
)
from .ports import canonical_ports
from .tree import Node, Path, Problems, Transform

UPDATE: dict[str, Transform] = {
    "parallelism": integer,
    "delay": duration,
    "failure_action": one_of("continue", "pause", "rollback"),
    "monitor": duration,
    "max_failure_ratio": number,
    "order": one_of("start-first", "stop-first"),
}
ROLLBACK = UPDATE | {"failure_action": one_of("continue", "pause")}
DEVICE_REQUEST: dict[str, Transform] = {
    "capabilities": texts, "device_ids": texts, "options": mapping,
    "count": lambda node, path, problems: node if node.value == "all" else integer(node, path, problems),
}  # fmt: skip
DISCRETE = record({"discrete_resource_spec": record({"kind": text, "value": integer})})
RESOURCES = record(
    {
        "limits": record({"cpus": cpus, "memory": size, "pids": integer}),
        "reservations": record(
            {
                "cpus": cpus,
                "memory": size,
                "generic_resources": each(DISCRETE),
                "devices": each(record(DEVICE_REQUEST)),
            }
        ),
    }
)
DEPLOY = record(
    {
        "mode": one_of("replicated", "global", "replicated-job", "global-job"),
        "endpoint_mode": one_of("vip", "dnsrr"),
        "replicas": integer,
        "labels": mapping,
        "update_config": record(UPDATE),
        "rollback_config": record(ROLLBACK),
        "resources": RESOURCES,
        "restart_policy": record(
            {
                "condition": one_of("none", "on-failure", "any"),
                "delay": duration,
                "max_attempts": integer,
                "window": duration,
            }
        ),
        "placement": record({"constraints": texts, "max_replicas_per_node": integer}),
    }
)
CHECK_TIMES: dict[str, Transform] = dict.fromkeys(("interval", "timeout", "start_period", "start_interval"), duration)


def check_test(node: Node, path: Path, problems: Problems) -> Node:
    """A health check's command: a string is a shell's line."""
    if isinstance(node.value, str):
        return node.like([node.like("CMD-SHELL"), node] if node.value else [])
    found = texts(node, path, problems)
    first = found.value[0].value if found.value else "NONE"
    if first not in ("NONE", "CMD", "CMD-SHELL"):
        problems.add(node.place, path, f'the list starts with "{first}"', ("NONE", "CMD", "CMD-SHELL"), str(first))
    return found


def names(node: Node, path: Path, problems: Problems) -> Node:
    """`[a, b]` as `{a: null, b: null}`."""
    if not isinstance(node.value, list):
        return each(record({"driver_opts": options}))(node, path, problems)
    return node.like({str(item.value): Node(None, item.place, item.place) for item in node.value})


def depends_on(node: Node, path: Path, problems: Problems) -> Node:
    if isinstance(node.value, list):
        default = {"condition": "service_started", "required": True}
        return node.like({str(item.value): build(default, item) for item in node.value})
    found = {}
    for key, child in node.value.items():
        entry = record({"restart": boolean, "required": boolean})(child, (path, key), problems)
        found[key] = child.like({"required": child.like(True)} | entry.value)
    return node.like(found)


def hosts(node: Node, path: Path, problems: Problems) -> Node:
    """`HOST:ADDRESS` strings, of `{host: address}`, `{host: [address]}`, `host=address`, `host:address`."""
    found: list[Node] = []
    if isinstance(node.value, dict):
        for key, child in node.value.items():
            addresses = child.value if isinstance(child.value, list) else [child]
            if not key.strip() or not all(address.value for address in addresses):
                problems.add(child.place, (path, key), "must be an address")
            lines = dict.fromkeys(f"{key}:{address.value}" for address in addresses)
            found += [child.like(line) for line in lines]
        return node.like(found)
    for index, item in enumerate(node.value):
        line = str(item.value)
        separator = "=" if "=" in line else ":"
        host, found_separator, address = line.partition(separator)
        if not (host.strip() and found_separator and address.strip()):
            problems.add(item.place, (path, index), f'must be HOST:ADDRESS or HOST=ADDRESS, found "{line}"')
        found.append(item.like(f"{host.strip()}:{address.strip().removeprefix('[').removesuffix(']')}"))
    return node.like(found)


def references(node: Node, path: Path, problems: Problems) -> Node:
    """Secrets and configs of a service."""
    found = []
    for index, item in enumerate(node.value or ()):
        if not isinstance(item.value, dict):
            found.append(item.like({"source": text(item, path, problems)}))
            continue
        if "source" not in item.value:
            problems.add(item.place, (path, index), '"source" is missing')
        found.append(record({"uid": text, "gid": text, "mode": octal})(item, (path, index), problems))
    return node.like(found)


def devices(node: Node, path: Path, problems: Problems) -> Node:
    """`SOURCE[:TARGET[:PERMISSIONS]]` or the long form."""
    found = []
    for item in node.value or ():
        if isinstance(item.value, dict):
            entry = item.value
        else:
            parts = str(item.value).split(":")
            if len(parts) == 2 and parts[1] and set(parts[1]) <= set("rwm"):
                parts = [parts[0], parts[0], parts[1]]
            keys = ("source", "target", "permissions")
            entry = {key: item.like(part) for key, part in zip(keys, parts, strict=False)}
        entry = {"target": entry["source"], "permissions": item.like("rwm")} | entry
        found.append(item.like({key: entry[key] for key in ("source", "target", "permissions")}))
    return node.like(found)


def ulimits(node: Node, path: Path, problems: Problems) -> Node:
    def limit(child: Node, below: Path, problems: Problems) -> Node:
        if isinstance(child.value, dict):
            return record({"soft": integer, "hard": integer})(child, below, problems)
        return integer(child, below, problems)

    return each(limit)(node, path, problems)


def gpus(node: Node, path: Path, problems: Problems) -> Node:
    if isinstance(node.value, str):
        return build([{"count": -1, "capabilities": ["gpu"]}], node)
    return each(record(DEVICE_REQUEST))(node, path, problems)


def build_section(node: Node, path: Path, problems: Problems) -> Node:
    return node.like({"context": node}) if isinstance(node.value, str) else node


def logging(node: Node, path: Path, problems: Problems) -> Node:
    return record({"options": options})(node, path, problems)


def options(node: Node, path: Path, problems: Problems) -> Node:
    """A driver's options: one without a value is empty."""
    found = mapping(node, path, problems)
    return found.like({key: child if child.value is not None else child.like("") for key, child in found.value.items()})


def plain_size(node: Node, path: Path, problems: Problems) -> Node:
    """A size that prints as a number of bytes."""
    found = size(node, path, problems)
    return found if found.value is None else found.like(int(found.value))


SERVICE: dict[str, Transform] = {
    "annotations": mapping,
    "attach": boolean,
    "blkio_config": record(
        {
            "weight": integer,
            "weight_device": each(record({"weight": integer})),
            "device_read_bps": each(record({"rate": size})),
            "device_write_bps": each(record({"rate": size})),
            "device_read_iops": each(record({"rate": integer})),
            "device_write_iops": each(record({"rate": integer})),
        }
    ),
    "build": build_section,
    "cap_add": texts, "cap_drop": texts,
    "command": words, "entrypoint": words,
    "configs": references, "secrets": references,
    "cpu_count": integer, "cpu_percent": integer, "cpu_shares": integer, "cpu_quota": integer, "cpu_period": integer,
    "cpu_rt_period": microseconds,
    "cpu_rt_runtime": microseconds,
    "cpus": cpus,
    "depends_on": depends_on,
    "deploy": DEPLOY,
    "device_cgroup_rules": texts,
    "devices": devices,
    "dns": texts, "dns_opt": texts, "dns_search": texts,
    "environment": mapping,
    "expose": texts, "external_links": texts,
    "extends": lambda node, path, problems: node if isinstance(node.value, dict) else node.like({"service": node}),
    "extra_hosts": hosts,
    "gpus": gpus,
    "group_add": texts,
    "healthcheck": record({"test": check_test, "disable": boolean, "retries": integer, **CHECK_TIMES}),
    "hostname": text,
    "init": boolean,
    "labels": mapping,
    "links": texts,
    "logging": logging,
    "mem_limit": size, "mem_reservation": size, "memswap_limit": size, "mem_swappiness": integer,
    "networks": names,
    "oom_kill_disable": boolean, "oom_score_adj": integer,
    "pids_limit": integer,
    "ports": canonical_ports,
    "privileged": boolean, "read_only": boolean,
    "profiles": texts,
    "scale": integer,
    "security_opt": texts,
    "shm_size": size,
    "stdin_open": boolean, "tty": boolean,
    "stop_grace_period": duration,
    "storage_opt": mapping,
    "sysctls": mapping,
    "tmpfs": texts,
    "ulimits": ulimits,
    "use_api_socket": boolean,
    "user": text,
    "volumes_from": texts,
}  # fmt: skip


def external(node: Node, path: Path, problems: Problems) -> Node:
    """`external: {name: N}` as `external: true` with `name: N`."""
    if not isinstance(node.value, dict):
        return node
    found = node.value.get("external")
    if found is None or found.value is None:
        return node
    if isinstance(found.value, dict):
        name = found.value.get("name")
        outer = node.value.get("name")
        if name is not None and outer is not None and outer.value != name.value:
            problems.add(name.place, (path, "external"), "name and external.name exclude each other; use name")
        return node.like(node.value | {"external": found.like(True)} | ({"name": name} if name else {}))
    return node.like(node.value | {"external": boolean(found, (path, "external"), problems)})


class Canonical:
    """Forms of a whole file whose relative paths start at `base`."""

    def __init__(self, base: FilePath) -> None:
        self.base = base

    def path(self, node: Node, path: Path, problems: Problems) -> Node:
        return node if node.value is None else node.like(str(absolute(self.base, str(node.value))))

    def env_files(self, node: Node, path: Path, problems: Problems) -> Node:
        items = node.value if isinstance(node.value, list) else [Node(node.value, node.place)]
        found = []
        for item in items:
            entry = item.value if isinstance(item.value, dict) else {"path": item}
            form = entry.get("format")
            if form is not None and form.value not in ("raw", "compose", "", None):
                problems.add(form.place, (path, "format"), f'found "{form.value}"', ("raw", "compose"))
            found.append(item.like(entry | {"path": self.path(entry["path"], path, problems)}))
        return node.like([record({"required": boolean})(item, path, problems) for item in found])

    def label_files(self, node: Node, path: Path, problems: Problems) -> Node:
        found = texts(node, path, problems)
        return found.like([self.path(item, path, problems) for item in found.value])

    def volumes(self, node: Node, path: Path, problems: Problems) -> Node:
        found = []
        for index, item in enumerate(node.value or ()):
            if isinstance(item.value, dict):
                entry = self.long_volume(item, (path, index), problems)
            else:
                try:
                    entry = build(volumes.parse_short(str(item.value)), item)
                except volumes.VolumeError as error:
                    problems.add(item.place, (path, index), str(error))
                    continue
            source = entry.get("source")
            if source is not None and entry.value["type"].value == "bind":
                entry = entry.like(entry.value | {"source": self.source(source)})
            found.append(entry)
        return node.like(found)

    def security_options(self, node: Node, path: Path, problems: Problems) -> Node:
        """`seccomp=FILE` names a file beside the stack file."""
        found = []
        for item in texts(node, path, problems).value:
            name, separator, rest = str(item.value).partition("=" if "=" in str(item.value) else ":")
            if name == "seccomp" and separator and rest != "unconfined" and not rest.startswith("{"):
                item = item.like(f"seccomp={absolute(self.base, rest)}")
            found.append(item)
        return node.like(found)

    def source(self, node: Node) -> Node:
        """A bind mount's source. Absolute paths and templates stay as they are."""
        source = str(node.value)
        if volumes.WINDOWS.match(source) or source.startswith(("/", "\\", "{{")):
            return node
        return node.like(str(absolute(self.base, source)))

    def long_volume(self, node: Node, path: Path, problems: Problems) -> Node:
        form = record(
            {
                "read_only": boolean,
                "bind": record({"create_host_path": boolean, "propagation": one_of(*volumes.PROPAGATION)}),
                "volume": record({"nocopy": boolean, "labels": mapping}),
                "tmpfs": record({"size": plain_size, "mode": octal}),
            }
        )
        found = form(node, path, problems)
        kind = found.value["type"].value
        if found.get("target") is None:
            problems.add(node.place, path, '"target" is missing')
        if kind in ("bind", "image", "npipe", "cluster") and found.get("source") is None:
            problems.add(node.place, path, f'a mount of type {kind} needs a "source"')
        if kind == "tmpfs" and found.get("source") is not None:
            problems.add(found.value["source"].place, path, 'a mount of type tmpfs has no "source"')
        return found

    @cached_property
    def service(self) -> Transform:
        own: dict[str, Transform] = {
            "security_opt": self.security_options,
            "env_file": self.env_files,
            "label_file": self.label_files,
            "volumes": self.volumes,
        }
        return record(SERVICE | own)

    @cached_property
    def file(self) -> Transform:
        """The form of a whole file."""

        def named(form: Transform) -> Transform:
            def transform(node: Node, path: Path, problems: Problems) -> Node:
                return external(form(node, path, problems), path, problems)

            return each(transform)

        flags: dict[str, Transform] = dict.fromkeys(
            ("internal", "attachable", "enable_ipv4", "enable_ipv6", "ingress"), boolean
        )
        common: dict[str, Transform] = {"labels": mapping, "driver_opts": options, "name": text}
        data = common | {"file": self.path}
        return record(
            {
                "version": text,
                "services": each(self.service),
                "networks": named(record(common | flags)),
                "volumes": named(record(common)),
                "secrets": named(record(data)),
                "configs": named(record(data)),
                "include": same,
            }
        )
