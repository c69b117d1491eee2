"""The canonical form of every key of a service that does not name a path.

Pure: no I/O.
"""

import re

from essaim.stacks.source.tree import Node, Path, Problems, Transform

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
    size,
    text,
    texts,
    words,
)
from .ports import canonical_ports

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


HOST = re.compile(r"([^\s:=]+)[:=](.+)\Z")
ADDRESS = re.compile(r"[^\s=]+\Z")


def hosts(node: Node, path: Path, problems: Problems) -> Node:
    """`HOST:ADDRESS` strings, of `{host: address}`, `{host: [address]}`, `host=address`, `host:address`."""
    lines: dict[str, Node] = {}
    if isinstance(node.value, dict):
        for key, child in node.value.items():
            for address in child.value if isinstance(child.value, list) else [child]:
                lines.setdefault(f"{key}:{address.value}", child)
    else:
        lines = {str(item.value): item for item in node.value}
    found = []
    for line, item in lines.items():
        match = HOST.match(line.strip())
        address = match[2].strip().removeprefix("[").removesuffix("]") if match else ""
        if match is None or not ADDRESS.match(address):
            problems.add(item.place, path, f'must be HOST:ADDRESS or HOST=ADDRESS, found "{line}"')
        else:
            found.append(item.like(f"{match[1]}:{address}"))
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


EXPOSED = re.compile(r"([0-9]{1,5})(?:-([0-9]{1,5}))?(?:/(tcp|udp|sctp))?\Z")


def exposed(node: Node, path: Path, problems: Problems) -> Node:
    """Ports as `80`, `80/udp`, `8000-8010`."""
    found = texts(node, path, problems)
    for index, item in enumerate(found.value):
        match = EXPOSED.match(str(item.value))
        first, last = (int(match[1]), int(match[2] or match[1])) if match else (0, 0)
        if not 1 <= first <= last <= 65535:
            problems.add(item.place, (path, index), f'must be PORT[-END][/tcp|udp|sctp], found "{item.value}"')
    return found


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
    "cpu_count": integer, "cpu_percent": integer, "cpu_shares": integer,
    "cpu_quota": microseconds, "cpu_period": microseconds,
    "cpu_rt_period": microseconds,
    "cpu_rt_runtime": microseconds,
    "cpus": cpus,
    "depends_on": depends_on,
    "deploy": DEPLOY,
    "device_cgroup_rules": texts,
    "devices": devices,
    "dns": texts, "dns_opt": texts, "dns_search": texts,
    "environment": mapping,
    "expose": exposed, "external_links": texts,
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
