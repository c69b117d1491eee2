"""Resolvers and certificates: what may be made, what a renewal is, and how they are shown (keys never are).

Pure: the store and a request in, changes and shapes out, or ClusterError.
"""

import base64
import binascii
from urllib.parse import urlsplit

from msgspec.structs import replace

from essaim.api.certificate_schema import CertificateShown, CreateResolver, ResolverShown, UpdateResolver
from essaim.certificates.acme.due import sets_to_order
from essaim.certificates.acme.renewal import renewal_at
from essaim.certificates.asked.wanted import Wanted
from essaim.certificates.book.book import BookMaker, Entry, age
from essaim.certificates.pem import BadCertificate, read_authority
from essaim.cluster.acme import CHALLENGES, HTTP, OrderedCertificate, Resolver, ResolverSpec
from essaim.cluster.changes import Change, Delete, put
from essaim.cluster.errors import AlreadyExists, FailedPrecondition, InvalidArgument, NotFound
from essaim.cluster.ids import Chance, new_id
from essaim.cluster.store import Store
from essaim.secrets import objects

from . import lookup
from .services import Created

LEAST_EAB = 16
"""Bytes of a binding's key."""


def create_resolver(
    store: Store, asked: CreateResolver, *, chance: Chance, account_key: str
) -> tuple[list[Change], Created]:
    spec = _checked(asked)
    if store.resolvers.named(spec.name) is not None:
        raise AlreadyExists(f"certificate resolver {spec.name} already exists")
    resolver = Resolver(id=new_id(chance), spec=spec, account_key=account_key)
    return [put("resolvers", resolver, new=True)], Created(resolver.id)


def update_resolver(store: Store, reference: str, asked: UpdateResolver) -> list[Change]:
    """Its certificates stay. Raises InvalidArgument, NotFound."""
    resolver = find_resolver(store, reference)
    before = resolver.spec
    fields = {name: _either(getattr(asked, name), getattr(before, name)) for name in asked.__struct_fields__}
    spec = _checked(CreateResolver(name=before.name, **fields))
    changed = replace(resolver, spec=spec, failure=None)
    if (spec.directory, spec.eab_kid, spec.eab_key) != (before.directory, before.eab_kid, before.eab_key):
        changed = replace(changed, account_url=None)
    return [put("resolvers", changed)]


def _either(asked: str | None, before: str | None) -> str:
    return asked if asked is not None else before or ""


def _checked(asked: CreateResolver) -> ResolverSpec:
    """Raises InvalidArgument."""
    if wrong := objects.name_error(asked.name):
        raise InvalidArgument(f"certificate resolver: {wrong}")
    parts = urlsplit(asked.directory)
    if parts.scheme not in ("https", "http") or not parts.hostname:
        raise InvalidArgument(
            "certificate resolver: the directory must be the ACME server's URL, such as "
            "https://acme-v02.api.letsencrypt.org/directory"
        )
    challenge = asked.challenge or HTTP
    if challenge not in CHALLENGES:
        raise InvalidArgument(f"certificate resolver: the challenge must be one of {', '.join(CHALLENGES)}")
    if asked.email and ("@" not in asked.email or set(asked.email) & set(" ,?")):
        raise InvalidArgument(f"certificate resolver: {asked.email[:100]!r} is not an e-mail address")
    if asked.ca_certificate:
        try:
            read_authority(asked.ca_certificate.encode())
        except BadCertificate as error:
            raise InvalidArgument(f"certificate resolver: the CA file cannot be used: {error}") from error
    if bool(asked.eab_kid) != bool(asked.eab_key):
        raise InvalidArgument("certificate resolver: an external account needs both its key ID and its key")
    if asked.eab_key and not _is_key(asked.eab_key):
        raise InvalidArgument("certificate resolver: the external account's key must be in base64url, 16 bytes or more")
    return ResolverSpec(
        name=asked.name,
        email=asked.email or None,
        directory=asked.directory,
        challenge=challenge,
        ca_certificate=asked.ca_certificate or None,
        eab_kid=asked.eab_kid or None,
        eab_key=asked.eab_key or None,
    )


def _is_key(text: str) -> bool:
    try:
        return len(base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)) >= LEAST_EAB
    except (binascii.Error, ValueError):
        return False


def find_resolver(store: Store, reference: str) -> Resolver:
    return lookup.find(store.resolvers, "certificate resolver", reference, store.resolvers.by("name", reference))


def remove_resolver(store: Store, wanted: Wanted, reference: str) -> list[Change]:
    """Its certificates go with it. Raises FailedPrecondition while services order by it."""
    resolver = find_resolver(store, reference)
    users = {one for order, services in wanted.orders.items() if order[0] == resolver.spec.name for one in services}
    if users:
        names = ", ".join(sorted(_service_name(store, one) for one in users))
        plural = "s" if len(users) > 1 else ""
        raise FailedPrecondition(
            f"certificate resolver '{resolver.spec.name}' is in use by the following service{plural}: {names}"
        )
    rows = [Delete("certificates", row.id) for row in store.certificates if row.resolver_id == resolver.id]
    return [Delete("resolvers", resolver.id, resolver.version.index), *rows]


