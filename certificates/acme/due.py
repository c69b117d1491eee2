"""What is to be done about ordered certificates: which to make a row for, to order, to ask the server about, to forget.

- One certificate for each set of names and resolver. A set within another one of the same resolver has none of its own:
  the larger certificate is valid for it.
- A certificate that no service wants any more is kept until it ends (the service may come back), and not renewed. One
  that was never issued is forgotten once its pause after a failure is over, so that a service that comes and goes does
  not storm the server.
- Nothing is ordered by a resolver that has no account yet.

Pure: the store, what is wanted and the time in, a plan out.
"""

from dataclasses import dataclass, field

from essaim.certificates.asked.wanted import Order, Wanted
from essaim.cluster.acme import OrderedCertificate, Resolver, certificate_id
from essaim.cluster.changes import Change, Delete, put
from essaim.cluster.store import Store

from .renewal import due_at


@dataclass(slots=True)
class Plan:
    """Ids of what is due now, and `wake`: when to look again even without a change (seconds since 1970)."""

    changes: list[Change] = field(default_factory=list)
    register: list[str] = field(default_factory=list)
    order: list[str] = field(default_factory=list)
    ask: list[str] = field(default_factory=list)
    wake: float | None = None

    def later(self, at: float) -> None:
        self.wake = at if self.wake is None else min(self.wake, at)


def plan(store: Store, wanted: Wanted, now: float) -> Plan:
    made = Plan()
    for resolver in store.resolvers:
        _register(resolver, made, now)
    sets = sets_to_order(store, wanted)
    for row_id, (resolver, domains) in sets.items():
        if store.certificates.get(row_id) is None:
            row = OrderedCertificate(id=row_id, resolver_id=resolver.id, domains=list(domains))
            made.changes.append(put("certificates", row, new=True))
    for row in store.certificates:
        owner = store.resolvers.get(row.resolver_id)
        if owner is None:
            made.changes.append(Delete("certificates", row.id, row.version.index))
        elif row.id not in sets:
            _unwanted(row, made, now)
        elif owner.account_url:
            _wanted(row, made, now)
    return made


def sets_to_order(store: Store, wanted: Wanted) -> dict[str, tuple[Resolver, tuple[str, ...]]]:
    """By identifier, each set of names that has a certificate of its own."""
    found: dict[str, tuple[Resolver, tuple[str, ...]]] = {}
    for order in sorted(own_sets(wanted)):
        resolver = store.resolvers.named(order[0])
        if resolver is not None:
            found[certificate_id(resolver.id, order[1])] = (resolver, order[1])
    return found


def own_sets(wanted: Wanted) -> list[Order]:
    """Without the sets that are within a larger one of the same resolver."""
    by_name: dict[tuple[str, str], list[Order]] = {}
    for order in wanted.orders:
        for name in order[1]:
            by_name.setdefault((order[0], name), []).append(order)
    return [
        order
        for order in wanted.orders
        if not any(set(order[1]) < set(other[1]) for other in by_name[(order[0], order[1][0])])
    ]


def _register(resolver: Resolver, made: Plan, now: float) -> None:
    if resolver.account_url:
        return
    at = resolver.failure.retry_at if resolver.failure is not None else 0
    if at <= now:
        made.register.append(resolver.id)
    else:
        made.later(at)


def _wanted(row: OrderedCertificate, made: Plan, now: float) -> None:
    at = due_at(row)
    if at <= now:
        made.order.append(row.id)
        return
    made.later(at)
    if row.chain and now < row.not_after:
        if row.ask_at <= now:
            made.ask.append(row.id)
        else:
            made.later(row.ask_at)


def _unwanted(row: OrderedCertificate, made: Plan, now: float) -> None:
    until = row.not_after if row.chain else row.failure.retry_at if row.failure is not None else 0
    if until <= now:
        made.changes.append(Delete("certificates", row.id, row.version.index))
    else:
        made.later(until)
