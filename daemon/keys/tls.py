"""TLS between nodes: contexts out of a node's keys, and who the other side of a connection is.

Both ends are ours: TLS 1.3 only. Nodes are dialled by address, so what a client demands of a server is a name that only
the certificates of managers have (see `secrets/holder.py`); OpenSSL checks it together with the chain. A client's
certificate is optional for the handshake, since a node that joins has none yet: each request is judged by its handler.

A listening context cannot be given another root while it listens. So it asks for the context of the moment whenever a
client says hello: renewed certificates and roots are in use from the next connection on.
"""

import asyncio
import os
import ssl
from collections.abc import Callable

from aiohttp import web
from cryptography import x509

from essaim.cluster.errors import Unauthorized
from essaim.secrets.holder import Holder, NoHolder, holder_of

NO_CERTIFICATE = "a certificate of a node of this cluster is needed"


def listening_context(current: Callable[[], ssl.SSLContext | None]) -> ssl.SSLContext:
    """For a server, which serves each client with the context that is current then."""

    def choose(connection: ssl.SSLSocket | ssl.SSLObject, _: str, __: ssl.SSLContext) -> int | None:
        context = current()
        if context is None:
            return ssl.ALERT_DESCRIPTION_INTERNAL_ERROR
        connection.context = context
        return None

    context = _server_side()
    context.sni_callback = choose
    return context


def serving_context(certificate: bytes, key: bytes, roots: bytes) -> ssl.SSLContext:
    context = _server_side()
    context.load_verify_locations(cadata=roots.decode())
    _load_pair(context, certificate, key)
    return context


def calling_context(certificate: bytes, key: bytes, roots: bytes) -> ssl.SSLContext:
    context = joining_context(roots)
    _load_pair(context, certificate, key)
    return context


def joining_context(roots: bytes) -> ssl.SSLContext:
    """For a client that has no certificate yet, and knows the root."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.load_verify_locations(cadata=roots.decode())
    return context


def candidate_context(certificate: bytes, key: bytes, roots: bytes) -> ssl.SSLContext:
    """For who wants to become a manager and has no manager's certificate yet: it serves nobody without one."""
    context = serving_context(certificate, key, roots)
    context.verify_mode = ssl.CERT_REQUIRED
    return context


def calling_back_context(certificate: bytes, key: bytes) -> ssl.SSLContext:
    """For a manager that calls a candidate, whose key it knows and looks at itself."""
    context = trusting_context()
    _load_pair(context, certificate, key)
    return context


def trusting_context() -> ssl.SSLContext:
    """For the one question whose answer proves itself: the root certificate, which a token names by its digest."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def holder_from(request: web.BaseRequest) -> Holder:
    """Who asks, by the certificate of the connection. Raises Unauthorized."""
    return holder_behind(request.transport)


def holder_behind(transport: asyncio.BaseTransport | None) -> Holder:
    """Whose certificate the client of a verified connection has shown. Raises Unauthorized."""
    connection = transport.get_extra_info("ssl_object") if transport is not None else None
    shown = connection.getpeercert(binary_form=True) if connection is not None else None
    if not shown:
        raise Unauthorized(NO_CERTIFICATE)
    try:
        return holder_of(x509.load_der_x509_certificate(shown))
    except NoHolder as error:
        raise Unauthorized(f"{NO_CERTIFICATE}: {error}") from error


def _server_side() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.verify_mode = ssl.CERT_OPTIONAL
    context.num_tickets = 0  # a resumed session would skip the certificates
    return context


def _load_pair(context: ssl.SSLContext, certificate: bytes, key: bytes) -> None:
    """The module takes files only; this one is never on a disk."""
    file = os.memfd_create("node certificate", os.MFD_CLOEXEC)
    try:
        os.write(file, certificate + key)
        context.load_cert_chain(f"/proc/self/fd/{file}")
    finally:
        os.close(file)
