"""The certificate authority, judged by OpenSSL's own command as well."""

import base64
import random
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import given
from hypothesis import strategies as st

from essaim.cluster.errors import InvalidArgument
from essaim.secrets.ca import Authority, issue, new_authority, tls_info
from essaim.secrets.holder import Holder, NoHolder, holder_of
from essaim.secrets.nodekey import belongs, new_key, request_for, validity
from essaim.secrets.tokens import generate, parse, root_digest
from tests.secrets.openssl import verified

NOW = datetime(2030, 5, 1, 12, tzinfo=UTC)
AUTHORITY = new_authority(NOW)
KEY = new_key()
REQUEST = request_for(KEY)
IDS = st.text("0123456789abcdefghijklmnopqrstuvwxyz", min_size=25, max_size=25)
HOLDERS = st.one_of(
    st.builds(Holder, IDS, st.just("worker"), IDS),
    st.builds(Holder, IDS, st.just("manager"), IDS, st.integers(1, 2**64 - 1)),
)


@given(HOLDERS)
def test_certificate_names_its_holder_and_nobody_else(holder: Holder) -> None:
    certificate = issue(AUTHORITY, REQUEST, holder, NOW)
    assert holder_of(x509.load_pem_x509_certificate(certificate)) == holder
    assert belongs(KEY, certificate)
    assert not belongs(new_key(), certificate)


def test_certificate_is_good_for_both_sides_by_openssls_strict_rules(tmp_path: Path) -> None:
    certificate = issue(AUTHORITY, REQUEST, Holder("n" * 25, "manager", "c" * 25, 7), NOW)
    for purpose in ("sslserver", "sslclient"):
        assert verified(tmp_path, AUTHORITY.certificate, certificate, NOW, "-purpose", purpose) == "OK"
    named = ("-verify_hostname", "member-0000000000000007")
    assert verified(tmp_path, AUTHORITY.certificate, certificate, NOW, *named) == "OK"
    wrong = verified(tmp_path, AUTHORITY.certificate, certificate, NOW, "-verify_hostname", "swarm-worker")
    assert "ostname mismatch" in wrong


def test_certificate_of_another_authority_or_another_time_is_refused(tmp_path: Path) -> None:
    certificate = issue(AUTHORITY, REQUEST, Holder("n", "worker", "c"), NOW, timedelta(days=90))
    other = new_authority(NOW)
    assert "verification failed" in verified(tmp_path, other.certificate, certificate, NOW)
    late = NOW + timedelta(days=91)
    assert "certificate has expired" in verified(tmp_path, AUTHORITY.certificate, certificate, late)
    assert validity(certificate) == (NOW - timedelta(hours=1), NOW + timedelta(days=90))


def test_node_certificate_signs_no_others(tmp_path: Path) -> None:
    node = Authority(issue(AUTHORITY, REQUEST, Holder("n", "manager", "c", 1), NOW), KEY)
    forged = issue(node, request_for(new_key()), Holder("x", "manager", "c", 2), NOW)
    assert "verification failed" in verified(tmp_path, AUTHORITY.certificate, forged + node.certificate, NOW)


def test_issue_takes_only_requests_that_their_key_has_signed() -> None:
    holder = Holder("n", "worker", "c")
    cut = x509.load_pem_x509_csr(REQUEST).public_bytes(Encoding.DER)
    broken = x509.load_der_x509_csr(cut[:-1] + bytes([cut[-1] ^ 1])).public_bytes(Encoding.PEM)
    for request, words in (
        (b"", "no request"),
        (AUTHORITY.certificate, "no request"),
        (broken, "not signed by the key|no request"),
        (_foreign(rsa.generate_private_key(65537, 2048)), "P-256"),
        (_foreign(ec.generate_private_key(ec.SECP384R1())), "P-256"),
    ):
        with pytest.raises(InvalidArgument, match=words):
            issue(AUTHORITY, request, holder, NOW)


def _foreign(key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey) -> bytes:
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    return builder.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM)


def test_holder_of_a_root_is_nobody() -> None:
    with pytest.raises(NoHolder):
        holder_of(x509.load_pem_x509_certificate(AUTHORITY.certificate))


def test_token_trusts_its_own_root_only() -> None:
    token = parse(str(generate(root_digest(AUTHORITY.certificate), random.Random(1))))
    assert token.trusts(AUTHORITY.certificate)
    assert not token.trusts(new_authority(NOW).certificate)


def test_tls_info_shows_the_root_as_an_engine_does() -> None:
    shown = tls_info(AUTHORITY.certificate, AUTHORITY.certificate)
    assert shown.trust_root == AUTHORITY.certificate.decode()
    # The subject is that of Swarm's own roots: CN=swarm-ca and nothing else.
    assert shown.cert_issuer_subject == base64.b64encode(bytes.fromhex("3013") + _swarm_ca()).decode()
    assert base64.b64decode(shown.cert_issuer_public_key or "")[-65] == 4


def _swarm_ca() -> bytes:
    return bytes.fromhex("3111300f06035504030c08") + b"swarm-ca"
