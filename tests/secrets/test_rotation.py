"""A root takes over from another: at no moment does one node refuse another for it."""

import random
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from msgspec.structs import replace

from essaim.cluster.errors import InvalidArgument
from essaim.cluster.node import Node, NodeDescription, NodeSpec
from essaim.cluster.swarm import Cluster, JoinTokens, SwarmSpec
from essaim.secrets import rotation
from essaim.secrets.ca import Authority, issue, new_authority, read_authority, tls_info
from essaim.secrets.holder import Holder
from essaim.secrets.nodekey import new_key, request_for
from essaim.secrets.tokens import parse
from tests.secrets.openssl import verified

NOW = datetime(2030, 5, 1, 12, tzinfo=UTC)
HOLDER = Holder("n" * 25, "manager", "c" * 25, 7)


def made() -> Cluster:
    root = new_authority(NOW)
    return Cluster(
        id="c",
        spec=SwarmSpec(),
        root_ca=rotation.stored(root),
        tls_info=tls_info(root.certificate, root.certificate),
        join_tokens=JoinTokens(worker="old", manager="old"),
    )


def issued(cluster: Cluster) -> bytes:
    """A certificate with its chain, as a node gets it."""
    return issue(rotation.signer(cluster), request_for(new_key()), HOLDER, NOW) + rotation.chain(cluster)


def test_rotation_at_every_step_nodes_of_neighbouring_steps_accept_each_other(tmp_path: Path) -> None:
    before = made()
    during = rotation.begun(before, NOW)
    again = rotation.begun(during, NOW)
    after = rotation.finished(during, random.Random(1))
    for one, other in ((before, before), (before, during), (during, during), (during, again), (during, after)):
        for shown, trusted in ((one, other), (other, one)):
            assert verified(tmp_path, rotation.roots(trusted), issued(shown), NOW) == "OK"
    assert "verification failed" in verified(tmp_path, rotation.roots(after), issued(before), NOW)
    assert "verification failed" in verified(tmp_path, rotation.roots(before), issued(after), NOW)


def test_rotation_is_settled_once_every_node_shows_the_clusters_trust() -> None:
    before = made()
    during = rotation.begun(before, NOW)
    assert (during.root_rotation_in_progress, during.join_tokens) == (True, before.join_tokens)
    assert during.tls_info != before.tls_info

    def node(name: str, cluster: Cluster) -> Node:
        return Node(id=name, spec=NodeSpec(), description=NodeDescription(tls_info=cluster.tls_info))

    assert not rotation.is_settled(during, [node("a", during), node("b", before)])
    assert not rotation.is_settled(during, [node("a", during), Node(id="b", spec=NodeSpec())])
    assert rotation.is_settled(during, [node("a", during), node("b", during)])
    after = rotation.finished(during, random.Random(1))
    assert after.root_ca == (during.root_rotation and during.root_rotation.root)
    assert (after.root_rotation, after.root_rotation_in_progress) == (None, False)
    assert after.join_tokens is not None
    assert parse(after.join_tokens.worker).trusts(rotation.roots(after))
    assert parse(after.join_tokens.manager).secret != parse(after.join_tokens.worker).secret


def test_issuer_among_the_roots_is_found_by_its_key() -> None:
    during = rotation.begun(made(), NOW)
    roots, signer = rotation.roots(during), rotation.signer(during)
    assert rotation.issuer_among(roots, issued(during)) == signer.certificate
    old = replace(during, root_rotation=None)
    assert rotation.issuer_among(roots, issued(old)) == rotation.signer(old).certificate


def test_authority_that_a_user_brings_is_checked() -> None:
    good = new_authority(NOW)
    wrapped = b"a comment\n" + good.certificate.strip()
    assert read_authority(wrapped, good.key, NOW) == good
    leaf_key = new_key()
    leaf = issue(good, request_for(leaf_key), HOLDER, NOW)
    for wrong, now in (
        (Authority(b"", b""), NOW),
        (Authority(good.certificate, b"x"), NOW),
        (Authority(good.certificate, new_key()), NOW),
        (Authority(leaf, leaf_key), NOW),
        (_with_curve(ec.SECP384R1()), NOW),
        (good, NOW + timedelta(days=21 * 365)),
        (good, NOW - timedelta(days=1)),
    ):
        with pytest.raises(InvalidArgument, match=r"CA certificate and key|P-256"):
            read_authority(wrong.certificate, wrong.key, now)


def _with_curve(curve: ec.EllipticCurve) -> Authority:
    key = ec.generate_private_key(curve)
    name = x509.Name([])
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    builder = builder.serial_number(1).not_valid_before(NOW).not_valid_after(NOW + timedelta(days=9))
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    certificate = builder.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM)
    return Authority(certificate, key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
