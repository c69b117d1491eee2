"""Certificates for tests, made once: real chains of a root, an intermediate and leaves."""

import base64
from datetime import UTC, datetime, timedelta
from functools import cache

import trustme
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
)
from cryptography.x509.oid import NameOID

NOW = datetime(2026, 6, 1, tzinfo=UTC)
FAR = datetime(2090, 1, 1, tzinfo=UTC)


@cache
def root() -> trustme.CA:
    return trustme.CA(key_type=trustme.KeyType.ECDSA)


@cache
def intermediate() -> trustme.CA:
    return root().create_child_ca(key_type=trustme.KeyType.ECDSA)


@cache
def issued(*names: str) -> tuple[list[bytes], bytes]:
    """The chain (leaf first, with the intermediate) and the key, PEM each."""
    leaf = intermediate().issue_cert(*names, key_type=trustme.KeyType.ECDSA)
    chain = [blob.bytes() for blob in leaf.cert_chain_pems]
    return chain, leaf.private_key_pem.bytes()


def pair(*names: str) -> bytes:
    """Chain and key in one file."""
    chain, key = issued(*names)
    return b"".join(chain) + key


@cache
def self_signed(
    common_name: str,
    *names: str,
    since: datetime = NOW - timedelta(days=1),
    until: datetime = NOW + timedelta(days=90),
    rsa_bits: int = 0,
) -> bytes:
    """One certificate that is its own issuer, with its key."""
    key = rsa.generate_private_key(65537, rsa_bits) if rsa_bits else ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(since)
        .not_valid_after(until)
    )
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName(n) for n in names]), critical=False)
    certificate = builder.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM)
    return certificate + key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def encrypted(traditional: bool = False) -> bytes:
    key = ec.generate_private_key(ec.SECP256R1())
    form = PrivateFormat.TraditionalOpenSSL if traditional else PrivateFormat.PKCS8
    return key.private_bytes(Encoding.PEM, form, BestAvailableEncryption(b"secret"))


def base64_of(data: bytes) -> str:
    return base64.b64encode(data).decode()
