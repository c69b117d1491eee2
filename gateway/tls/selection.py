"""Which certificate a client is shown: by the name it asks for, exactly, then by wildcard, then the default.

Rules:
- A service may narrow the choice to certificates that it names; then the first of those is its default.
- Among certificates for one name that which is valid longest is taken: a renewed one replaces its predecessor at once.
- A wildcard stands for exactly one label (RFC 6125, 6.4.3).

Pure: names in, names out.
"""

from collections.abc import Iterable
from typing import Protocol


class Named(Protocol):
    @property
    def name(self) -> str: ...
    @property
    def names(self) -> list[str]: ...
    @property
    def not_after(self) -> float: ...


def is_called(certificate: str, label: str) -> bool:
    """Whether a label's word means this certificate of the book: by its whole name, or by its secret's."""
    return label in (certificate, certificate.removeprefix("secret "))


class Index:
    """The book's certificates by the names that they are valid for."""

    def __init__(self, certificates: Iterable[Named] = ()) -> None:
        self._by_name: dict[str, list[str]] = {}
        self._names: list[str] = []
        best = sorted(certificates, key=lambda one: (-one.not_after, one.name))
        for certificate in best:
            self._names.append(certificate.name)
            for name in certificate.names:
                self._by_name.setdefault(name.lower(), []).append(certificate.name)

    def choose(self, asked: str, only: tuple[str, ...] = ()) -> str:
        """The name of the certificate, "" when there is none (the gateway's self-signed one)."""
        for place in (asked, wildcard(asked)):
            for found in self._by_name.get(place, ()) if place else ():
                if not only or any(is_called(found, label) for label in only):
                    return found
        for label in only:
            for found in self._names:
                if is_called(found, label):
                    return found
        return ""


def wildcard(name: str) -> str:
    """`*.example.org` for `www.example.org`; "" where there is none."""
    label, _, rest = name.partition(".")
    return f"*.{rest}" if label and rest else ""
