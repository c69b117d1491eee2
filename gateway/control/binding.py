"""Sockets for published ports.

The supervisor binds, the workers accept: each worker has a socket of its own for each port (`SO_REUSEPORT`), and the
supervisor keeps a duplicate. A worker that dies leaves its socket open, so the connections that the kernel has queued
there wait for the next worker instead of being reset.
"""

import errno
import os
import socket

from .plan import Binding

BACKLOG = 4096


class CannotBind(Exception):
    """The port cannot be had; the message says why, fit for a user."""


def bind(binding: Binding, count: int, inherited: list[socket.socket]) -> list[socket.socket]:
    """At least `count` sockets for one port, listening already, the inherited ones first. Raises CannotBind."""
    sockets = list(inherited)
    try:
        if not sockets:
            # A second program of the same user could share a port by SO_REUSEPORT, so first see whether it is free.
            _open(binding, shared=False).close()
        while len(sockets) < count:
            sockets.append(_open(binding, shared=True))
            if binding.transport == "tcp":
                sockets[-1].listen(BACKLOG)
    except (OSError, ValueError, TypeError, OverflowError) as error:
        for sock in sockets:
            sock.close()
        if isinstance(error, OSError):
            raise CannotBind(explain(binding, error)) from error
        raise CannotBind(
            f"{binding.host!r} port {binding.port}/{binding.transport} cannot be bound: {error}"
        ) from error
    return sockets


def _open(binding: Binding, *, shared: bool) -> socket.socket:
    kind = socket.SOCK_STREAM if binding.transport == "tcp" else socket.SOCK_DGRAM
    everywhere = binding.host == ""
    family = socket.AF_INET6 if ":" in binding.host or (everywhere and _has_ipv6()) else socket.AF_INET
    sock = socket.socket(family, kind | socket.SOCK_NONBLOCK)
    try:
        if binding.transport == "tcp":
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if shared:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0 if everywhere else 1)
        sock.bind((binding.host or ("::" if family == socket.AF_INET6 else "0.0.0.0"), binding.port))
        if not shared and binding.transport == "tcp":
            sock.listen(1)
    except BaseException:
        sock.close()
        raise
    return sock


def _has_ipv6() -> bool:
    return socket.has_ipv6 and os.path.exists("/proc/sys/net/ipv6")


def explain(binding: Binding, error: OSError) -> str:
    where = f"{binding.host or 'all addresses'} port {binding.port}/{binding.transport}"
    if error.errno == errno.EADDRINUSE:
        return f"{where} is in use by another program on this node"
    if error.errno == errno.EADDRNOTAVAIL:
        return f"{where}: the address is not on this node"
    if error.errno == errno.EACCES:
        return f"{where}: no permission (ports below 1024 need root or CAP_NET_BIND_SERVICE)"
    return f"{where}: {error.strerror}"
