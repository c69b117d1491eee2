"""The cluster's certificate authority: its own root, and certificates for the nodes' keys.

ECDSA on P-256 with SHA-256, as in Swarm, whose lifetimes these are too. A request is taken for its key alone: who the
holder is, the issuer says. The clock is passed in; numbers and keys come from the library's own source of chance.

Rejected: certificates signed by an intermediate authority of each manager (nothing is gained while every manager has
the root's key in its log), RSA (handshakes cost ten times as much).
"""

import base64
from dataclasses import dataclass
from datetime import datetime, timedelta

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from essaim.cluster.errors import InvalidArgument
from essaim.cluster.node import TLSInfo

from .holder import Holder
from .nodekey import belongs, new_key

ROOT_NAME = "swarm-ca"
ROOT_LIFETIME = timedelta(days=20 * 365)
NODE_LIFETIME = timedelta(days=90)
BACKDATED = timedelta(hours=1)
"""Nodes whose clock is late by so much, or by a tenth of the lifetime, accept a new certificate."""


@dataclass(frozen=True, slots=True)
class Authority:
    """Certificate and private key of a root, both PEM."""

    certificate: bytes
    key: bytes

    def __repr__(self) -> str:
        return "Authority(...)"


def new_authority(now: datetime) -> Authority:
    """A new root, good for 20 years."""
    pem = new_key()
    key = _private(pem)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, ROOT_NAME)])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - BACKDATED)
        .not_valid_after(now + ROOT_LIFETIME)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(_usage(signs=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    return Authority(certificate.public_bytes(Encoding.PEM), pem)


def issue(
    authority: Authority, request: bytes, holder: Holder, now: datetime, lifetime: timedelta = NODE_LIFETIME
) -> bytes:
    """A certificate (PEM) that the key of the request (PEM) is the holder's. Raises InvalidArgument."""
    root = x509.load_pem_x509_certificate(authority.certificate)
    public = _requested(request)
    return (
        x509.CertificateBuilder()
        .subject_name(holder.subject())
        .issuer_name(root.subject)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - min(BACKDATED, lifetime / 10))
        .not_valid_after(now + lifetime)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(signs=False), critical=True)
        .add_extension(
            x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False
        )
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name) for name in holder.names()]), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(_key_id(root)), critical=False)
        .sign(_private(authority.key), hashes.SHA256())
        .public_bytes(Encoding.PEM)
    )


def cross_sign(old: Authority, new: bytes, now: datetime) -> bytes:
    """The root certificate `new` (PEM) once more, as an intermediate one of the old root: same name, same key."""
    root = x509.load_pem_x509_certificate(old.certificate)
    found = x509.load_pem_x509_certificate(new)
    return (
        x509.CertificateBuilder()
        .subject_name(found.subject)
        .issuer_name(root.subject)
        .public_key(_checked(found.public_key()))
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - BACKDATED)
        .not_valid_after(min(root.not_valid_after_utc, found.not_valid_after_utc))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(_usage(signs=True), critical=True)
        .add_extension(_key_id(found), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(_key_id(root)), critical=False)
        .sign(_private(old.key), hashes.SHA256())
        .public_bytes(Encoding.PEM)
    )


def read_authority(certificate: bytes, key: bytes, now: datetime) -> Authority:
    """A root that a user brings (PEM), if it can be the cluster's. Raises InvalidArgument."""
    try:
        root, private = x509.load_pem_x509_certificate(certificate), _private(key)
        made = Authority(root.public_bytes(Encoding.PEM), _pem(private))
        root.verify_directly_issued_by(root)
        signs = root.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
        _checked(root.public_key())
        _key_id(root)
    except (ValueError, TypeError, UnsupportedAlgorithm, InvalidSignature, x509.ExtensionNotFound) as error:
        raise InvalidArgument(f"the CA certificate and key cannot be used: {error or type(error).__name__}") from error
    if not signs or not belongs(made.key, made.certificate) or not _is_good(root, now):
        raise InvalidArgument("the CA certificate and key must be of one root, which may sign certificates now")
    return made


def _is_good(certificate: x509.Certificate, now: datetime) -> bool:
    return certificate.not_valid_before_utc <= now < certificate.not_valid_after_utc


def _pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def tls_info(roots: bytes, signer: bytes) -> TLSInfo:
    """How the API shows what is trusted (PEM), and who signs (PEM): subject and key of its root, DER in base64."""
    found = x509.load_pem_x509_certificate(signer)
    key = found.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return TLSInfo(
        trust_root=roots.decode(),
        cert_issuer_subject=base64.b64encode(found.subject.public_bytes()).decode(),
        cert_issuer_public_key=base64.b64encode(key).decode(),
    )


def _requested(request: bytes) -> ec.EllipticCurvePublicKey:
    """The key of a signing request, whose owner has proved to have it."""
    try:
        asked = x509.load_pem_x509_csr(request)
        key = asked.public_key()
        proved = asked.is_signature_valid
    except (ValueError, InvalidSignature) as error:
        raise InvalidArgument(f"this is no request for a certificate: {error}") from error
    if not proved:
        raise InvalidArgument("the request for a certificate is not signed by the key that it is for")
    return _checked(key)


def _checked(key: object) -> ec.EllipticCurvePublicKey:
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise InvalidArgument("the key must be one of the curve P-256")
    return key


def _key_id(root: x509.Certificate) -> x509.SubjectKeyIdentifier:
    return root.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value


def _private(pem: bytes) -> ec.EllipticCurvePrivateKey:
    key = load_pem_private_key(pem, None)
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise TypeError("the authority's key is not one of an elliptic curve")
    return key


def _usage(*, signs: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs,
        key_cert_sign=signs,
        crl_sign=signs,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )
