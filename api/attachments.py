"""The networks of a task as Docker's API shows them: the whole network beside the task's addresses on it. Traefik and
others find replicas by that.

Pure: objects in, objects out.
"""

from typing import Any

from msgspec.structs import replace

from essaim.cluster.objects import Network
from essaim.cluster.store import Store
from essaim.cluster.task import NetworkAttachment, Task


class Attachments:
    """For one answer: each network is described once, however many tasks are on it."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._described: dict[str, dict[str, Any] | None] = {}

    def of(self, task: Task) -> list[NetworkAttachment] | None:
        return [self._of(one) for one in task.networks_attachments] if task.networks_attachments else None

    def _of(self, one: NetworkAttachment) -> NetworkAttachment:
        network_id = one.network_id or ""
        if network_id not in self._described:
            network = self._store.networks.get(network_id)
            self._described[network_id] = described(network) if network is not None else {"ID": network_id}
        return replace(one, network_id=None, network=self._described[network_id])


def described(network: Network) -> dict[str, Any]:
    """The API's definition of a swarm's network (not that of `GET /networks`)."""
    spec = network.spec
    ipam = {"Driver": {"Name": "default"}, "Configs": (spec.ipam or {}).get("Config") or []}
    state = network.driver_state
    return {
        "ID": network.id,
        "Version": network.version,
        "CreatedAt": network.created_at,
        "UpdatedAt": network.updated_at,
        "Spec": {
            "Name": spec.name,
            "Labels": spec.labels or {},
            "DriverConfiguration": {"Name": spec.driver or "overlay"},
            "Internal": bool(spec.internal),
            "Attachable": bool(spec.attachable),
            "Ingress": bool(spec.ingress),
            "IPAMOptions": ipam,
            "Scope": "swarm",
        },
        "DriverState": {"Name": "overlay", "Options": (state.options if state else None) or {}},
        "IPAMOptions": ipam,
    }
