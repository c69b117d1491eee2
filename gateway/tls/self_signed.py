"""The certificate for names that nobody has brought one for: self-signed, made when the gateway starts, never on disk.

Traefik does the same. A client that verifies refuses it, and its error says whose it is; refusing the handshake
instead (`unrecognized_name`) would tell a user less, and clients that send no name (health checks by address) would
get nothing.
"""

import datetime

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from essaim.cluster.certificates import Certificate

from .certificates import DEFAULT

VALID = datetime.timedelta(days=3650)
BEFORE = datetime.timedelta(days=1)
"""Clocks differ."""


def self_signed(now: datetime.datetime) -> Certificate:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "ESSAIM GATEWAY DEFAULT CERTIFICATE")])
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - BEFORE)
        .not_valid_after(now + VALID)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("default.essaim.invalid")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    text = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return Certificate(
        name=DEFAULT,
        chain=made.public_bytes(serialization.Encoding.PEM).decode(),
        key=text.decode(),
        not_after=(now + VALID).timestamp(),
    )
