"""The flags of `service create` and `service update`.

Create has `--env`, update `--env-add` and `--env-rm`: the lists are declared once here.

Pure: data.
"""

from essaim.cli.common import DETACH, QUIET, REGISTRY_AUTH
from essaim.cli.flags import (
    ADDRESSES,
    BYTES,
    CPUS,
    CREDENTIALS,
    DEVICES,
    DOMAINS,
    ENV,
    FLOAT,
    GPUS,
    HOSTS,
    INT,
    LABELS,
    LIMIT,
    LIST,
    MOUNTS,
    NETWORKS,
    PAIRS,
    PORTS,
    POSITIVE,
    PREFERENCES,
    REFERENCES,
    RESOURCES,
    STRING,
    SWITCH,
    TARGETS,
    UINT,
    ULIMITS,
    Flag,
    Kind,
)

FAILURE = ("pause", "continue", "rollback")
ORDERS = ("start-first", "stop-first")
CONDITIONS = ("none", "on-failure", "any")
MODES = ("replicated", "global", "replicated-job", "global-job")
# name, kind, what it is, short flag of create
LISTS: tuple[tuple[str, Kind, str, str], ...] = (
    ("config", REFERENCES, "a config as a file (name, or source=,target=,uid=,gid=,mode=)", ""),
    ("constraint", LIST, "a rule that nodes must meet (node.labels.zone==a)", ""),
    ("container-label", LABELS, "a label of the containers", ""),
    ("dns", ADDRESSES, "a DNS server", ""),
    ("dns-option", LIST, "a resolver option", ""),
    ("dns-search", DOMAINS, "a DNS search domain", ""),
    ("env", ENV, "an environment variable", "e"),
    ("generic-resource", RESOURCES, "a reserved user-defined resource (gpu=1)", ""),
    ("group", LIST, "a supplementary group", ""),
    ("host", HOSTS, "an entry of the hosts file (name:ip)", ""),
    ("label", LABELS, "a label of the service", "l"),
    ("mount", MOUNTS, "a mount (type=,source=,target=,...)", ""),
    ("network", NETWORKS, "a network (name, or name=,alias=,driver-opt=)", ""),
    ("placement-pref", PREFERENCES, "a preference for nodes (spread=node.labels.zone)", ""),
    ("publish", PORTS, "a port on every node ([ip:][published:]target[/protocol], or target=,published=,...)", "p"),
    ("secret", REFERENCES, "a secret as a file (name, or source=,target=,uid=,gid=,mode=)", ""),
    ("sysctl", PAIRS, "a kernel parameter of the containers", ""),
    ("ulimit", ULIMITS, "a limit (name=soft[:hard])", ""),
)


def rollout(kind: str, what: str) -> list[Flag]:
    """The flags of update and rollback."""
    actions = FAILURE if kind == "update" else FAILURE[:2]
    return [
        Flag(f"{kind}-delay", POSITIVE, f"Pause between {what}s"),
        Flag(f"{kind}-failure-action", STRING, f"What a failed {what} does", choices=actions),
        Flag(f"{kind}-max-failure-ratio", FLOAT, f"Share of failures that the {what} bears"),
        Flag(f"{kind}-monitor", POSITIVE, f"How long to watch each replica for failure after its {what}"),
        Flag(f"{kind}-order", STRING, "Whether the new replica starts before the old one stops", choices=ORDERS),
        Flag(f"{kind}-parallelism", UINT, f"Replicas in one step of the {what} (0: all at once)"),
    ]


