"""What becomes of every key of a Compose file: the one table behind warnings, refusals and docs/compose.md.

Keys are paths in which NAME stands for a name that the user chose and [] for the entries of a list. A key without an
answer of its own has that of the nearest one above it. `stacks/check/answers.py` gives the answers to a file.

Pure: data and its text.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import Enum
from typing import Any


class Answer(Enum):
    """`DIFFERS` is carried out, with the difference that the note states, and `IGNORED` has no effect: both are said
    at every deploy. `REFUSED` is an error, because the service could not work as it is written."""

    CARRIED = "carried out"
    DIFFERS = "carried out, with a difference"
    IGNORED = "accepted without effect, with a warning"
    REFUSED = "refused"


Test = Callable[[Any], bool]


def is_meant(value: Any) -> bool:
    """Does a value ask for anything?"""
    return value not in (None, False, "", [], {})


@dataclass(frozen=True, slots=True)
class Support:
    """`applies` says for which plain values the answer is not simply that they are carried out."""

    answer: Answer
    note: str = ""
    applies: Test = is_meant


BY_NAME = "Not needed: services on a common network reach each other by name. An alias goes to networks.NAME.aliases."
JOINED = (
    "Containers join overlay networks between nodes. A service's name and aliases are resolved there to its virtual "
    "address (endpoint_mode: dnsrr: to its tasks' addresses), tasks.NAME to its tasks'. Plain processes join none."
)

PLACEHOLDERS = (
    "Nodes fill in placeholders such as `{{.Task.Slot}}`, here and in mounts; one that none could fill in is refused."
)


def _carried(*keys: str, note: str = "") -> dict[str, Support]:
    return dict.fromkeys(keys, Support(Answer.CARRIED, note))


def _differs(key: str, note: str, applies: Test = is_meant) -> dict[str, Support]:
    return {key: Support(Answer.DIFFERS, note, applies)}


def _ignored(key: str, note: str, applies: Test = is_meant) -> dict[str, Support]:
    return {key: Support(Answer.IGNORED, note, applies)}


def _refused(key: str, note: str, applies: Test = is_meant) -> dict[str, Support]:
    return {key: Support(Answer.REFUSED, note, applies)}


def _one_of(*values: str) -> Test:
    return lambda value: value in values


def _is_time_based(policy: Any) -> bool:
    return policy in ("daily", "weekly", "build", "refresh") or str(policy).startswith("every_")


ON_WINDOWS = "Only Windows knows it: passed on, and named by a node that does not know it."
BEYOND = "Swarm has no such option; essaim hands it to the Engine of the node."

SERVICE: dict[str, Support] = {
    **_carried("cap_add", "cap_drop", "command", "configs", "deploy", "dns", "dns_opt", "dns_search", "entrypoint"),
    **_carried("extra_hosts", "healthcheck", "image", "init", "labels", "logging"),
    **_carried("environment", "hostname", note=PLACEHOLDERS),
    **_carried("oom_score_adj", "ports", "profiles", "pull_policy", "read_only", "scale", "secrets", "stdin_open"),
    **_carried("stop_grace_period", "stop_signal", "sysctls", "tty", "ulimits", "user", "volumes", "working_dir"),
    **_carried("cpus", "extends", "group_add", "label_file", "mem_swappiness"),
    **_carried("annotations", "blkio_config", "cgroup", "cgroup_parent", "cpu_period", "cpu_quota", note=BEYOND),
    **_carried("cpu_rt_period", "cpu_rt_runtime", "cpu_shares", "cpuset", "device_cgroup_rules", note=BEYOND),
    **_carried("devices", "domainname", "gpus", "mac_address", "oom_kill_disable", "privileged", note=BEYOND),
    **_carried("runtime", "security_opt", "shm_size", "storage_opt", "userns_mode", "uts", note=BEYOND),
    **_carried("cgroupns_mode", note="The stack file's name of `cgroup`."),
    **_carried("mem_limit", "pids_limit", note="Unless deploy.resources says otherwise."),
    **_carried(
        "mem_reservation",
        note="Counts when a node is chosen, unless deploy.resources says otherwise. As in Swarm, the container gets no "
        "soft limit from it.",
    ),
    **_carried("memswap_limit", note="Becomes the swap beside the memory limit, which it needs."),
    **_carried("container_name", note="Only for a service of one replica: a name exists once on a node."),
    **_carried(
        "depends_on",
        note="Services are created in this order (removed in reverse), and a condition is waited for at deploy; "
        "service_started only with `--detach=false`. As in Compose, a task that restarts later does not wait, and what "
        "is waited for to complete is not restarted unless the file says so.",
    ),
    **_carried(
        "env_file",
        note="Read by Compose's rules (quotes, comments, variables). docker stack deploy takes lines as they stand: so "
        "does `format: raw`. A warning names the variables for which that matters.",
    ),
    **_carried("expose", note=BEYOND + " It publishes nothing."),
    **_carried("ipc", note="host, private, shareable, none. Sharing with another service's container is refused."),
    **_carried("network_mode", note="host, none, bridge; joins no other. Sharing another service's is refused."),
    **_carried("networks", note=JOINED),
    **_carried("pid", note="host or private. Sharing with another service's container is refused."),
    **_carried("platform", note="Becomes a placement constraint on the node's system and architecture."),
    **_carried("restart", note="Becomes deploy.restart_policy where that is not given: always is any, no is none."),
    **_carried("tmpfs", note="Becomes mounts of type tmpfs."),
    **_differs("isolation", ON_WINDOWS, lambda value: value not in (None, "", "default")),
    **_differs("credential_spec", ON_WINDOWS),
    **_differs(
        "pull_policy",
        "always, missing (if_not_present), never. What goes by time is pulled at every start, which costs one question "
        "where nothing has changed; build is missing.",
        _is_time_based,
    ),
    **_ignored("attach", "Logs are followed with `essaim service logs`."),
    **_ignored("build", "Images are not built here: build and push first; every node pulls `image`."),
    **_ignored("cpu_count", "Only Windows knows it; use cpus or deploy.resources."),
    **_ignored("cpu_percent", "Only Windows knows it; use cpus or deploy.resources."),
    **_ignored("develop", "A cluster has no development mode."),
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
    **_carried("networks", note=JOINED),
    **_carried("version", note="Accepted and not looked at."),
    **_differs(
        "name",
        "The stack's name comes from the command line, as with docker stack deploy.",
        lambda value: False,  # answers.py compares it with the name that was given
    ),
    **_refused("models", "No model runner exists here."),
}

NO_ADDRESS = "The cluster gives addresses out: every task of a service gets one of its own."
NESTED: dict[str, Support] = {
    **_carried("services.NAME.deploy.mode", note="replicated, global, replicated-job, global-job."),
    **_carried("services.NAME.deploy.labels", note="Labels of the service; `labels` are those of its containers."),
    **_carried("services.NAME.deploy.resources.reservations.devices", "services.NAME.gpus[]", note=BEYOND),
    **_carried(
        "services.NAME.deploy.update_config.parallelism", note="1 where it is not given, as in Swarm; 0 is all at once."
    ),
    **_carried(
        "services.NAME.deploy.endpoint_mode",
        note="vip (the default): nftables in each container balances; a node without nft answers as for dnsrr.",
    ),
    **_carried(
        "services.NAME.depends_on.NAME.restart",
        note="When a deploy replaces the tasks of NAME, those of this service too.",
    ),
    **_carried(
        "services.NAME.depends_on.NAME.required",
        note="false: a failure is a warning, and NAME need not be in the file.",
    ),
    **_carried(
        "services.NAME.healthcheck.start_interval",
        note="Needs an Engine with API 1.44; an older one leaves it out, and the task says so.",
    ),
    **_carried(
        "services.NAME.ports[].app_protocol",
        note="http: the gateway routes by request. Short form: `8080:80/http`.",
    ),
    **_carried("services.NAME.ports[].host_ip", note="Published on this address of each node only; Swarm ignores it."),
    **_carried(
        "services.NAME.ports[].published",
        note="A range is published whole, one port for each target (or all for one target), as by docker stack deploy.",
    ),
    **_carried(
        "services.NAME.volumes[].bind.create_host_path",
        note="Only where it is asked for: Swarm never creates a bind's source.",
    ),
    **_ignored(
        "services.NAME.volumes[].bind.selinux", "A mount through the Engine's API has no such label: label the folder."
    ),
    **_differs(
        "services.NAME.volumes[].type",
        "bind, volume, tmpfs, image. npipe is passed on; only Windows knows it. cluster is refused: use a volume with "
        "a driver that every node has.",
        _one_of("npipe"),
    ),
    **_ignored("services.NAME.networks.NAME.ipv4_address", NO_ADDRESS),
    **_ignored("services.NAME.networks.NAME.ipv6_address", NO_ADDRESS),
    **_ignored("services.NAME.networks.NAME.link_local_ips", NO_ADDRESS),
    **_ignored("services.NAME.networks.NAME.mac_address", NO_ADDRESS),
    **_ignored("services.NAME.networks.NAME.priority", "Networks are joined in the order of their names."),
    **_ignored(
        "services.NAME.networks.NAME.gw_priority", "The way out is the node's own network, whatever else is joined."
    ),
    **_ignored("services.NAME.networks.NAME.interface_name", "The Engine names the interfaces."),
    **_differs(
        "networks.NAME.driver",
        "Kept as it is, but bridge becomes overlay: a bridge ends at its node.",
        _one_of("bridge"),
    ),
    **_ignored("networks.NAME.enable_ipv4", "A network always has IPv4.", lambda value: value is False),
    **_carried("networks.NAME.external", "volumes.NAME.external", "secrets.NAME.external", "configs.NAME.external"),
    **_carried("secrets.NAME.file", "secrets.NAME.environment"),
    **_refused(
        "secrets.NAME.driver", "No secret provider's plugin is asked here: hand the value over by file or environment."
    ),
    **_refused("secrets.NAME.driver_opts", "They belong to a driver, and secrets have none here."),
    **_carried(
        "secrets.NAME.template_driver",
        "configs.NAME.template_driver",
        note="golang; any other is refused, and so is content with a placeholder that no node could fill in.",
    ),
    **_carried("configs.NAME.file", "configs.NAME.environment", "configs.NAME.content"),
    **_ignored("volumes.NAME.x-cluster-spec", "There are no cluster volumes: use a driver that every node has."),
}


def full_table() -> dict[str, Support]:
    """All answers by their full paths."""
    return TOP_LEVEL | {f"services.NAME.{key}": found for key, found in SERVICE.items()} | NESTED


def parent_of(path: str) -> str:
    """`services.NAME.ports[]` is that of `services.NAME.ports[].target`, and `services.NAME.ports` that one's."""
    return path.removesuffix("[]") if path.endswith("[]") else path.rpartition(".")[0]


def answer_to(path: str) -> Support | None:
    """The answer to a key's path; None where the table has no word on it, nor on what is above."""
    found = full_table()
    while path:
        if path in found:
            return found[path]
        path = parent_of(path)
    return None


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

Generated from `stacks/check/support.py` by `tools/compose_docs.py`; a test compares them.

essaim reads the Compose Specification and stack files 3.x. Keys that begin with `x-` are allowed everywhere and have no
effect. A key that is in neither is an error that names the nearest one that exists. What is not listed below a key has
that key's answer. `tests/stacks/test_every_key.py` takes every key of both schemas, in every form, and compares what
becomes of it with this table. At a deploy what has no effect or another one is said once, with its place.

## Top level

{table(TOP_LEVEL, TOP_LEVEL)}

## Services

{table(SERVICE, SERVICE)}

## Below them

{table(NESTED, NESTED)}
"""
