"""Reading a certificate with its key, or an authority, out of PEM: what a gateway can serve, or the reason why not.

- The leaf is the certificate that the key belongs to, wherever it stands; the others follow in the order in which they
  issued each other. One that issued none of them is refused: it is of another chain, and clients would fail later.
- Keys must be plain: nobody could be asked for a password when a gateway starts.
- Names are those of the leaf's subjectAltName; without one, its common name, which some internal authorities still use.
- RSA keys below 2048 bits are refused, as OpenSSL's own default on Debian refuses them when they are loaded.

Pure: bytes in, values or BadCertificate out.
"""

import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from ipaddress import ip_address

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)
from cryptography.utils import CryptographyDeprecationWarning
from cryptography.x509.oid import NameOID

BLOCK = re.compile(rb"-----BEGIN ([A-Z0-9 ]+)-----\r?\n.*?\n?-----END \1-----", re.DOTALL)
CERTIFICATES = {b"CERTIFICATE", b"X509 CERTIFICATE"}
PARAMETERS = {b"EC PARAMETERS", b"DH PARAMETERS"}
LEAST_RSA = 2048
MOST_CERTIFICATES = 1000
"""In one file; a bundle of all public authorities has some 150."""

UNREADABLE = (
    ValueError,
    TypeError,
    UnsupportedAlgorithm,
    x509.InvalidVersion,
    x509.DuplicateExtension,
    x509.UnsupportedGeneralNameType,
)
"""What the library raises for certificates that are damaged or odd."""

PrivateKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey | ed448.Ed448PrivateKey
PLAIN = "store it without a password (openssl pkey -in KEY -out PLAIN)"


class BadCertificate(ValueError):
    """The message says why, for a user; it never quotes the key."""


@dataclass(frozen=True, slots=True)
class Pair:
    """`chain` and `key` are PEM; `names` sorted and in lower case; times in seconds since 1970."""

    chain: str
    key: str
    names: tuple[str, ...]
    not_before: float
    not_after: float

    def __repr__(self) -> str:
        return f"Pair({', '.join(self.names)})"


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the library's warnings: odd numbers and names are their issuers' affair."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@_quiet()
def read_pair(*parts: bytes) -> Pair:
    """A certificate with its key, of one file or of several. Raises BadCertificate."""
    found, keys = _blocks(b"\n".join(parts))
    if not found:
        raise BadCertificate("it holds no certificate in PEM (-----BEGIN CERTIFICATE-----)")
    if len(keys) != 1:
        raise BadCertificate(f"it holds {len(keys) or 'no'} private keys in PEM, and one is needed")
    key = _private(keys[0])
    public = _public(key.public_key())
    leaves = [one for one in found if _public_of(one) == public]
    if not leaves:
        raise BadCertificate(f"the private key does not belong to the certificate of {_subject(found[0])}")
    leaf = leaves[0]
    chain = _in_order(leaf, [one for one in found if one != leaf])
    return Pair(
        chain="".join(one.public_bytes(Encoding.PEM).decode() for one in chain),
        key=key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode(),
        names=names_of(leaf),
        not_before=leaf.not_valid_before_utc.timestamp(),
        not_after=leaf.not_valid_after_utc.timestamp(),
    )


@_quiet()
def read_authority(data: bytes) -> str:
    """The certificates (PEM) of those who may issue clients' certificates. Raises BadCertificate."""
    found, _ = _blocks(data)
    if not found:
        raise BadCertificate("it holds no certificate in PEM (-----BEGIN CERTIFICATE-----)")
    for one in found:
        if not _may_issue(one):
            raise BadCertificate(f"the certificate of {_subject(one)} is not an authority's (basicConstraints CA)")
    return "".join(one.public_bytes(Encoding.PEM).decode() for one in found)