SHARED: list[Flag] = [
    DETACH,
    QUIET,
    REGISTRY_AUTH,
    Flag("cap-add", LIST, "Add a Linux capability"),
    Flag("cap-drop", LIST, "Drop a Linux capability"),
    Flag(
        "credential-spec", CREDENTIALS, "Account that the containers run as (Windows: config://, file://, registry://)"
    ),
    Flag("endpoint-mode", STRING, "How the service is found by name", choices=("vip", "dnsrr")),
    Flag("entrypoint", STRING, "Command in place of the image's entry point"),
    Flag("health-cmd", STRING, "Command that tells whether a container is healthy"),
    Flag("health-interval", POSITIVE, "Time between checks"),
    Flag("health-retries", INT, "Failed checks in a row that make a container unhealthy"),
    Flag("health-start-interval", POSITIVE, "Time between checks during the start period"),
    Flag("health-start-period", POSITIVE, "Time during which failed checks do not count"),
    Flag("health-timeout", POSITIVE, "Time that a check may take"),
    Flag("no-healthcheck", SWITCH, "Ignore the image's own health check"),
    Flag("hostname", STRING, "Host name inside the containers"),
    Flag("init", SWITCH, "Run an init process that passes signals on and reaps processes"),
    Flag("isolation", STRING, "Isolation of the containers (Windows)"),
    Flag("limit-cpu", CPUS, "Most CPUs a replica may use"),
    Flag("limit-memory", BYTES, "Most memory a replica may use"),
    Flag("limit-pids", INT, "Most processes in a replica (0: no limit)"),
    Flag("log-driver", STRING, "Where output goes"),
    Flag("log-opt", PAIRS, "Set an option of the log driver"),
    Flag("max-concurrent", UINT, "Tasks of a job that run at a time"),
    Flag("device", DEVICES, "A device of the node (host[:container][:rwm])"),
    Flag("gpus", GPUS, "GPUs of the node (all, a number, or device=,driver=,capabilities=)"),
    Flag("ipc", STRING, "IPC namespace of the containers (host, private, shareable, none)"),
    Flag("pid", STRING, "PID namespace of the containers (host)"),
    Flag("privileged", SWITCH, "Give the containers all rights on their nodes"),
    Flag("runtime", STRING, "OCI runtime of the containers"),
    Flag("security-opt", LIST, "A security option (seccomp=, apparmor=, label=, no-new-privileges)"),
    Flag("shm-size", BYTES, "Size of /dev/shm"),
    Flag("storage-opt", PAIRS, "Set an option of the storage driver"),
    Flag("userns", STRING, "User namespace of the containers (host)"),
    Flag("memory-swap", LIMIT, "Most swap a replica may use (-1: no limit)"),
    Flag("memory-swappiness", INT, "How eagerly memory is swapped (0 to 100)"),
    Flag("no-resolve-image", SWITCH, "Do not ask the registry for the image's digest and platforms"),
    Flag("oom-score-adj", INT, "Preference of the kernel for killing it when memory runs out (-1000 to 1000)"),
    Flag("placement-strategy", STRING, "How nodes are chosen for replicas", choices=("spread", "binpack")),
    Flag("read-only", SWITCH, "Make the containers' root file system read-only"),
    Flag("rebalance", STRING, "Move replicas to nodes that join", choices=("auto", "off")),
    Flag("replicas", UINT, "Number of replicas"),
    Flag("replicas-max-per-node", UINT, "Most replicas on one node (0: no limit)"),
    Flag("reserve-cpu", CPUS, "CPUs kept for each replica"),
    Flag("reserve-memory", BYTES, "Memory kept for each replica"),
    Flag("restart-condition", STRING, "When a replica that ended is started again", choices=CONDITIONS),
    Flag("restart-delay", POSITIVE, "Pause before a restart"),
    Flag("restart-max-attempts", UINT, "Restarts before giving up"),
    Flag("restart-window", POSITIVE, "Time in which restarts are counted"),
    *rollout("rollback", "rollback"),
    Flag("schedule", STRING, 'When a job runs, as a cron line ("0 3 * * *")'),
    Flag("stop-grace-period", POSITIVE, "Time to end in before a container is killed"),
    Flag("stop-signal", STRING, "Signal that asks a container to end"),
    Flag("tty", SWITCH, "Give the containers a terminal", "t"),
    *rollout("update", "update"),
    Flag("user", STRING, "User (and group) that the command runs as", "u"),
    Flag("workdir", STRING, "Working directory inside the containers", "w"),
]
ADD = [Flag(f"{name}-add", kind, f"Add or replace {what}") for name, kind, what, _ in LISTS]
REMOVE_KINDS = {"placement-pref": PREFERENCES, "publish": TARGETS}
REMOVE_WORDS = {
    "mount": "Remove the mount at a path",
    "publish": "Remove what is published for a target port",
}
REMOVE = [
    Flag(f"{name}-rm", REMOVE_KINDS.get(name, LIST), REMOVE_WORDS.get(name, f"Remove {what.partition(' (')[0]}"))
    for name, _, what, _ in LISTS
]
CREATE: list[Flag] = [
    *SHARED,
    *(Flag(name, kind, f"Give it {what}", short) for name, kind, what, short in LISTS),
    Flag("env-file", LIST, "Read environment variables from a file"),
    Flag("mode", STRING, "How replicas are counted", default="replicated", shown_default='"replicated"', choices=MODES),
    Flag("name", STRING, "The service's name"),
]
UPDATE: list[Flag] = [
    *SHARED,
    *ADD,
    *REMOVE,
    Flag("args", STRING, "Arguments of the command"),
    Flag("force", SWITCH, "Replace all replicas even if nothing changes"),
    Flag("image", STRING, "The image"),
    Flag("rollback", SWITCH, "Go back to the specification before the last update"),
]
