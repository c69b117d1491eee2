"""What an Engine can do for a container beyond Swarm's ContainerSpec (moby#24862): `engine_options` of a service.

Pure: EngineOptions and flags to EngineOptions.
"""

from typing import Any

from msgspec.structs import replace

from essaim.cli.flags import Flags
from essaim.cli.values.pairs import to_map
from essaim.cluster.engine_options import EngineOptions

TEXTS = {"ipc": "ipc_mode", "pid": "pid_mode", "runtime": "runtime", "userns": "userns_mode"}
LISTS = {"device": "devices", "gpus": "device_requests", "security-opt": "security_opt"}


def change_engine(current: EngineOptions | None, flags: Flags) -> EngineOptions | None:
    """Each flag replaces the whole of its setting; an empty text, zero or false takes it back."""
    changes: dict[str, Any] = {key: flags.text(flag) or None for flag, key in TEXTS.items() if flags.given(flag)}
    changes |= {key: flags.items(flag) or None for flag, key in LISTS.items() if flags.given(flag)}
    if flags.given("privileged"):
        changes["privileged"] = flags.on("privileged") or None
    if flags.given("shm-size"):
        changes["shm_size"] = flags.number("shm-size") or None
    if flags.given("storage-opt"):
        changes["storage_opt"] = to_map(flags.items("storage-opt")) or None
    if not changes:
        return current
    found = replace(current or EngineOptions(), **changes)
    return None if found == EngineOptions() else found
