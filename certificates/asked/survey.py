"""What all services want, looked at as often as the store changes: a service is read again only when its labels change.

Labels that cannot be read leave their service with what it wanted before, and with a problem; the others go on.

Most changes of services are none of their labels (tasks, updates, scales): they concern no certificate, and a leader of
5,000 services is spared 45 ms for each.

Pure: the store and its events in, wants out.
"""

from collections.abc import Iterable, Mapping
from functools import partial

from essaim.cluster.certificates import CertificateProblem
from essaim.cluster.service import Service
from essaim.cluster.store import Store
from essaim.cluster.walls import Faults, Walls
from essaim.cluster.watch import Event

from .wanted import Wanted, merged, wanted_by

NO_LABELS: Mapping[str, str] = {}
UNREAD: Mapping[str, str] = {"": "labels that could not be read, and are tried anew"}


class Survey:
    def __init__(self, faults: Faults | None = None) -> None:
        self._walls = Walls("its labels for certificates cannot be read", faults)
        self._known: dict[str, tuple[Mapping[str, str], Wanted]] = {}

    def take(self, store: Store) -> Wanted:
        known: dict[str, tuple[Mapping[str, str], Wanted]] = {}
        problems = Wanted()
        self._walls.begin()
        for service in store.services:
            labels = service.spec.labels or NO_LABELS
            before = self._known.get(service.id)
            if before is not None and before[0] == labels:
                known[service.id] = before
                continue
            read = self._walls.guard(service.id, service.id, partial(wanted_by, service.id, labels), None)
            if read is not None:
                known[service.id] = (labels, read)
                continue
            known[service.id] = (UNREAD, before[1] if before is not None else Wanted())
            reason = self._walls.reason(service.id) or ""
            problems.problems.append(CertificateProblem(service_id=service.id, text=reason))
        self._walls.end()
        self._known = known
        return merged([*(wanted for _, wanted in known.values()), problems])


def concern_certificates(events: Iterable[Event]) -> bool:
    """Whether any of them may change what is wanted or what there is."""
    return any(event.table != "services" or _wants_change(event) for event in events)


def _wants_change(event: Event) -> bool:
    before = _labels(event.old) if event.kind == "update" else NO_LABELS
    after = _labels(event.object)
    return before != after and any(_is_ours(label) for labels in (before, after) for label in labels)


def _labels(service: Service) -> Mapping[str, str]:
    return service.spec.labels or NO_LABELS


def _is_ours(label: str) -> bool:
    return label.lower().startswith(("essaim.tls", "traefik."))
