"""What a name in Traefik's labels means to the service that uses it: middlewares, services and routers.

Traefik has one flat space of names for the whole cluster. Here a service's own definition comes first, then those of
its stack, then everybody else's, so that one stack file deployed twice (staging and production) keeps to itself, and
a middleware that one stack offers to all is still found. Definitions that are equally near and differ are nobody's:
who uses the name is told, and not served by a guess.

Pure: definitions in, the ones that are meant out.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from essaim.gateway.protocol.numbers import shown

T = TypeVar("T")
UNION = " + "
"""Between the keys of ports that one router leads to: all their replicas serve it."""
MOST_NAMED = 5
"""Services that a message names."""


@dataclass(frozen=True, slots=True)
class Scope:
    """Where names are looked up: a service, its stack ("" for none), and the middlewares that its own labels define."""

    service: str
    stack: str
    middlewares: dict[str, tuple[str, dict[str, str]]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Definition(Generic[T]):
    """`meant` is what a service's labels mean by a name; `told` is what they say, which equal definitions share."""

    scope: Scope
    meant: T
    told: object


Names = dict[str, list[Definition[T]]]
"""By name, in the order of the services' names."""


def nearest(known: Sequence[Definition[T]], scope: Scope) -> list[Definition[T]]:
    """The service's own, else those of its stack, else all."""
    own = [one for one in known if one.scope.service == scope.service]
    return own or [one for one in known if one.scope.stack == scope.stack] or list(known)


def meaning(
    sort: str, name: str, known: Sequence[Definition[T]], scope: Scope, told: Callable[[Definition[T]], object]
) -> list[Definition[T]]:
    """The definitions that a name means, all equal by `told`; none if there are none. `sort`: what is defined, for the
    message. Raises ValueError when they differ."""
    found = nearest(known, scope)
    if len(found) > 1:
        first = told(found[0])
        if any(told(one) != first for one in found[1:]):
            raise ValueError(
                f"the {sort} {shown(name)} is defined differently by {services_of(found)}: rename all but one"
            )
    return found


def services_of(found: Sequence[Definition[T]]) -> str:
    names = [one.scope.service for one in found]
    more = len(names) - MOST_NAMED
    return ", ".join(names) if more <= 0 else f"{', '.join(names[:MOST_NAMED])} and {more} more services"


def twins_of(known: Sequence[Definition[T]], scope: Scope) -> list[Definition[T]]:
    """The services of a stack, this one among them, whose labels say the same of a router (blue and green)."""
    own = next((one for one in known if one.scope.service == scope.service), None)
    return [one for one in known if own and one.scope.stack == scope.stack and one.told == own.told]


def leads(twins: Sequence[Definition[T]], scope: Scope) -> bool:
    """Whether this service's plan has the router that twins share: the first one's has."""
    return not twins or twins[0].scope.service == scope.service


def union_of(ports: Sequence[Definition[str]]) -> str | None:
    """The key of what several ports are together, None of none."""
    return UNION.join(one.meant for one in ports) or None
