"""A node's own key pair, the request for a certificate of it, and what the node reads in the certificate."""

from datetime import datetime

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
