"""Keys, requests, and the certificate that answers TLS-ALPN-01 (RFC 8737, 3).

ECDSA on P-256: every ACME server and client takes it, and a handshake costs a tenth of RSA's.
"""

import hashlib
from datetime import datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key

from essaim.cluster.certificates import AlpnChallenge

ACME_IDENTIFIER = x509.ObjectIdentifier("1.3.6.1.5.5.7.1.31")
OCTET_STRING_32 = b"\x04\x20"
VALID = timedelta(days=7)


def new_key() -> str:
    """A private key, PEM."""
    key = ec.generate_private_key(ec.SECP256R1())
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


def load_key(pem: str) -> ec.EllipticCurvePrivateKey:
    key = load_pem_private_key(pem.encode(), None)
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise TypeError("the key is not one of an elliptic curve")
    return key


def request_for(key: str, domains: list[str]) -> bytes:
    """A certificate request (PEM) for these names."""
    names = x509.SubjectAlternativeName([x509.DNSName(name) for name in domains])
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([])).add_extension(names, critical=False)
    return builder.sign(load_key(key), hashes.SHA256()).public_bytes(Encoding.PEM)


def alpn_answer(domain: str, key_authorization: str, now: datetime) -> AlpnChallenge:
    """What a client that offers `acme-tls/1` for the domain is to be shown."""
    pem = new_key()
    key = load_key(pem)
    digest = hashlib.sha256(key_authorization.encode()).digest()
    certificate = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([]))
        .issuer_name(x509.Name([]))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + VALID)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(domain)]), critical=True)
        .add_extension(x509.UnrecognizedExtension(ACME_IDENTIFIER, OCTET_STRING_32 + digest), critical=True)
        .sign(key, hashes.SHA256())
    )
    return AlpnChallenge(domain=domain, chain=certificate.public_bytes(Encoding.PEM).decode(), key=pem)
