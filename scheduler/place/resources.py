"""What tasks reserve and nodes have: CPU, memory, and generic resources (counted ones, and named ones like GPUs).

Pure: numbers and names.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import lru_cache

import msgspec

from essaim.cluster.service import DiscreteResource, GenericResource, NamedResource, Resources, TaskSpec
from essaim.cluster.task import Task


@dataclass(frozen=True, slots=True)
class Demand:
    """A task's reservations, never below 0: that would be room for others. CPU in billionths of a core, memory in
    bytes, generic kinds by count."""

    cpu: int = 0
    memory: int = 0
    generic: tuple[tuple[str, int], ...] = ()


NOTHING = Demand()


def demand_of(spec: TaskSpec) -> Demand:
    reserved = spec.resources.reservations if spec.resources else None
    if reserved is None:
        return NOTHING
    cpu, memory = max(reserved.nano_cpus or 0, 0), max(reserved.memory_bytes or 0, 0)
    return _demand(cpu, memory, _counts(reserved.generic_resources))


@lru_cache(maxsize=4096)
def _demand(cpu: int, memory: int, generic: tuple[tuple[str, int], ...]) -> Demand:
    return Demand(cpu, memory, generic)


def _counts(generic: list[GenericResource] | None) -> tuple[tuple[str, int], ...]:
    if not generic:
        return ()
    counted: Counter[str] = Counter()
    for resource in generic:
        if resource.discrete_resource_spec:
            counted[resource.discrete_resource_spec.kind] += max(resource.discrete_resource_spec.value, 0)
        elif resource.named_resource_spec:
            counted[resource.named_resource_spec.kind] += 1
    return tuple(sorted(counted.items()))


@dataclass(slots=True)
class Stock:
    """What a node has left. It may be negative after a node shrank."""

    cpu: int = 0
    memory: int = 0
    counted: Counter[str] = field(default_factory=Counter)
    named: dict[str, set[str]] = field(default_factory=dict)

    @classmethod
    def of(cls, resources: Resources | None) -> "Stock":
        if resources is None:
            return cls()
        stock = cls(resources.nano_cpus or 0, resources.memory_bytes or 0)
        for generic in resources.generic_resources or []:
            if generic.discrete_resource_spec:
                stock.counted[generic.discrete_resource_spec.kind] += generic.discrete_resource_spec.value
            elif generic.named_resource_spec:
                stock.named.setdefault(generic.named_resource_spec.kind, set()).add(generic.named_resource_spec.value)
        return stock

    def lacks(self, demand: Demand) -> str | None:
        """The first resource of which there is too little for the demand."""
        if demand.cpu and demand.cpu > self.cpu:
            return "CPU"
        if demand.memory and demand.memory > self.memory:
            return "memory"
        for kind, count in demand.generic:
            if count > self.counted[kind] + len(self.named.get(kind, ())):
                return kind
        return None

    def choose(self, demand: Demand) -> list[GenericResource]:
        """Which generic resources a task gets: named ones first, in order, then counted ones."""
        chosen: list[GenericResource] = []
        for kind, count in demand.generic:
            names = sorted(self.named.get(kind, ()))[:count]
            chosen += [GenericResource(named_resource_spec=NamedResource(kind=kind, value=n)) for n in names]
            if count > len(names):
                rest = DiscreteResource(kind=kind, value=count - len(names))
                chosen.append(GenericResource(discrete_resource_spec=rest))
        return chosen

    def take(self, demand: Demand, assigned: Iterable[GenericResource], sign: int = 1) -> None:
        """Take a task's part out (`sign` -1: give it back)."""
        self.cpu -= sign * demand.cpu
        self.memory -= sign * demand.memory
        for generic in assigned:
            if discrete := generic.discrete_resource_spec:
                self.counted[discrete.kind] -= sign * discrete.value
            elif named := generic.named_resource_spec:
                names = self.named.setdefault(named.kind, set())
                names.discard(named.value) if sign > 0 else names.add(named.value)


def with_generic(task: Task, stock: Stock, demand: Demand) -> Task:
    """The task with the generic resources of the node that it will hold."""
    if not demand.generic:
        return task
    return msgspec.structs.replace(task, assigned_generic_resources=stock.choose(demand))
