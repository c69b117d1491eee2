"""A node's own key pair, the request for a certificate of it, and what the node reads in the certificate."""

from datetime import UTC, datetime

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import NameOID

ALWAYS = (datetime(2000, 1, 1, tzinfo=UTC), datetime(2100, 1, 1, tzinfo=UTC))


def new_key() -> bytes:
    """A new private key (PEM, PKCS #8)."""
    key = ec.generate_private_key(ec.SECP256R1())
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def request_for(key: bytes) -> bytes:
    """A request (PEM) that proves the possession of the key and says nothing about its owner."""
    private = load_pem_private_key(key, None)
    assert isinstance(private, ec.EllipticCurvePrivateKey)
    return (
        x509.CertificateSigningRequestBuilder()
        .subject_name(x509.Name([]))
        .sign(private, hashes.SHA256())
        .public_bytes(Encoding.PEM)
    )


def own_certificate(key: bytes) -> bytes:
    """A certificate (PEM) of a key by itself: it shows the key, and speaks of nobody."""
    private = load_pem_private_key(key, None)
    assert isinstance(private, ec.EllipticCurvePrivateKey)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "candidate")])
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(private.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(ALWAYS[0])
        .not_valid_after(ALWAYS[1])
        .sign(private, hashes.SHA256())
        .public_bytes(Encoding.PEM)
    )


def same_key(request: bytes, certificate: bytes) -> bool:
    """Whether a certificate (DER) shows the key of a request (PEM)."""
    form = (Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    try:
        asked = x509.load_pem_x509_csr(request).public_key()
        return asked.public_bytes(*form) == x509.load_der_x509_certificate(certificate).public_key().public_bytes(*form)
    except ValueError:
        return False


def validity(certificate: bytes) -> tuple[datetime, datetime]:
    """From when until when a certificate (PEM) is good."""
    found = x509.load_pem_x509_certificate(certificate)
    return found.not_valid_before_utc, found.not_valid_after_utc


def belongs(key: bytes, certificate: bytes) -> bool:
    """Whether the certificate is of this key."""
    form = (Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    private = load_pem_private_key(key, None)
    found = x509.load_pem_x509_certificate(certificate)
    return private.public_key().public_bytes(*form) == found.public_key().public_bytes(*form)
