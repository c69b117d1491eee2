"""The swarm's specification out of flags.

Pure: flags and a specification to a specification, as JSON.
"""

from collections.abc import Mapping
from typing import Any

from essaim.cli.flags import Flags
from essaim.cli.values.pairs import fields

# flag -> (section, key)
FIELDS = {
    "task-history-limit": ("Orchestration", "TaskHistoryRetentionLimit"),
    "snapshot-interval": ("Raft", "SnapshotInterval"),
    "max-snapshots": ("Raft", "KeepOldSnapshots"),
    "dispatcher-heartbeat": ("Dispatcher", "HeartbeatPeriod"),
    "restart-grace": ("Dispatcher", "RestartGrace"),
    "cert-expiry": ("CAConfig", "NodeCertExpiry"),
}


def new_spec(flags: Flags) -> dict[str, Any]:
    """What `swarm init` sends: only what was asked for, the daemon has the defaults."""
    return updated_spec({"Labels": None}, flags)


def updated_spec(spec: Mapping[str, Any], flags: Flags) -> dict[str, Any]:
    """The specification with the given flags applied."""
    result = dict(spec)
    for flag, (section, key) in FIELDS.items():
        if flags.given(flag):
            result[section] = {**(result.get(section) or {}), key: flags.number(flag)}
    if flags.given("external-ca"):
        found = [external_ca(text) for text in flags.items("external-ca")]
        result["CAConfig"] = {**(result.get("CAConfig") or {}), "ExternalCAs": found}
    if flags.given("autolock"):
        encryption = {**(result.get("EncryptionConfig") or {}), "AutoLockManagers": flags.on("autolock")}
        result["EncryptionConfig"] = encryption
    if flags.given("placement-strategy"):
        result["PlacementStrategy"] = flags.text("placement-strategy")
    return result


def external_ca(text: str) -> dict[str, Any]:
    """`protocol=cfssl,url=https://...,key=value`."""
    found: dict[str, Any] = {"Protocol": "", "URL": "", "Options": {}}
    for item in fields(text):
        key, _, value = item.partition("=")
        match key.lower():
            case "protocol":
                found["Protocol"] = value.lower()
            case "url":
                found["URL"] = value
            case "cacert":
                found["CACert"] = value
            case _:
                found["Options"][key.lower()] = value
    return found
