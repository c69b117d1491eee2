"""What is to be done about ordered certificates, against a naive second version that goes by the rules one by one."""

import itertools
from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st

from essaim.certificates.acme.due import own_sets, plan
from essaim.certificates.acme.renewal import PAUSE_FIRST, PAUSE_LIMITED, PAUSE_MOST, due_at, failed, renewal_at
from essaim.certificates.asked.wanted import Wanted
from essaim.cluster.acme import Failure, Order, OrderedCertificate, Resolver, ResolverSpec, certificate_id
from essaim.cluster.changes import ChangeSet, Delete, Put, encode, put
from essaim.cluster.store import Store

NOW = 1_000_000.0
NAMES = ["a.example.org", "b.example.org", "c.example.org"]
SETS = st.lists(st.sampled_from(NAMES), min_size=1, unique=True).map(lambda names: tuple(sorted(names)))
TIMES = st.one_of(st.just(0.0), st.floats(NOW - 100, NOW + 100))
FAILURES = st.none() | st.builds(
    Failure, reason=st.just("no"), attempts=st.integers(1, 9), at=st.just(NOW), retry_at=TIMES
)


@st.composite
def rows(draw: st.DrawFn, resolver: str, domains: tuple[str, ...]) -> OrderedCertificate:
    is_issued = draw(st.booleans())
    return OrderedCertificate(
        id=certificate_id(resolver, domains),
        resolver_id=resolver,
        domains=list(domains),
        chain="C" if is_issued else "",
        not_before=NOW - 300 if is_issued else 0,
        not_after=draw(st.floats(NOW - 200, NOW + 600)) if is_issued else 0,
        advised_at=draw(TIMES),
        ask_at=draw(TIMES),
        is_forced=draw(st.booleans()),
        order=draw(st.none() | st.just(Order(url="u", key="k", begun_at=NOW))),
        failure=draw(FAILURES),
    )


@st.composite
def worlds(draw: st.DrawFn) -> tuple[Store, Wanted]:
    """Resolvers le (with or without an account) and other; rows of these and of one that was removed."""
    store, changes = Store(), []
    for name in ("le", "other"):
        url = draw(st.none() | st.just("https://ca/account"))
        failure = None if url else draw(FAILURES)
        changes.append(put("resolvers", _resolver(name, url, failure), new=True))
    for resolver, domains in itertools.product(("id-le", "id-other", "gone"), [draw(SETS), draw(SETS)]):
        changes.append(put("certificates", draw(rows(resolver, domains)), force=True))
    assert store.apply(1, encode(ChangeSet(changes, datetime.fromtimestamp(NOW, UTC)))).ok
    wanted = Wanted()
    for name in ("le", "other", "nosuch"):
        for domains in draw(st.lists(SETS, max_size=3)):
            wanted.orders[(name, domains)] = {"s1"}
    return store, wanted


def _resolver(name: str, url: str | None, failure: Failure | None) -> Resolver:
    return Resolver(id=f"id-{name}", spec=ResolverSpec(name=name), account_url=url, failure=failure)


@given(worlds())
def test_plan_follows_the_rules(world: tuple[Store, Wanted]) -> None:
    store, wanted = world
    made = plan(store, wanted, NOW)
    moments: list[float] = []
    own = {
        certificate_id(f"id-{name}", domains)
        for name, domains in wanted.orders
        if name != "nosuch" and not any(name == n and set(domains) < set(other) for n, other in wanted.orders)
    }
    created = {row.id for change in made.changes if isinstance(change, Put) for row in [_decoded(change)]}
    deleted = {change.id for change in made.changes if isinstance(change, Delete)}
    assert created == {row_id for row_id in own if store.certificates.get(row_id) is None}
    for resolver in store.resolvers:
        pause = resolver.failure.retry_at if resolver.failure else 0
        assert (resolver.id in made.register) == (resolver.account_url is None and pause <= NOW)
        moments += [pause] if resolver.account_url is None and pause > NOW else []
    for row in store.certificates:
        owner = store.resolvers.get(row.resolver_id)
        if owner is None:
            assert row.id in deleted
            continue
        if row.id not in own:
            end = row.not_after if row.chain else row.failure.retry_at if row.failure else 0
            assert (row.id in deleted) == (end <= NOW)
            assert row.id not in made.order
            moments += [end] if end > NOW else []
            continue
        assert row.id not in deleted
        is_due = owner.account_url is not None and due_at(row) <= NOW
        assert (row.id in made.order) == is_due
        asks = owner.account_url is not None and not is_due and row.chain and row.not_after > NOW
        assert (row.id in made.ask) == bool(asks and row.ask_at <= NOW)
        moments += [due_at(row)] if owner.account_url and not is_due else []
        moments += [row.ask_at] if asks and row.ask_at > NOW else []
    assert made.wake == (min(moments) if moments else None)
    assert made.wake is None or made.wake > NOW


def _decoded(change: Put) -> OrderedCertificate:
    return Store().certificates.decode(change.object)


@given(st.lists(st.tuples(st.sampled_from(["le", "other"]), SETS), max_size=7, unique=True))
def test_own_sets_cover_every_name_and_none_is_within_another(orders: list[tuple[str, tuple[str, ...]]]) -> None:
    wanted = Wanted(orders={order: {"s"} for order in orders})
    own = own_sets(wanted)
    assert {(o[0], name) for o in own for name in o[1]} == {(o[0], name) for o in orders for name in o[1]}
    for one, other in itertools.permutations(own, 2):
        assert one[0] != other[0] or not set(one[1]) <= set(other[1])


@given(st.floats(1, 1e9), st.floats(1, 1e9), TIMES, st.booleans())
def test_renewal_is_within_the_lifetime_and_leaves_a_sixth(
    begin: float, lifetime: float, advised: float, forced: bool
) -> None:
    row = OrderedCertificate(
        id="x",
        resolver_id="r",
        domains=["a"],
        chain="C",
        not_before=begin,
        not_after=begin + lifetime,
        advised_at=advised,
        is_forced=forced,
    )
    at = renewal_at(row)
    assert at <= row.not_after - (row.not_after - begin) / 6
    if forced:
        assert at == 0
    elif not advised:
        assert at >= begin


def test_pauses_double_up_to_a_limit_and_leave_a_limited_server_alone() -> None:
    failure: Failure | None = None
    pauses = []
    for _ in range(12):
        failure = failed(failure, "no", NOW)
        pauses.append(failure.retry_at - NOW)
    assert pauses[0] == PAUSE_FIRST
    assert pauses == sorted(pauses)
    assert pauses[-1] == PAUSE_MOST
    assert len([at for at in itertools.accumulate([0.0, *pauses]) if at < 3600]) <= 5
    assert failed(None, "too many", NOW, is_limited=True).retry_at == NOW + PAUSE_LIMITED
