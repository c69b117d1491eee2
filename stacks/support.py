"""What becomes of every key of a Compose file: the one table behind warnings, refusals and docs/compose.md.

Pure: data and its text.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum

from .tree import Node, Path, Problems


class Answer(Enum):
    """`DIFFERS` is carried out, with the difference that the note states; `IGNORED` has no effect and is said at
    every deploy; `REFUSED` is an error, because the service could not work as it is written."""

    CARRIED = "carried out"
    DIFFERS = "carried out, with a difference"
    IGNORED = "accepted without effect, with a warning"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class Support:
    answer: Answer
    note: str = ""


BY_NAME = "Not needed: services on a common network reach each other by name, at any port."
JOINED = (
    "Containers join overlay networks between nodes. A service's name and aliases are resolved there to its virtual "
    "address (deploy.endpoint_mode: dnsrr: to its tasks' addresses), tasks.NAME to its tasks'. Plain processes join none."
)


def _carried(*keys: str, note: str = "") -> dict[str, Support]:
    return dict.fromkeys(keys, Support(Answer.CARRIED, note))


def _differs(key: str, note: str) -> dict[str, Support]:
    return {key: Support(Answer.DIFFERS, note)}


def _ignored(key: str, note: str) -> dict[str, Support]:
    return {key: Support(Answer.IGNORED, note)}


def _refused(key: str, note: str) -> dict[str, Support]:
    return {key: Support(Answer.REFUSED, note)}


BEYOND = "Swarm has no such option; essaim hands it to the Engine of the node."

SERVICE: dict[str, Support] = {
    **_carried("cap_add", "cap_drop", "command", "configs", "deploy", "dns", "dns_opt", "dns_search", "entrypoint"),
    **_carried("environment", "extra_hosts", "healthcheck", "hostname", "image", "init", "labels", "logging"),
    **_carried("oom_score_adj", "ports", "profiles", "pull_policy", "read_only", "scale", "secrets", "stdin_open"),
    **_carried("stop_grace_period", "stop_signal", "sysctls", "tty", "ulimits", "user", "volumes", "working_dir"),
    **_carried("cpus", "extends", "group_add", "label_file", "mem_swappiness"),
    **_carried("annotations", "blkio_config", "cgroup", "cgroup_parent", "cpu_period", "cpu_quota", note=BEYOND),
    **_carried("cpu_rt_period", "cpu_rt_runtime", "cpu_shares", "cpuset", "device_cgroup_rules", note=BEYOND),
    **_carried("devices", "domainname", "gpus", "mac_address", "oom_kill_disable", "privileged", note=BEYOND),
    **_carried("runtime", "security_opt", "shm_size", "storage_opt", "userns_mode", "uts", note=BEYOND),
    **_carried("cgroupns_mode", note="The stack file's name of `cgroup`."),
    **_carried("mem_limit", "mem_reservation", "pids_limit", note="Unless deploy.resources says otherwise."),
    **_carried("memswap_limit", note="Becomes the swap beside the memory limit, which it needs."),
    **_differs("container_name", "Only for a service of one replica: a name exists once on a node."),
    **_differs(
        "depends_on",
        "Services are created in this order, and a condition is waited for, when a stack is deployed (removed in "
        "reverse). A task that restarts later does not wait again; `restart: true` has no effect.",
    ),
    **_differs(
        "env_file",
        "Read by Compose's rules (quotes, comments, variables). docker stack deploy takes lines as they stand: so does "
        "`format: raw`. A warning names the variables for which that matters.",
    ),
    **_differs("ipc", "host, private, shareable, none. Sharing with another service's container is refused."),
    **_differs("isolation", "Only Windows knows it; passed on."),
    **_differs("credential_spec", "Only Windows knows it; passed on."),
    **_differs("network_mode", "host, none, bridge; joins no other network. Sharing another service's is refused."),
    **_differs("networks", JOINED),
    **_differs("pid", "host or private. Sharing with another service's container is refused."),
    **_differs("platform", "Becomes a placement constraint on the node's system and architecture."),
    **_differs("restart", "Becomes deploy.restart_policy where that is not given: always is any, no is none."),
    **_differs("tmpfs", "Becomes mounts of type tmpfs."),
    **_ignored("attach", "Logs are followed with `essaim service logs`."),
    **_ignored("build", "Images are not built here: build and push first; every node pulls `image`."),
    **_ignored("cpu_count", "Only Windows knows it; use cpus or deploy.resources."),
    **_ignored("cpu_percent", "Only Windows knows it; use cpus or deploy.resources."),
    **_ignored("develop", "A cluster has no development mode."),
    **_ignored("expose", BY_NAME),
    **_ignored("external_links", BY_NAME),
    **_ignored("links", BY_NAME),
    **_ignored("pull_refresh_after", "Use pull_policy: always, or deploy again."),
    **_refused("models", "No model runner exists here."),
    **_refused("post_start", "Put it into the container's entrypoint, or into a job (deploy.mode: replicated-job)."),
    **_refused("pre_stop", "Handle the stop signal in the container; essaim drains its connections before it is sent."),
    **_refused("provider", "Only Compose can run its providers."),
    **_refused("use_api_socket", "It would give the container control of the node; mount the socket if you want that."),
    **_refused("volumes_from", "The other container may run on another node: name the volumes in both services."),
}  # fmt: skip

TOP_LEVEL: dict[str, Support] = {
    **_carried("services", "volumes", "secrets", "configs", "include"),
    **_differs("networks", JOINED),
    **_carried("version", note="Accepted and not looked at."),
    **_differs("name", "The stack's name comes from the command line; this one stands in where the command allows it."),
    **_refused("models", "No model runner exists here."),
}


NESTED: dict[str, Support] = {
    **_carried("deploy.mode", note="replicated, global, replicated-job, global-job."),
    **_carried(
        "deploy.endpoint_mode",
        note="vip (the default): nftables in each container balances; a node without nft answers as for dnsrr.",
    ),
    **_carried("deploy.labels", note="Labels of the service; `labels` are those of its containers."),
    **_carried("deploy.resources.reservations.devices", "gpus[]", note=BEYOND),
    **_carried("ports[].app_protocol", note="http: the gateway routes by request. Short form: `8080:80/http`."),
    **_carried("ports[].host_ip", note="Published on this address of each node only; Swarm ignores it."),
    **_differs("ports[].published", "A range is published whole, one port for each target (or all for one target)."),
    **_differs("volumes[].bind.create_host_path", "Only where it is asked for: Swarm never creates a bind's source."),
    **_differs(
        "volumes[].bind.selinux", "No effect, with a warning; a mount through the Engine's API has no such label."
    ),
    **_carried("volumes[].type", note="bind, volume, tmpfs, image, npipe, cluster."),
    **_differs(
        "networks.NAME.driver", "Kept as it is, but bridge becomes overlay, with a warning: a bridge ends at its node."
    ),
    **_carried("networks.NAME.external", "secrets.NAME.external", "configs.NAME.external"),
    **_carried("secrets.NAME.file", "secrets.NAME.environment", "secrets.NAME.driver"),
    **_carried("configs.NAME.file", "configs.NAME.environment", "configs.NAME.content"),
    **_differs("depends_on.NAME.restart", "No effect, with a warning."),
    **_differs(
        "networks.NAME.ipv4_address", "No effect, with a warning (nor have ipv6_address, mac_address, priority)."
    ),
    **_differs("deploy.update_config.parallelism", "1 where it is not given, as in Swarm; 0 is all at once."),
}


def check_support(services: dict[str, Node], problems: Problems) -> list[str]:
    """Report refused keys; the warnings for those without effect, in the words of `docker stack deploy`."""
    ignored: set[str] = set()
    for name, service in services.items():
        for key, child in service.value.items():
            found = SERVICE.get(key)
            if found is None or child.value is None:
                continue
            if found.answer is Answer.REFUSED:
                path: Path = (((None, "services"), name), key)
                problems.add(child.key_place or child.place, path, f"is not supported: {found.note}")
            elif found.answer is Answer.IGNORED:
                ignored.add(key)
    if not ignored:
        return []
    return [f"Ignoring unsupported options: {', '.join(sorted(ignored))}"] + [
        f"{key}: {SERVICE[key].note}" for key in sorted(ignored)
    ]


def table(keys: Iterable[str], support: dict[str, Support]) -> str:
    """The rows of docs/compose.md."""
    rows = []
    for key in sorted(keys):
        found = support[key]
        rows.append(f"| `{key}` | {found.answer.value} | {found.note} |")
    return "\n".join(["| key | answer | note |", "|---|---|---|", *rows])


def document() -> str:
    """The whole of docs/compose.md."""
    return f"""# What becomes of every key of a stack file

Generated from `stacks/support.py` by `tools/compose_docs.py`; a test compares them.

essaim reads the Compose Specification and stack files 3.x. Keys that begin with `x-` are allowed everywhere and have no
effect. A key that is in neither is an error that names the nearest one that exists.

## Top level

{table(TOP_LEVEL, TOP_LEVEL)}

## Services

{table(SERVICE, SERVICE)}

## Below them

{table(NESTED, NESTED)}
"""
