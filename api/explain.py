"""Why a daemon could not be asked, in a user's words: what happened, where, and what to do."""

import errno
import re
import socket
import ssl
from dataclasses import dataclass

from essaim.api.streams.exchange import Closed, EngineUnavailable, NotHttp

ASK_BY_TLS = (
    "If it is a TLS port, ask by TLS: --tlsverify with --tlscacert, --tlscert and --tlskey, or ESSAIM_TLS_VERIFY and "
    "ESSAIM_CERT_PATH"
)
UNTRUSTED = {"self-signed certificate", "self signed certificate", "unable to get local issuer certificate"}
"""OpenSSL's words for a certificate that no known authority has issued. Both spellings are in use."""
SILENT = {errno.ETIMEDOUT, errno.EHOSTUNREACH, errno.ENETUNREACH, errno.EHOSTDOWN}


@dataclass(frozen=True, slots=True)
class Peer:
    """The daemon that was asked: `host` as the user wrote it, `name` its host name, empty for a socket."""

    host: str
    name: str = ""
    is_secure: bool = False

    @property
    def is_plain(self) -> bool:
        return bool(self.name) and not self.is_secure


def explain(error: BaseException, peer: Peer) -> str:
    """What went wrong, and what to do about it."""
    cause = error.__cause__ or error
    unreachable = f"Cannot connect to the essaim daemon at {peer.host}"
    if isinstance(cause, PermissionError) and not peer.name:
        return (
            f"permission denied while trying to connect to the essaim daemon at {peer.host}: "
            "run as root, or as a user who may open that socket"
        )
    if isinstance(cause, ssl.SSLError):
        return explain_tls(cause, peer)
    if isinstance(error, NotHttp) and peer.is_plain:
        return f"what answers at {peer.host} does not speak plain HTTP. {ASK_BY_TLS}"
    if isinstance(error, Closed) and peer.is_plain:
        return f"{error}. {ASK_BY_TLS}"
    if isinstance(error, EngineUnavailable):
        return str(error)
    if isinstance(cause, ConnectionResetError | BrokenPipeError) and peer.is_plain:
        return f"the essaim daemon at {peer.host} closed the connection before it had answered. {ASK_BY_TLS}"
    if isinstance(cause, socket.gaierror):
        return f"{unreachable}: there is no host named {peer.name}. Check its name in --host or ESSAIM_HOST"
    if isinstance(cause, TimeoutError) or (isinstance(cause, OSError) and cause.errno in SILENT):
        return f"{unreachable}: the host does not answer. Is it up, and does a firewall let you reach its port?"
    return f"{unreachable}. Is essaimd running?"


def explain_tls(error: ssl.SSLError, peer: Peer) -> str:
    said = f"cannot make a TLS connection to the essaim daemon at {peer.host}: "
    reason = error.reason or ""
    if reason == "WRONG_VERSION_NUMBER":
        return said + "it does not speak TLS there. Ask it in plain: tcp://HOST:PORT without --tls and --tlsverify"
    if "CERTIFICATE_REQUIRED" in reason or "HANDSHAKE_FAILURE" in reason:
        return said + "it wants a client certificate. Give one by --tlscert and --tlskey, or by ESSAIM_CERT_PATH"
    if "UNKNOWN_CA" in reason or "BAD_CERTIFICATE" in reason:
        return said + "it does not accept this client certificate. Give one that its --tlscacert has issued"
    if isinstance(error, ssl.SSLCertVerificationError):
        return said + explain_certificate(error)
    return said + re.sub(r" \(_ssl\.c:\d+\)", "", str(error))


def explain_certificate(error: ssl.SSLCertVerificationError) -> str:
    """Why its certificate was not believed."""
    found = error.verify_message
    if any(found.startswith(start) for start in UNTRUSTED):
        return (
            "its certificate is from an authority that is not known here. Name the authority's file by --tlscacert, "
            "or put it into the folder ESSAIM_CERT_PATH as ca.pem"
        )
    return f"its certificate is refused: {found}"
