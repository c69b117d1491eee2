"""What a deploy or a removal of a stack does: operations that both print (`--dry-run`) and are carried out in order.

Pure: no I/O.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from essaim.cluster.objects import Config, ConfigSpec, NetworkSpec, Secret, SecretSpec
from essaim.cluster.service import Service, ServiceSpec
from essaim.stacks.canonical.values import NAMESPACE_LABEL

from .difference import Change

Verb: TypeAlias = Literal["create", "update", "verify", "unchanged", "remove", "wait"]
Kind: TypeAlias = Literal["network", "secret", "config", "service"]
Spec: TypeAlias = NetworkSpec | SecretSpec | ConfigSpec | ServiceSpec


@dataclass(frozen=True, slots=True)
class Existing:
    """What the cluster holds. `networks` are those of swarm scope, name to id; the others may be all of their kind."""

    services: Collection[Service] = ()
    networks: Mapping[str, str] = field(default_factory=dict)
    secrets: Collection[Secret] = ()
    configs: Collection[Config] = ()


@dataclass(frozen=True, slots=True)
class Operation:
    """One step. `spec` is what to send; `id` and `version` name what is updated or removed.

    `verify`: send the spec as an update: a secret's content cannot be read back, and the manager refuses to change it.
    `wait`: until the service `name` has reached `condition` (service_started, service_healthy,
    service_completed_successfully; at removal `gone`: its tasks have ended) for the service `dependent`; a failure
    counts only if it is `required`.
    """

    verb: Verb
    kind: Kind
    name: str
    spec: Spec | None = None
    id: str = ""
    version: int = 0
    changes: tuple[Change, ...] = ()
    condition: str = ""
    required: bool = True
    dependent: str = ""

    def __str__(self) -> str:
        if self.verb == "wait":
            return f"wait       {self.kind} {self.name} until {self.condition.removeprefix('service_')}"
        lines = [f"{self.verb:<10} {self.kind} {self.name}"]
        lines += [f"             {change}" for change in self.changes]
        return "\n".join(lines)


@dataclass(frozen=True, slots=True)
class Plan:
    operations: list[Operation]

    @property
    def is_empty(self) -> bool:
        """Does nothing change?"""
        return all(operation.verb in ("unchanged", "verify", "wait") for operation in self.operations)

    def __str__(self) -> str:
        verbs = [operation.verb for operation in self.operations]
        counts = [f"{verbs.count(verb)} to {verb}" for verb in ("create", "update", "remove") if verbs.count(verb)]
        summary = ", ".join(counts) or "nothing to change"
        return "\n".join([*(str(operation) for operation in self.operations), f"Plan: {summary}."])


def in_stack(labels: Mapping[str, str] | None, namespace: str) -> bool:
    return (labels or {}).get(NAMESPACE_LABEL) == namespace
