"""A new root takes over from the old one while the cluster runs, as in Swarm.

1. Begun: the new authority signs from now on. Its certificate is also signed by the old root, and goes with every
   certificate that it issues: who trusts the old root only accepts them, too. Nodes are told to trust both.
2. Every node has a certificate of the new root and trusts it: the old root, its join tokens and the cross-signed
   certificate go. Nodes are told to trust the new root alone.

What a node reports of itself (`TLSInfo`) is compared with the cluster's own; a node that is away holds up step 2.
Another rotation during the first replaces it.

Pure: the clock and chance are passed in.
"""

from collections.abc import Iterable
from datetime import datetime
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from msgspec.structs import replace

from essaim.cluster.ids import Chance
from essaim.cluster.node import Node
from essaim.cluster.swarm import Cluster, JoinTokens, RootCA, RootRotation

from .ca import Authority, cross_sign, new_authority, tls_info
from .tokens import generate, root_digest


def stored(authority: Authority) -> RootCA:
    return RootCA(certificate=authority.certificate.decode(), key=authority.key.decode())


def signer(cluster: Cluster) -> Authority:
    """Who signs nodes' certificates now. The cluster must have an authority."""
    root = cluster.root_rotation.root if cluster.root_rotation else cluster.root_ca
    assert root is not None, "the cluster has no authority"
    return Authority(root.certificate.encode(), root.key.encode())


def chain(cluster: Cluster) -> bytes:
    """What goes behind each certificate (PEM)."""
    return cluster.root_rotation.cross_signed.encode() if cluster.root_rotation else b""


def roots(cluster: Cluster) -> bytes:
    """What nodes are to trust (PEM)."""
    assert cluster.root_ca is not None, "the cluster has no authority"
    rotation = cluster.root_rotation
    return (cluster.root_ca.certificate + (rotation.root.certificate if rotation else "")).encode()


def begun(cluster: Cluster, now: datetime, given: Authority | None = None) -> Cluster:
    """The cluster while a new root takes over: the given one, or one that is made."""
    assert cluster.root_ca is not None, "the cluster has no authority"
    new = given or new_authority(now)
    old = Authority(cluster.root_ca.certificate.encode(), cluster.root_ca.key.encode())
    rotation = RootRotation(root=stored(new), cross_signed=cross_sign(old, new.certificate, now).decode())
    return _shown(replace(cluster, root_rotation=rotation, root_rotation_in_progress=True))


def is_settled(cluster: Cluster, nodes: Iterable[Node]) -> bool:
    """Whether every node uses the new root."""
    return all(node.description is not None and node.description.tls_info == cluster.tls_info for node in nodes)


def finished(cluster: Cluster, chance: Chance) -> Cluster:
    """The cluster once the new root has taken over, with join tokens that name it."""
    assert cluster.root_rotation is not None, "no rotation is under way"
    new = cluster.root_rotation.root
    digest = root_digest(new.certificate.encode())
    tokens = JoinTokens(worker=str(generate(digest, chance)), manager=str(generate(digest, chance)))
    fields: dict[str, Any] = {"root_rotation": None, "root_rotation_in_progress": False, "join_tokens": tokens}
    return _shown(replace(cluster, root_ca=new, **fields))


def _shown(cluster: Cluster) -> Cluster:
    return replace(cluster, tls_info=tls_info(roots(cluster), signer(cluster).certificate))


def issuer_among(roots: bytes, certificate: bytes) -> bytes:
    """Which of the roots (PEM) has signed the certificate (PEM); the first one if none has."""
    known = x509.load_pem_x509_certificates(roots)
    leaf = x509.load_pem_x509_certificate(certificate)
    signer_id = leaf.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value.key_identifier
    for root in known:
        if root.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value.digest == signer_id:
            return _pem(root)
    return _pem(known[0])


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(Encoding.PEM)