def show_resolver(store: Store, resolver: Resolver) -> ResolverShown:
    failure = None if resolver.account_url else resolver.failure
    return ResolverShown(
        id=resolver.id,
        name=resolver.spec.name,
        email=resolver.spec.email or "",
        directory=resolver.spec.directory,
        challenge=resolver.spec.challenge,
        ca_certificate=resolver.spec.ca_certificate or "",
        eab_kid=resolver.spec.eab_kid or "",
        account_url=resolver.account_url or "",
        state="ready" if resolver.account_url else "failed" if failure is not None else "registering",
        reason=failure.reason if failure is not None else "",
        retry_at=failure.retry_at if failure is not None else 0,
        certificates=sum(1 for row in store.certificates if row.resolver_id == resolver.id),
        created_at=resolver.created_at,
    )


def renew(store: Store, reference: str) -> list[Change]:
    """Order anew at once, whatever failed before."""
    row = _find_ordered(store, reference)
    if row is None:
        raise NotFound(f"there is no ordered certificate {reference[:100]!r} (those of secrets are replaced by hand)")
    return [put("certificates", replace(row, is_forced=True, failure=None))]


def _find_ordered(store: Store, reference: str) -> OrderedCertificate | None:
    """By id, or by a name that it is for, or by the beginning of its id. Raises InvalidArgument."""
    if (exact := store.certificates.get(reference)) is not None:
        return exact
    named = [row for row in store.certificates if reference.lower() in row.domains]
    found = named or [row for row in store.certificates if reference and row.id.startswith(reference)]
    if len(found) > 1:
        raise InvalidArgument(f"{reference} is ambiguous: {len(found)} certificates; use the ID (certificate ls)")
    return found[0] if found else None


def find_certificate(store: Store, maker: BookMaker, wanted: Wanted, reference: str, now: float) -> CertificateShown:
    """One in detail, with its chain. Raises NotFound."""
    row = _find_ordered(store, reference)
    if row is not None:
        return replace(_show_ordered(store, wanted, row, now), chain=row.chain)
    for entry in maker.entries(store):
        if entry.reference == reference:
            chain = entry.read.pair.chain if entry.read.pair is not None else ""
            return replace(_show_entry(store, entry, now), chain=chain)
    raise NotFound(f"certificate {reference[:100]} not found (certificate ls)")


def list_certificates(store: Store, maker: BookMaker, wanted: Wanted, now: float) -> list[CertificateShown]:
    ordered = [_show_ordered(store, wanted, row, now) for row in store.certificates]
    return [
        *sorted(ordered, key=lambda one: (one.name, one.id)),
        *(_show_entry(store, entry, now) for entry in maker.entries(store)),
    ]


def _show_ordered(store: Store, wanted: Wanted, row: OrderedCertificate, now: float) -> CertificateShown:
    resolver = store.resolvers.get(row.resolver_id)
    name = resolver.spec.name if resolver is not None else ""
    services = wanted.orders.get((name, tuple(row.domains)), set())
    state, reason = "waiting", "the resolver has no account yet"
    failure = row.failure
    if resolver is not None and not resolver.account_url and resolver.failure is not None:
        failure = replace(resolver.failure, reason=f"the resolver has no account: {resolver.failure.reason}")
    if row.order is not None:
        state, reason = "ordering", ""
    elif failure is not None:
        state, reason = "failed", failure.reason
    elif row.chain:
        aged = age(row.not_before, row.not_after, now, 0)
        state, reason = ("expired" if aged else "issued"), aged
    elif resolver is not None and resolver.account_url:
        reason = "its order has not begun yet"
    if resolver is not None and row.id not in sets_to_order(store, wanted):
        state, reason = "unused", "no service asks for it any more; it is not renewed"
    return CertificateShown(
        id=row.id,
        name=row.domains[0],
        source="acme",
        resolver=name,
        names=row.domains,
        state=state,
        reason=reason,
        retry_at=failure.retry_at if failure is not None and state == "failed" else 0,
        not_before=row.not_before,
        not_after=row.not_after,
        renew_at=renewal_at(row) if row.chain else 0,
        services=sorted(_service_name(store, one) for one in services),
    )


def _show_entry(store: Store, entry: Entry, now: float) -> CertificateShown:
    pair = entry.read.pair
    aged = age(pair.not_before, pair.not_after, now, 0) if pair is not None else ""
    return CertificateShown(
        id="",
        name=entry.reference,
        source="secret",
        names=list(pair.names) if pair is not None else [],
        state="broken" if pair is None else "expired" if aged else "issued",
        reason=entry.read.problem or aged,
        not_before=pair.not_before if pair is not None else 0,
        not_after=pair.not_after if pair is not None else 0,
        services=sorted(_service_name(store, one) for one in entry.services),
    )


def _service_name(store: Store, service_id: str) -> str:
    service = store.services.get(service_id)
    return (service.spec.name if service is not None else None) or service_id
