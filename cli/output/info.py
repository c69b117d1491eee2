"""`essaim info`.

Pure: the daemon's answer to text.
"""

from collections.abc import Mapping
from typing import Any

from essaim.cli.values.sizes import binary_size
from essaim.cluster.durations import format_duration

Object = Mapping[str, Any]


def info_text(info: Object) -> str:
    """What matters to who runs a cluster: the host, then the swarm."""
    lines = [
        f"Name: {info.get('Name', '')}",
        f"Server Version: {info.get('ServerVersion', '')}",
        f"Operating System: {info.get('OperatingSystem', '')}",
        f"OSType: {info.get('OSType', '')}",
        f"Architecture: {info.get('Architecture', '')}",
        f"Kernel Version: {info.get('KernelVersion', '')}",
        f"CPUs: {info.get('NCPU', 0)}",
        f"Total Memory: {binary_size(info.get('MemTotal') or 0)}",
        f"ID: {info.get('ID', '')}",
        f"State Dir: {info.get('DockerRootDir', '')}",
        *swarm_lines(info.get("Swarm") or {}),
    ]
    if info.get("Labels"):
        lines += ["Labels:", *(f" {label}" for label in info["Labels"])]
    lines += [str(warning) for warning in info.get("Warnings") or []]
    return "\n".join(lines) + "\n"


def swarm_lines(swarm: Object) -> list[str]:
    state = swarm.get("LocalNodeState") or "inactive"
    lines = [f"Swarm: {state}"]
    if state in ("inactive", "locked"):
        return lines
    lines.append(f" NodeID: {swarm.get('NodeID', '')}")
    if swarm.get("Error"):
        lines.append(f" Error: {swarm['Error']}")
    lines.append(f" Is Manager: {str(bool(swarm.get('ControlAvailable'))).lower()}")
    cluster = swarm.get("Cluster")
    if cluster and swarm.get("ControlAvailable") and state != "error":
        lines += cluster_lines(swarm, cluster)
    lines.append(f" Node Address: {swarm.get('NodeAddr', '')}")
    managers = swarm.get("RemoteManagers") or []
    if managers:
        lines += [
            " Manager Addresses:",
            *(f"  {item['Addr']}" for item in sorted(managers, key=lambda one: one["Addr"])),
        ]
    return lines


def cluster_lines(swarm: Object, cluster: Object) -> list[str]:
    spec = cluster.get("Spec") or {}
    raft, ca = spec.get("Raft") or {}, spec.get("CAConfig") or {}
    orchestration, dispatcher = spec.get("Orchestration") or {}, spec.get("Dispatcher") or {}
    encryption = spec.get("EncryptionConfig") or {}
    lines = [
        f" ClusterID: {cluster.get('ID', '')}",
        f" Managers: {swarm.get('Managers', 0)}",
        f" Nodes: {swarm.get('Nodes', 0)}",
    ]
    if pool := cluster.get("DefaultAddrPool"):
        lines += [f" Default Address Pool: {'  '.join(pool)}  ", f" SubnetSize: {cluster.get('SubnetSize', 0)}"]
    if cluster.get("DataPathPort"):
        lines.append(f" Data Path Port: {cluster['DataPathPort']}")
    return [
        *lines,
        " Orchestration:",
        f"  Task History Retention Limit: {orchestration.get('TaskHistoryRetentionLimit') or 0}",
        " Raft:",
        f"  Snapshot Interval: {raft.get('SnapshotInterval') or 0}",
        f"  Number of Old Snapshots to Retain: {raft.get('KeepOldSnapshots') or 0}",
        f"  Heartbeat Tick: {raft.get('HeartbeatTick') or 0}",
        f"  Election Tick: {raft.get('ElectionTick') or 0}",
        " Dispatcher:",
        f"  Heartbeat Period: {format_duration(dispatcher.get('HeartbeatPeriod') or 0)}",
        " CA Configuration:",
        f"  Expiry Duration: {format_duration(ca.get('NodeCertExpiry') or 0)}",
        f"  Force Rotate: {ca.get('ForceRotate') or 0}",
        f" Autolock Managers: {str(bool(encryption.get('AutoLockManagers'))).lower()}",
        f" Root Rotation In Progress: {str(bool(cluster.get('RootRotationInProgress'))).lower()}",
    ]
