"""Whom a node's certificate speaks of: what is written into it, and what is read from one that has been verified.

As in Swarm: the common name is the node's id, the organisational unit its role, the organisation the cluster's id.
The alternative names repeat the role and the id, so that a client can demand of whom it dials, by address, to be a
manager (`server_hostname="swarm-manager"`). A manager's also names its member number in the log: the log's peers are
who their certificate says, and a member that was taken out of the log gains nothing by its old certificate.

Pure: names in, names out.
"""

from dataclasses import dataclass
from typing import Literal, cast

from cryptography import x509
from cryptography.x509.oid import NameOID

Role = Literal["manager", "worker"]
UNITS: dict[Role, str] = {"manager": "swarm-manager", "worker": "swarm-worker"}
MANAGER = UNITS["manager"]
MEMBER = "member-"


class NoHolder(ValueError):
    """The certificate is not one of a node."""


@dataclass(frozen=True, slots=True)
class Holder:
    """`member` is the number in the log of a manager, 0 for a worker."""

    node_id: str
    role: Role
    cluster_id: str
    member: int = 0

    def subject(self) -> x509.Name:
        return x509.Name(
            [
                x509.NameAttribute(NameOID.ORGANIZATION_NAME, self.cluster_id),
                x509.NameAttribute(NameOID.ORGANIZATIONAL_UNIT_NAME, UNITS[self.role]),
                x509.NameAttribute(NameOID.COMMON_NAME, self.node_id),
            ]
        )

    def names(self) -> list[str]:
        member = [member_name(self.member)] if self.member else []
        return [UNITS[self.role], self.node_id, *member]


def member_name(member: int) -> str:
    """The alternative name by which a member of the log is dialled."""
    return f"{MEMBER}{member:016x}"


def holder_of(certificate: x509.Certificate) -> Holder:
    """Raises NoHolder."""
    unit = _one(certificate, NameOID.ORGANIZATIONAL_UNIT_NAME)
    roles = [role for role, name in UNITS.items() if name == unit]
    if not roles:
        raise NoHolder(f"the certificate's organisational unit is {unit!r}, no role of a node")
    return Holder(
        _one(certificate, NameOID.COMMON_NAME), roles[0], _one(certificate, NameOID.ORGANIZATION_NAME),
        _member(certificate),
    )  # fmt: skip


def _one(certificate: x509.Certificate, kind: x509.ObjectIdentifier) -> str:
    found = certificate.subject.get_attributes_for_oid(kind)
    if len(found) != 1 or not found[0].value:
        raise NoHolder(f"the certificate's subject ({certificate.subject.rfc4514_string()}) is not that of a node")
    return cast("str", found[0].value)


def _member(certificate: x509.Certificate) -> int:
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return 0
    for name in names.get_values_for_type(x509.DNSName):
        if name.startswith(MEMBER):
            try:
                return int(name.removeprefix(MEMBER), 16)
            except ValueError as error:
                raise NoHolder(f"{name!r} names no member of the log") from error
    return 0
