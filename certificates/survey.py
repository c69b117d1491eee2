"""What all services want, looked at as often as the store changes: a service is read again only when its labels change.

Pure: the store in, wants out.
"""

from collections.abc import Mapping

from essaim.cluster.store import Store

from .wanted import Wanted, merged, wanted_by

NO_LABELS: Mapping[str, str] = {}


class Survey:
    def __init__(self) -> None:
        self._known: dict[str, tuple[Mapping[str, str], Wanted]] = {}

    def take(self, store: Store) -> Wanted:
        known: dict[str, tuple[Mapping[str, str], Wanted]] = {}
        for service in store.services:
            labels = service.spec.labels or NO_LABELS
            before = self._known.get(service.id)
            same = before is not None and before[0] == labels
            known[service.id] = before if before and same else (labels, wanted_by(service.id, labels))
        self._known = known
        return merged(wanted for _, wanted in known.values())
