"""Objects as an Engine in swarm mode shows them."""

from typing import Any

CREATED = "2024-01-31T12:00:00.123456789Z"
NODE_ID = "c6vzvm82qhkuxp53ramhmgmop"
WORKER_ID = "us8k7gil1v2nvuwhu8udhwv80"
ROOT = "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n"


def node(node_id: str, hostname: str, *, manager: bool) -> dict[str, Any]:
    made: dict[str, Any] = {
        "ID": node_id,
        "Version": {"Index": 9},
        "CreatedAt": CREATED,
        "UpdatedAt": CREATED,
        "Spec": {"Labels": {}, "Role": "manager" if manager else "worker", "Availability": "active"},
        "Description": {
            "Hostname": hostname,
            "Platform": {"Architecture": "x86_64", "OS": "linux"},
            "Resources": {"NanoCPUs": 2000000000, "MemoryBytes": 8345124864},
            "Engine": {
                "EngineVersion": "20.10.24",
                "Labels": {"role": "a"},
                "Plugins": [{"Type": "Log", "Name": "json-file"}, {"Type": "Network", "Name": "overlay"}],
            },
            "TLSInfo": {"TrustRoot": ROOT, "CertIssuerSubject": "MBMx", "CertIssuerPublicKey": "MFkw"},
        },
        "Status": {"State": "ready", "Addr": "10.0.0.1"},
    }
    if manager:
        made["ManagerStatus"] = {"Leader": True, "Reachability": "reachable", "Addr": "10.0.0.1:2377"}
    return made


def swarm() -> dict[str, Any]:
    """The cluster."""
    return {
        "ID": "abcdefghijklmnopqrstuvwxy",
        "Version": {"Index": 10},
        "CreatedAt": CREATED,
        "UpdatedAt": CREATED,
        "Spec": {
            "Name": "default",
            "Labels": {},
            "Orchestration": {"TaskHistoryRetentionLimit": 5},
            "Raft": {
                "SnapshotInterval": 10000,
                "KeepOldSnapshots": 0,
                "LogEntriesForSlowFollowers": 500,
                "ElectionTick": 10,
                "HeartbeatTick": 1,
            },
            "Dispatcher": {"HeartbeatPeriod": 5000000000},
            "CAConfig": {"NodeCertExpiry": 7776000000000000},
            "TaskDefaults": {},
            "EncryptionConfig": {"AutoLockManagers": False},
        },
        "TLSInfo": {"TrustRoot": ROOT, "CertIssuerSubject": "MBMx", "CertIssuerPublicKey": "MFkw"},
        "RootRotationInProgress": False,
        "DefaultAddrPool": ["10.0.0.0/8"],
        "SubnetSize": 24,
        "DataPathPort": 4789,
        "JoinTokens": {"Worker": "SWMTKN-1-w", "Manager": "SWMTKN-1-m"},
    }
