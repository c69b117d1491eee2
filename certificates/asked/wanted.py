"""What certificates the services' labels ask for.

- `essaim.tls.certificate`: secrets, comma-separated; each holds a chain and its key, or is `CERT:KEY`, a secret or
  config with the chain and a secret with the key.
- `essaim.tls.client.ca`: the authorities of clients' certificates, configs or secrets, comma-separated.
- `traefik.http.routers.X.tls.certresolver` (and `traefik.tcp...`): the resolver that orders one; its names are those of
  `.tls.domains[n].main` and `.sans`, or else the rule's.
- Secrets with the label `essaim.certificate=true` are offered to all services that end TLS.

Label names are case-insensitive, as with Traefik. Names that no challenge of ours can prove become problems: wildcards
(they need DNS-01) and what is no name in DNS.

Pure: labels in, references and problems out.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from ipaddress import ip_address

from essaim.cluster.certificates import CertificateProblem

from .rule_names import hosts_of

ROUTER = re.compile(r"traefik\.(http|tcp)\.routers\.([^.]+)\.(.+)")
DOMAIN = re.compile(r"tls\.domains\[([0-9]{1,6})\]\.(main|sans)")
NAME = re.compile(r"(?=.{1,253}$)([a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?\.)*[a-z0-9_]([a-z0-9-]{0,61}[a-z0-9])?")
ORDERED = "acme "
"""What the book's names of ordered certificates begin with; a label may name one, and asks for no secret then."""
MOST_NAMES = 100
"""In one certificate: what Let's Encrypt takes."""

Order = tuple[str, tuple[str, ...]]
"""A resolver's name, and the names of the certificate, sorted."""


@dataclass(slots=True)
class Wanted:
    """By reference, as the labels write it, the ids of the services that ask for it."""

    certificates: dict[str, set[str]] = field(default_factory=dict)
    authorities: dict[str, set[str]] = field(default_factory=dict)
    orders: dict[Order, set[str]] = field(default_factory=dict)
    problems: list[CertificateProblem] = field(default_factory=list)
    ends_tls: bool = False
    """Whether any service may have the gateways end TLS for it: in doubt it does."""


def wanted_by(service_id: str, labels: Mapping[str, str]) -> Wanted:
    """What one service asks for."""
    wanted = Wanted()
    ours = {label.lower(): value for label, value in sorted(labels.items())}
    for reference in _list(ours.get("essaim.tls.certificate", "")):
        if not reference.startswith(ORDERED):
            wanted.certificates[reference] = {service_id}
    for reference in _list(ours.get("essaim.tls.client.ca", "")):
        wanted.authorities[reference] = {service_id}
    if ours.get("traefik.enable", "true").lower() != "false":
        _routers(service_id, ours, wanted)
    wanted.ends_tls = any(_means_tls(label, value) for label, value in ours.items())
    return wanted


def _means_tls(label: str, value: str) -> bool:
    if label == "essaim.tls" or label.startswith("essaim.tls."):
        return True
    parts = ROUTER.fullmatch(label)
    return parts is not None and (parts[3].startswith("tls") or "websecure" in value.lower())


def merged(parts: Iterable[Wanted]) -> Wanted:
    everything = Wanted()
    for part in parts:
        for into, found in (
            (everything.certificates, part.certificates),
            (everything.authorities, part.authorities),
        ):
            for reference, users in found.items():
                into.setdefault(reference, set()).update(users)
        for order, users in part.orders.items():
            everything.orders.setdefault(order, set()).update(users)
        everything.problems += part.problems
        everything.ends_tls = everything.ends_tls or part.ends_tls
    return everything


def _routers(service_id: str, labels: Mapping[str, str], wanted: Wanted) -> None:
    routers: dict[tuple[str, str], dict[str, str]] = {}
    for label, value in labels.items():
        if (parts := ROUTER.fullmatch(label)) is not None:
            routers.setdefault((parts[1], parts[2]), {})[parts[3]] = value
    for (_, name), options in sorted(routers.items()):
        resolver = options.get("tls.certresolver", "").strip()
        if not resolver:
            continue
        good, problems = _provable(_domains(options) or hosts_of(options.get("rule", "")), f"router {name}")
        if not good and not problems:
            problems = [f"router {name}: no name to order a certificate for: its rule has no Host or HostSNI"]
        if len(good) > MOST_NAMES:
            problems.append(
                f"router {name}: a certificate has {MOST_NAMES} names at most, and this would have {len(good)}"
            )
            good = []
        if good:
            wanted.orders.setdefault((resolver, tuple(sorted(good))), set()).add(service_id)
        wanted.problems += [CertificateProblem(service_id=service_id, text=text) for text in problems]


def _domains(options: Mapping[str, str]) -> list[str]:
    """What `.tls.domains` lists, each entry's main name first."""
    found: dict[int, dict[str, str]] = {}
    for option, value in options.items():
        if (parts := DOMAIN.fullmatch(option)) is not None:
            found.setdefault(int(parts[1]), {})[parts[2]] = value
    names: list[str] = []
    for _, one in sorted(found.items()):
        names += [*_list(one.get("main", "")), *_list(one.get("sans", ""))]
    return [name.lower().rstrip(".") for name in names]


def _provable(names: Iterable[str], where: str) -> tuple[list[str], list[str]]:
    """The names that an order can be for, and why the others cannot."""
    good: dict[str, None] = {}
    problems: list[str] = []
    for name in dict.fromkeys(names):
        if problem := name_error(name):
            problems.append(f"{where}: no certificate can be ordered for {name[:100]!r}: {problem}")
        else:
            good[name] = None
    return list(good), problems


def name_error(name: str) -> str:
    """Why HTTP-01 and TLS-ALPN-01 cannot prove this name, or nothing."""
    if "*" in name:
        return (
            "wildcard names need a DNS-01 challenge, which resolvers here do not have; name the hosts, or use a secret"
        )
    if _is_address(name):
        return "it is an address; use a certificate from a secret"
    if NAME.fullmatch(name) is None:
        return "it is not a name in DNS"
    return ""


def _is_address(text: str) -> bool:
    try:
        ip_address(text.strip("[]"))
    except ValueError:
        return False
    return True


def _list(value: str) -> list[str]:
    return list(dict.fromkeys(item.strip() for item in value.split(",") if item.strip()))
