"""EngineOptions of a service: what it asks for beyond Swarm's ContainerSpec.

Pure: no I/O.
"""

from typing import Any

from essaim.cluster.engine_options import DeviceMapping, DeviceRequest, EngineOptions, ThrottleDevice, WeightDevice
from essaim.stacks.canonical.values import texts, value

PULL_POLICIES = {
    "always": "always", "never": "never", "missing": "missing", "if_not_present": "if_not_present", "build": "missing",
    "refresh": "always", "daily": "always", "weekly": "always",
}  # fmt: skip


def engine_options(service: dict[str, Any]) -> EngineOptions | None:
    """None where the service asks for nothing of the kind."""
    blkio = service.get("blkio_config") or {}
    found = EngineOptions(
        privileged=service.get("privileged") or None,
        security_opt=service.get("security_opt") or None,
        userns_mode=service.get("userns_mode"),
        pid_mode=service.get("pid"),
        ipc_mode=service.get("ipc"),
        uts_mode=service.get("uts"),
        cgroupns_mode=service.get("cgroup") or service.get("cgroupns_mode"),
        cgroup_parent=service.get("cgroup_parent"),
        runtime=service.get("runtime"),
        devices=_devices(service.get("devices")),
        device_cgroup_rules=service.get("device_cgroup_rules") or None,
        device_requests=_requests(service),
        cpu_shares=service.get("cpu_shares"),
        cpu_period=service.get("cpu_period"),
        cpu_quota=service.get("cpu_quota"),
        cpu_realtime_period=service.get("cpu_rt_period"),
        cpu_realtime_runtime=service.get("cpu_rt_runtime"),
        cpuset_cpus=service.get("cpuset"),
        oom_kill_disable=service.get("oom_kill_disable"),
        shm_size=service.get("shm_size"),
        storage_opt=texts(service.get("storage_opt")),
        blkio_weight=blkio.get("weight"),
        blkio_weight_device=_weights(blkio.get("weight_device")),
        blkio_device_read_bps=_throttles(blkio.get("device_read_bps")),
        blkio_device_write_bps=_throttles(blkio.get("device_write_bps")),
        blkio_device_read_iops=_throttles(blkio.get("device_read_iops")),
        blkio_device_write_iops=_throttles(blkio.get("device_write_iops")),
        network_mode=service.get("network_mode"),
        expose=service.get("expose") or None,
        domainname=service.get("domainname"),
        mac_address=service.get("mac_address"),
        annotations=texts(service.get("annotations")),
        container_name=service.get("container_name"),
        pull_policy=_pull_policy(service.get("pull_policy")),
    )
    return None if found == EngineOptions() else found


def _pull_policy(text: str | None) -> str | None:
    """Time-based policies pull at every start: a registry answers a known digest with no data."""
    return None if text is None else PULL_POLICIES.get(text, "always")


def _devices(entries: list[dict[str, Any]] | None) -> list[DeviceMapping] | None:
    if not entries:
        return None
    return [
        DeviceMapping(
            path_on_host=entry["source"], path_in_container=entry["target"], cgroup_permissions=entry["permissions"]
        )
        for entry in entries
    ]


def _requests(service: dict[str, Any]) -> list[DeviceRequest] | None:
    entries = [*(value(service, "deploy", "resources", "reservations", "devices") or ())]
    entries += [
        entry | {"capabilities": ["gpu", *(name for name in entry.get("capabilities") or () if name != "gpu")]}
        for entry in service.get("gpus") or ()
    ]
    return [_request(entry) for entry in entries] or None


def _request(entry: dict[str, Any]) -> DeviceRequest:
    """Without a count and without ids, all devices are asked for."""
    count = entry.get("count")
    if count == "all" or (count is None and not entry.get("device_ids")):
        count = -1
    return DeviceRequest(
        driver=entry.get("driver"),
        count=count,
        device_ids=entry.get("device_ids") or None,
        capabilities=[entry.get("capabilities") or []],
        options=texts(entry.get("options")),
    )


def _weights(entries: list[dict[str, Any]] | None) -> list[WeightDevice] | None:
    return [WeightDevice(path=entry["path"], weight=entry["weight"]) for entry in entries] if entries else None


def _throttles(entries: list[dict[str, Any]] | None) -> list[ThrottleDevice] | None:
    return [ThrottleDevice(path=entry["path"], rate=entry["rate"]) for entry in entries] if entries else None
