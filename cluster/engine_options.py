"""EngineOptions: what a Docker Engine can do for a container that Swarm's ContainerSpec has no field for.

The names are those of the Engine API's HostConfig and container Config (moby#24862 asks for them in services), so
that the Docker runtime passes them on as they are. What ContainerSpec, TaskSpec or Resources already have (Init,
Sysctls, Ulimits, CapAdd, GroupAdd, OomScoreAdj, MemorySwappiness, LogConfig, Dns, ExtraHosts, ReadonlyRootfs ...) is
set there and nowhere else. All sizes are in bytes, CPU times in microseconds.

`container_name` and `pull_policy` (always, missing, never, if_not_present) are essaim's own.

Pure: data only.
"""

from .shape import Shape

WORDS = {"uts": "UTS", "ids": "IDs", "iops": "IOps"}


def engine_name(attribute: str) -> str:
    """The JSON key of an attribute in HostConfig, where `pid_mode` is `PidMode` (it is `PID...` in Swarm's specs)."""
    return "".join(WORDS.get(word, word[:1].upper() + word[1:]) for word in attribute.split("_"))


class DeviceMapping(Shape, rename=engine_name):
    """`cgroup_permissions` is a choice of the letters r, w and m."""

    path_on_host: str
    path_in_container: str | None = None
    cgroup_permissions: str | None = None


class DeviceRequest(Shape, rename=engine_name):
    """GPUs and the like. `count` -1 is all; `capabilities` is an OR of ANDs: [["gpu", "nvidia"]]."""

    driver: str | None = None
    count: int | None = None
    device_ids: list[str] | None = None
    capabilities: list[list[str]] | None = None
    options: dict[str, str] | None = None


class WeightDevice(Shape, rename=engine_name):
    path: str
    weight: int


class ThrottleDevice(Shape, rename=engine_name):
    """`rate` in bytes or operations a second."""

    path: str
    rate: int


class EngineOptions(Shape, rename=engine_name):
    # Rights and isolation.
    privileged: bool | None = None
    security_opt: list[str] | None = None
    userns_mode: str | None = None
    pid_mode: str | None = None
    ipc_mode: str | None = None
    uts_mode: str | None = None
    cgroupns_mode: str | None = None
    cgroup_parent: str | None = None
    masked_paths: list[str] | None = None
    readonly_paths: list[str] | None = None
    runtime: str | None = None
    # Devices.
    devices: list[DeviceMapping] | None = None
    device_cgroup_rules: list[str] | None = None
    device_requests: list[DeviceRequest] | None = None
    # Processor, memory and disk, beyond Resources.
    cpu_shares: int | None = None
    cpu_period: int | None = None
    cpu_quota: int | None = None
    cpu_realtime_period: int | None = None
    cpu_realtime_runtime: int | None = None
    cpuset_cpus: str | None = None
    cpuset_mems: str | None = None
    oom_kill_disable: bool | None = None
    shm_size: int | None = None
    storage_opt: dict[str, str] | None = None
    blkio_weight: int | None = None
    blkio_weight_device: list[WeightDevice] | None = None
    blkio_device_read_bps: list[ThrottleDevice] | None = None
    blkio_device_write_bps: list[ThrottleDevice] | None = None
    blkio_device_read_iops: list[ThrottleDevice] | None = None
    blkio_device_write_iops: list[ThrottleDevice] | None = None
    # Network. `network_mode` is host, none, bridge, or the name of a network of the node itself.
    network_mode: str | None = None
    links: list[str] | None = None
    domainname: str | None = None
    mac_address: str | None = None
    expose: list[str] | None = None
    # The rest.
    volume_driver: str | None = None
    volumes_from: list[str] | None = None
    annotations: dict[str, str] | None = None
    container_name: str | None = None
    pull_policy: str | None = None
