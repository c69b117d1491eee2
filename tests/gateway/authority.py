"""Certificates of the tests' own authority, as a book holds them."""

from datetime import UTC, datetime, timedelta

import trustme
from cryptography import x509

from essaim.cluster.certificates import Authority, Certificate, CertificateBook


class TestAuthority:
    """One authority a test session: RSA and EC keys take their time."""

    __test__ = False

    def __init__(self) -> None:
        self._ca = trustme.CA(key_type=trustme.KeyType.ECDSA)

    @property
    def pem(self) -> str:
        return self._ca.cert_pem.bytes().decode()

    def certificate(self, name: str, *names: str, days: int = 30) -> Certificate:
        """For the book: `name` there, and valid for `names`."""
        until = datetime.now(UTC) + timedelta(days=days)
        made = self._ca.issue_cert(*names, key_type=trustme.KeyType.ECDSA, not_after=until)
        chain = "".join(pem.bytes().decode() for pem in made.cert_chain_pems)
        key = made.private_key_pem.bytes().decode()
        return Certificate(name=name, chain=chain, key=key, names=list(names), not_after=until.timestamp())

    def authority(self, name: str) -> Authority:
        return Authority(name=name, chain=self.pem)

    def client(self, common_name: str, organization: str = "Acme") -> str:
        """A client's certificate and key, in one PEM text."""
        made = self._ca.issue_cert(
            f"{common_name}@example.org",
            common_name=common_name,
            organization_name=organization,
            key_type=trustme.KeyType.ECDSA,
        )
        return made.private_key_and_cert_chain_pem.bytes().decode()


def book(version: int, *certificates: Certificate, **more: object) -> CertificateBook:
    return CertificateBook(version=version, certificates=list(certificates), **more)  # type: ignore[arg-type]


def names_of(der: bytes) -> list[str]:
    """The DNS names of a certificate that a server has shown."""
    found = x509.load_der_x509_certificate(der).extensions.get_extension_for_class(x509.SubjectAlternativeName)
    return found.value.get_values_for_type(x509.DNSName)