def names_of(leaf: x509.Certificate) -> tuple[str, ...]:
    try:
        extension = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        common = [str(one.value) for one in leaf.subject.get_attributes_for_oid(NameOID.COMMON_NAME)]
        return tuple(sorted({name.lower() for name in common if _is_name(name)}))
    names = {name.lower().rstrip(".") for name in extension.get_values_for_type(x509.DNSName)}
    return tuple(sorted(names | {str(one) for one in extension.get_values_for_type(x509.IPAddress)}))


def _is_name(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        return re.fullmatch(r"(\*\.)?[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*", text) is not None
    return True


def _blocks(data: bytes) -> tuple[list[x509.Certificate], list[bytes]]:
    """The certificates, each once, and the private keys as they are written."""
    certificates: list[x509.Certificate] = []
    keys: list[bytes] = []
    for block in BLOCK.finditer(data):
        kind = block[1]
        if kind in CERTIFICATES:
            one = _certificate(block[0].replace(b"X509 CERTIFICATE", b"CERTIFICATE"), len(certificates) + 1)
            if one not in certificates:
                certificates.append(one)
            if len(certificates) > MOST_CERTIFICATES:
                raise BadCertificate(f"it holds more than {MOST_CERTIFICATES} certificates")
        elif kind.endswith(b"PRIVATE KEY"):
            keys.append(block[0])
        elif kind not in PARAMETERS:
            raise BadCertificate(f"it holds a PEM block {kind.decode()!r}, where certificates and a key are expected")
    return certificates, list(dict.fromkeys(keys))


def _certificate(block: bytes, number: int) -> x509.Certificate:
    try:
        # What the library will refuse some day (a serial number that is not positive) OpenSSL serves, and so do we.
        with warnings.catch_warnings(action="ignore", category=CryptographyDeprecationWarning):
            one = x509.load_pem_x509_certificate(block)
            # The library reads these when they are asked for: here, so that damage shows here.
            _ = one.subject, one.issuer, one.extensions, _public_of(one)
            _ = one.not_valid_before_utc, one.not_valid_after_utc
    except UNREADABLE as error:
        raise BadCertificate(f"certificate {number} in it cannot be read: {error}") from error
    return one


def _private(block: bytes) -> PrivateKey:
    if b"ENCRYPTED" in block:
        raise BadCertificate(f"the private key is encrypted; {PLAIN}")
    try:
        key = load_pem_private_key(block, None)
    except TypeError as error:
        raise BadCertificate(f"the private key is encrypted; {PLAIN}") from error
    except (ValueError, UnsupportedAlgorithm) as error:
        raise BadCertificate("the private key cannot be read: it is damaged or of an unknown kind") from error
    if not isinstance(key, PrivateKey):
        raise BadCertificate("the private key is of a kind that TLS does not use: RSA, ECDSA and EdDSA are")
    if isinstance(key, rsa.RSAPrivateKey) and key.key_size < LEAST_RSA:
        raise BadCertificate(f"the RSA key has {key.key_size} bits, and {LEAST_RSA} are the least")
    return key


def _public(
    key: rsa.RSAPublicKey | ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey | ed448.Ed448PublicKey,
) -> bytes:
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def _public_of(certificate: x509.Certificate) -> bytes:
    return certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def _in_order(leaf: x509.Certificate, others: list[x509.Certificate]) -> list[x509.Certificate]:
    """Each follows one that it issued."""
    chain, left = [leaf], list(others)
    while left:
        following = next((one for one in left for issued in reversed(chain) if _issued(one, issued)), None)
        if following is None:
            raise BadCertificate(f"the certificate of {_subject(left[0])} in it is of another chain")
        left.remove(following)
        chain.append(following)
    return chain


def _issued(issuer: x509.Certificate, issued: x509.Certificate) -> bool:
    if issued.issuer != issuer.subject:
        return False
    try:
        issued.verify_directly_issued_by(issuer)
    except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm):
        return False
    return True


def _may_issue(certificate: x509.Certificate) -> bool:
    try:
        return certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except (x509.ExtensionNotFound, ValueError):
        return False


def _subject(certificate: x509.Certificate) -> str:
    return certificate.subject.rfc4514_string() or "(no subject)"
