"""TLS to a daemon: which files the user named, and what is wrong with them."""

import os
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any


class UnusableFile(Exception):
    """A TLS file that the user named cannot be used; the message says which, why, and what to do."""


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """PEM files; empty ones are not used. Without `verify` any server is believed."""

    ca: str = ""
    cert: str = ""
    key: str = ""
    verify: bool = True

    def context(self) -> ssl.SSLContext:
        """Raises UnusableFile for files that cannot be used."""
        for option, name in (("--tlscacert", self.ca), ("--tlscert", self.cert), ("--tlskey", self.key)):
            check_readable(option, name)
        if bool(self.cert) != bool(self.key):
            given, missing = ("--tlscert", "--tlskey") if self.cert else ("--tlskey", "--tlscert")
            raise UnusableFile(f"{given} needs {missing} beside it: a certificate and its private key")
        try:
            context = ssl.create_default_context(cafile=self.ca or None)
        except (OSError, ssl.SSLError):
            raise UnusableFile(f"{self.ca} (--tlscacert) holds no certificate in PEM format") from None
        if not self.verify:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        try:
            if self.cert:
                context.load_cert_chain(self.cert, self.key, password=refuse_password)
        except (OSError, ssl.SSLError) as error:
            raise UnusableFile(unusable_pair(self.cert, self.key, error)) from None
        return context


def check_readable(option: str, name: str) -> None:
    try:
        if name:
            Path(name).open("rb").close()
    except OSError as error:
        raise UnusableFile(f"cannot read {name} ({option}): {error.strerror}") from None


def refuse_password() -> str:
    """Instead of OpenSSL asking for one on the terminal."""
    raise UnusableFile(
        "the private key (--tlskey) is encrypted: store it without a password (openssl pkey -in KEY -out FILE)"
    )


def unusable_pair(cert: str, key: str, error: Exception) -> str:
    reason = getattr(error, "reason", None)
    if reason == "KEY_VALUES_MISMATCH":
        return f"the private key {key} (--tlskey) does not belong to the certificate {cert} (--tlscert)"
    return f"{cert} (--tlscert) and {key} (--tlskey) are not a certificate and its private key in PEM format"


def tls_context(params: Mapping[str, Any], environment: Mapping[str, str]) -> ssl.SSLContext | None:
    """TLS by flags, or by ESSAIM_TLS_VERIFY and ESSAIM_CERT_PATH (files ca.pem, cert.pem, key.pem).

    Raises UnusableFile.
    """
    folder = environment.get("ESSAIM_CERT_PATH", "")
    verify = bool(params.get("tlsverify") or environment.get("ESSAIM_TLS_VERIFY"))
    files = {key: params.get(f"tls{key}") or "" for key in ("cacert", "cert", "key")}
    if not (verify or params.get("tls") or any(files.values())):
        return None
    if folder:
        defaults = {"cacert": "ca.pem", "cert": "cert.pem", "key": "key.pem"}
        files = {key: value or os.path.join(folder, defaults[key]) for key, value in files.items()}
    return TlsFiles(files["cacert"], files["cert"], files["key"], verify or bool(files["cacert"])).context()
