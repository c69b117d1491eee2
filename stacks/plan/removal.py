"""The removal of a stack's services, of all or of those that its files no longer have, dependents first.

Pure: no I/O.
"""

from collections.abc import Collection, Mapping

from essaim.cluster.service import Service
from essaim.stacks.canonical.values import DEPENDS_LABEL

from .operations import Existing, Operation, Plan, in_stack


def removal(namespace: str, existing: Existing) -> Plan:
    """The operations of `stack rm`: dependents before what they depend on, then what no service uses any more.

    `existing` may hold more than the stack; of networks it holds those of the stack only.
    """
    mine = [service for service in existing.services if in_stack(service.spec.labels, namespace)]
    operations = remove_services(mine)
    operations += [
        Operation("remove", "secret", secret.spec.name or "", id=secret.id)
        for secret in existing.secrets
        if in_stack(secret.spec.labels, namespace)
    ]
    operations += [
        Operation("remove", "config", config.spec.name or "", id=config.id)
        for config in existing.configs
        if in_stack(config.spec.labels, namespace)
    ]
    operations += [Operation("remove", "network", name, id=id_) for name, id_ in existing.networks.items()]
    return Plan(operations)


def remove_services(services: list[Service]) -> list[Operation]:
    """Dependents first by the label that conversion wrote; what is depended on goes when their tasks have ended."""
    by_name = {service.spec.name or "": service for service in services}
    needs = {name: _needs(service, by_name) for name, service in by_name.items()}
    operations: list[Operation] = []
    awaited: set[str] = set()
    for name in _dependents_first(needs):
        for dependent in (other for other, needed in needs.items() if name in needed and other not in awaited):
            awaited.add(dependent)
            operations.append(Operation("wait", "service", dependent, id=by_name[dependent].id, condition="gone"))
        service = by_name[name]
        operations.append(Operation("remove", "service", name, id=service.id, version=service.version.index))
    return operations


def _needs(service: Service, known: Collection[str]) -> list[str]:
    label = (service.spec.labels or {}).get(DEPENDS_LABEL) or ""
    return [name for name in label.split(",") if name in known and name != service.spec.name]


def _dependents_first(needs: Mapping[str, list[str]]) -> list[str]:
    """Within that the newest last. A circle, which only hand-written labels can hold, is cut somewhere."""
    found: dict[str, None] = {}
    for root in needs:
        chain = {root: iter(needs[root])}
        while chain:
            name = next(reversed(chain))
            needed = next((other for other in chain[name] if other not in found and other not in chain), None)
            if needed is None:
                found[name] = None
                chain.pop(name)
            else:
                chain[needed] = iter(needs[needed])
    return list(reversed(found))
