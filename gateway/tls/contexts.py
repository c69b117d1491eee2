"""`ssl.SSLContext`s out of PEM text that is in memory, and stays there.

Python's ssl reads a key from a path only: the path given is that of an anonymous file in memory (memfd), which no other
process can open and which is gone when it is closed.
"""

import os
import re
import ssl
from typing import NoReturn

from essaim.gateway.protocol.tls_policy import TlsPolicy

HTTP2 = "h2"
HTTP = (HTTP2, "http/1.1")
MINIMUM = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}
TICKETS = 1
"""Session tickets a connection: one is enough to resume by, as every connection brings a new one."""
REASONS = {
    "KEY_VALUES_MISMATCH": "its key does not belong to it",
    "NO_START_LINE": "it is not PEM",
    "EE_KEY_TOO_SMALL": "its key is too short",
    "CA_KEY_TOO_SMALL": "the key of a certificate of its chain is too short",
    "CA_MD_TOO_WEAK": "it is signed by a digest that is too weak",
}


class CannotUse(Exception):
    """The certificate, authority or policy cannot be used; the message says why, fit for a user, without any secret."""


class NotNow(CannotUse):
    """Nothing is wrong with it, but something is missing here (descriptors, memory): it may be tried again."""


def make_context(
    chain: str, key: str, policy: TlsPolicy, authorities: list[str], protocols: tuple[str, ...]
) -> ssl.SSLContext:
    """A server's context. `authorities`: PEM of whom client certificates may be of; `protocols`: ALPN's, if any.

    Raises CannotUse.
    """
    if policy.refused:
        raise CannotUse(policy.refused)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = MINIMUM[policy.minimum]
    context.options |= ssl.OP_NO_RENEGOTIATION
    context.num_tickets = TICKETS
    _load(context, chain, key)
    if policy.ciphers:
        check_ciphers(policy.ciphers, context)
    if protocols:
        context.set_alpn_protocols(list(protocols))
    if policy.client_mode:
        if not authorities:
            raise CannotUse(f"none of the authorities {', '.join(policy.client_ca)} is there")
        for pem in authorities:
            check_authority(pem, context)
        context.verify_mode = ssl.CERT_REQUIRED if policy.client_mode == "require" else ssl.CERT_OPTIONAL
    return context


def check_certificate(chain: str, key: str) -> None:
    """Raises CannotUse."""
    _load(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), chain, key)


def check_ciphers(ciphers: str, context: ssl.SSLContext | None = None) -> None:
    """Raises CannotUse."""
    try:
        (context or ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)).set_ciphers(ciphers)
    except ssl.SSLError:
        raise CannotUse(f"OpenSSL knows none of the ciphers {ciphers}") from None


def check_authority(pem: str, context: ssl.SSLContext | None = None) -> None:
    """Raises CannotUse."""
    try:
        (context or ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)).load_verify_locations(cadata=pem)
    except (ssl.SSLError, ValueError) as error:
        raise CannotUse(f"the authority cannot be used: {_said(error)}") from None


def _load(context: ssl.SSLContext, chain: str, key: str) -> None:
    files: list[int] = []
    try:
        for text in (chain, key):
            files.append(os.memfd_create("essaim-tls", os.MFD_CLOEXEC))
            _write(files[-1], text.encode())
        paths = [f"/proc/self/fd/{fd}" for fd in files]
        context.load_cert_chain(paths[0], paths[1], password=_refuse_password)
    except _Encrypted:
        raise CannotUse("its key is encrypted") from None
    except (ssl.SSLError, ValueError) as error:
        raise CannotUse(_said(error)) from None
    except OSError as error:
        raise NotNow(_said(error)) from None
    finally:
        for fd in files:
            os.close(fd)


def _write(fd: int, data: bytes) -> None:
    while data:
        data = data[os.write(fd, data) :]


class _Encrypted(Exception):
    pass


def _refuse_password() -> NoReturn:
    """Without this OpenSSL would ask at the terminal."""
    raise _Encrypted


def _said(error: Exception) -> str:
    reason = getattr(error, "reason", None) or ""
    if reason in REASONS:
        return REASONS[reason]
    said = re.sub(r"\s*\(_ssl\.c:\d+\)", "", str(error)).removeprefix("[SSL] ").lower()
    return "its PEM cannot be read" if said == "pem lib" else said
