"""Which replica a request belongs to: hashing by what the request brings, and sticky cookies.

A request in, an endpoint, a key or a cookie out.
"""

from essaim.gateway.codec.fields import cookie, field
from essaim.gateway.codec.message import Request
from essaim.gateway.protocol.options import ServiceOptions
from essaim.gateway.runtime.hashing import hash_key

from .backend import Backend, Endpoint


def choose(backend: Backend, request: Request, address: str, *, again: bool) -> Endpoint | None:
    """The endpoint that the request belongs to, by cookie or by hash; `again`: one has failed to answer it before."""
    options = backend.options
    if options.sticky_cookie:
        tag = cookie(request.fields, options.sticky_cookie)
        endpoint = backend.tagged(tag) if tag else None
        if endpoint is not None and not again:
            return endpoint
    return backend.pick(request_key(options, request, address) if options.hash_key else 0)


def request_key(options: ServiceOptions, request: Request, address: str) -> int:
    """The hash that `essaim.balance.key` asks for; a request without the header or cookie counts by its address."""
    kind, _, name = options.hash_key.partition(":")
    value: bytes | None = None
    if kind == "path":
        value = request.target.partition(b"?")[0]
    elif kind == "header":
        value = field(request.fields, name.lower()) if name.lower() != "host" else request.host
    elif kind == "cookie":
        value = cookie(request.fields, name)
    return hash_key(address.encode() if value is None else value)


def cookie_line(options: ServiceOptions, request: Request, tag: bytes) -> bytes:
    """The line that a response from the endpoint of this tag needs beside its own; none if the client knows."""
    name = options.sticky_cookie
    return set_cookie(options, tag) if name and cookie(request.fields, name) != tag else b""


def set_cookie(options: ServiceOptions, tag: bytes) -> bytes:
    """The line that makes the client come back to the endpoint of this tag."""
    line = b"Set-Cookie: %b=%b; Path=/" % (options.sticky_cookie.encode(), tag)
    if options.sticky_http_only:
        line += b"; HttpOnly"
    if options.sticky_secure:
        line += b"; Secure"
    if options.sticky_same_site:
        line += b"; SameSite=" + options.sticky_same_site.capitalize().encode()
    return line + b"\r\n"
