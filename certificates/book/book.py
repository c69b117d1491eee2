"""The certificate book, out of the store: what every gateway gets, and what is wrong with what it does not get.

A certificate is in it when a service asks for it, or when its secret is offered to all (`essaim.certificate=true`) and
there is a service that ends TLS: no gateway has a use for it before. One that has expired stays: a client that insists
may still come in, and the reason is told. Challenges of every order in progress are in it.

Pure: the store and the time in, a book out; equal stores give equal books but for what time does.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

from msgspec.structs import replace

from essaim.certificates.asked.survey import Survey
from essaim.certificates.asked.wanted import ORDERED, Wanted
from essaim.certificates.pem import BadCertificate, Pair, read_authority, read_pair
from essaim.cluster.acme import Failure, OrderedCertificate, Resolver, certificate_id
from essaim.cluster.certificates import Authority, Certificate, CertificateBook, CertificateProblem
from essaim.cluster.store import Store
from essaim.cluster.walls import Faults, words

OFFERED = "essaim.certificate"
MOST_AUTHORITIES = 16 << 20
"""Bytes: they go in one message, whenever the book changes; certificates go in parts."""
SOON = 14 * 24 * 3600.0
"""Seconds before its end in which a certificate of a secret is warned about: nobody renews it by itself."""


@dataclass(frozen=True, slots=True)
class Read:
    """What a reference came to: `pair` or `authority`, or why not."""

    pair: Pair | None = None
    authority: str = ""
    problem: str = ""


@dataclass(frozen=True, slots=True)
class Entry:
    """A certificate that a secret holds, or was to hold: who asks for it, and what it came to."""

    reference: str
    services: frozenset[str]
    read: Read


class Shelf:
    """Secrets and configs that were read before: their content never changes, so none is parsed twice."""

    def __init__(self) -> None:
        self._before: dict[tuple[str, ...], Read] = {}
        self._now: dict[tuple[str, ...], Read] = {}

    def turn(self) -> None:
        """A new book is begun: what the last one did not use is forgotten."""
        self._before, self._now = self._now, {}

    def pair(self, store: Store, reference: str) -> Read:
        return self._read("pair", store, _names_of(reference))

    def has_pair(self, store: Store, reference: str) -> bool:
        """Whether it has been read, or cannot be."""
        found = _contents("pair", store, _names_of(reference))
        return isinstance(found, str) or found[0] in self._now or found[0] in self._before

    def authority(self, store: Store, reference: str) -> Read:
        return self._read("authority", store, [reference])

    def _read(self, kind: str, store: Store, names: list[str]) -> Read:
        found = _contents(kind, store, names)
        if isinstance(found, str):
            return Read(problem=found)
        key, parts = found
        if key not in self._now:
            self._now[key] = self._before.get(key) or _parsed(kind, parts)
        return self._now[key]


def _names_of(reference: str) -> list[str]:
    return reference.split(":", 1) if ":" in reference else [reference]


def _contents(kind: str, store: Store, names: list[str]) -> tuple[tuple[str, ...], list[bytes]] | str:
    """What tells a reference from any other, and its content; or what is wrong."""
    ids, parts = [kind], []
    for place, name in enumerate(names):
        found = _content(store, name.strip(), is_key=kind == "pair" and place == len(names) - 1)
        if isinstance(found, str):
            return found
        ids.append(found[0])
        parts.append(found[1])
    return tuple(ids), parts


def _parsed(kind: str, parts: list[bytes]) -> Read:
    try:
        return Read(pair=read_pair(*parts)) if kind == "pair" else Read(authority=read_authority(parts[0]))
    except BadCertificate as error:
        return Read(problem=str(error))
    except Exception as error:  # libraries raise many kinds, and one certificate must not stop the book
        return Read(problem=f"it cannot be read ({words(error)})")


def _content(store: Store, name: str, *, is_key: bool) -> tuple[str, bytes] | str:
    """Id and content of a secret, or (where no key is) of a config; or what is wrong."""
    if (secret := store.secrets.named(name)) is not None:
        if not secret.spec.data:
            return f"secret {name} has no content of its own (a driver provides it)"
        return secret.id, secret.spec.data
    if (config := store.configs.named(name)) is not None:
        if is_key:
            return f"{name} is a config, which anybody may read; a private key belongs in a secret"
        return config.id, config.spec.data or b""
    kinds = "secret" if is_key else "secret or config"
    return f"there is no {kinds} {name[:100]!r}"


class BookMaker:
    """Makes one book after the other; `now` in seconds since 1970."""

    def __init__(self, faults: Faults | None = None) -> None:
        self._survey = Survey(faults)
        self._shelf = Shelf()

    def read_ahead(self, store: Store) -> Iterator[None]:
        """Read what the next book needs, a certificate a step: 0.7 ms each, which the caller may spread over time."""
        for entry in self._references(store, self._survey.take(store)):
            if not self._shelf.has_pair(store, entry):
                self._shelf.pair(store, entry)
                yield

    def make(self, store: Store, now: float) -> CertificateBook:
        wanted = self._survey.take(store)
        self._shelf.turn()
        problems = list(wanted.problems)
        certificates = self._of_secrets(store, wanted, problems, now) + _of_orders(store, wanted, problems, now)
        orders = [one.order for one in store.certificates if one.order is not None]
        return CertificateBook(
            version=store.version,
            certificates=sorted(certificates, key=lambda one: one.name),
            authorities=self._authorities(store, wanted, problems),
            http_challenges=sorted(
                (one for order in orders for one in order.http_challenges), key=lambda one: one.token
            ),
            alpn_challenges=sorted(
                (one for order in orders for one in order.alpn_challenges), key=lambda one: one.domain
            ),
            problems=sorted((_named(store, one) for one in problems), key=lambda one: (one.service_id, one.text)),
        )

    def entries(self, store: Store) -> list[Entry]:
        """What secrets hold for services, good or broken, by reference."""
        self._shelf.turn()
        return self._entries(store, self._survey.take(store))

    def _entries(self, store: Store, wanted: Wanted) -> list[Entry]:
        users = self._references(store, wanted)
        return [Entry(one, frozenset(users[one]), self._shelf.pair(store, one)) for one in sorted(users)]

    def _references(self, store: Store, wanted: Wanted) -> dict[str, set[str]]:
        """What services ask for, and what secrets offer, with the services that ask."""
        users = dict(wanted.certificates)
        for secret in store.secrets:
            if _says_yes((secret.spec.labels or {}).get(OFFERED, "")):
                users.setdefault(secret.spec.name or "", set())
        return users

    def _of_secrets(
        self, store: Store, wanted: Wanted, problems: list[CertificateProblem], now: float
    ) -> list[Certificate]:
        made: list[Certificate] = []
        for entry in self._entries(store, wanted):
            name, pair = f"certificate {entry.reference}", entry.read.pair
            if pair is None:
                problems += _told(entry.services, f"{name} cannot be used: {entry.read.problem}")
                continue
            if entry.services or wanted.ends_tls:
                made.append(_certificate(f"secret {entry.reference}", pair.chain, pair.key, pair.names, pair.not_after))
            if aged := age(pair.not_before, pair.not_after, now, SOON):
                problems += _told(entry.services, f"{name} {aged}")
        return made

    def _authorities(self, store: Store, wanted: Wanted, problems: list[CertificateProblem]) -> list[Authority]:
        made: list[Authority] = []
        size = 0
        for reference, services in sorted(wanted.authorities.items()):
            read = self._shelf.authority(store, reference)
            problem = read.problem
            if size + len(read.authority) > MOST_AUTHORITIES:
                problem = f"all services' authorities together are more than {MOST_AUTHORITIES >> 20} MiB"
            if problem:
                problems += _told(services, f"client authority {reference} cannot be used: {problem}")
            else:
                size += len(read.authority)
                made.append(Authority(name=reference, chain=read.authority))
        return made


def _of_orders(store: Store, wanted: Wanted, problems: list[CertificateProblem], now: float) -> list[Certificate]:
    made: dict[str, Certificate] = {}
    for (resolver_name, domains), services in sorted(wanted.orders.items()):
        resolver = store.resolvers.named(resolver_name)
        if resolver is None:
            said = f"there is no certificate resolver {resolver_name[:100]!r} (essaim certificate resolver create)"
            problems += _told(services, f"no certificate for {', '.join(domains)}: {said}")
            continue
        if not resolver.account_url and resolver.failure is not None:
            said = f"resolver {resolver_name} has no account: {failure_text(resolver.failure)}"
            problems += _told(services, f"no certificate for {', '.join(domains)}: {said}")
        row = store.certificates.get(certificate_id(resolver.id, domains))
        if row is None:
            continue
        if row.failure is not None:
            names = ", ".join(domains)
            what = f"the certificate for {names} is not renewed" if row.chain else f"no certificate for {names}"
            problems += _told(services, f"{what}: {failure_text(row.failure)}")
        if row.chain:
            name = _name(resolver, row, made)
            made[name] = _certificate(name, row.chain, row.key, row.domains, row.not_after)
            if aged := age(row.not_before, row.not_after, now, 0):
                problems += _told(services, f"certificate {name} {aged}")
    return list(made.values())


def failure_text(failure: Failure) -> str:
    """Why an attempt came to nothing, and when the next one is."""
    again = datetime.fromtimestamp(failure.retry_at, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    return f"{failure.reason} (attempt {failure.attempts}; the next one at {again})"


def _name(resolver: Resolver, row: OrderedCertificate, taken: dict[str, Certificate]) -> str:
    more = f" +{len(row.domains) - 1}" if len(row.domains) > 1 else ""
    name = f"{ORDERED}{resolver.spec.name} {row.domains[0]}{more}"
    return name if name not in taken else f"{name} {row.id}"


def _certificate(name: str, chain: str, key: str, names: Iterable[str], not_after: float) -> Certificate:
    return Certificate(name=name, chain=chain, key=key, names=list(names), not_after=not_after)


def age(not_before: float, not_after: float, now: float, soon: float) -> str:
    """What is wrong with the time, if anything is."""
    if now >= not_after:
        return f"has expired on {_date(not_after)}"
    if now < not_before:
        return f"is not valid before {_date(not_before)}"
    return f"expires on {_date(not_after)}" if now > not_after - soon else ""


def _date(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d")


def _told(services: Iterable[str], text: str) -> list[CertificateProblem]:
    """The problem for each service that has it, or for none in particular."""
    return [CertificateProblem(service_id=one, text=text) for one in sorted(services) or [""]]


def _named(store: Store, problem: CertificateProblem) -> CertificateProblem:
    service = store.services.get(problem.service_id)
    return replace(problem, service=service.spec.name or "") if service is not None else problem


def _says_yes(value: str) -> bool:
    return value.strip().lower() in ("true", "1")
