"""Which replica a request belongs to: hashing by what the request brings, and sticky cookies.

Pure: a request in, a key or a cookie out.
"""

import re
from functools import lru_cache

from essaim.gateway.balance.ring import hash_key
from essaim.gateway.http1.head import Request

from .options import ServiceOptions


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


@lru_cache(maxsize=256)
def _field_pattern(name: str) -> re.Pattern[bytes]:
    return re.compile(rb"(?:^|\r\n)" + re.escape(name.encode()) + rb":[\t ]*([^\r]*)", re.IGNORECASE)


@lru_cache(maxsize=256)
def _cookie_pattern(name: str) -> re.Pattern[bytes]:
    return re.compile(rb"(?:^|;)[ ]*" + re.escape(name.encode()) + rb"=([^;]*)")


def field(fields: bytes, name: str) -> bytes | None:
    """The first value of a field in a block of lines."""
    found = _field_pattern(name).search(fields)
    return found[1].rstrip(b" \t") if found else None


def values(fields: bytes, name: str) -> list[bytes]:
    """All of a field's values, line by line."""
    return [value.rstrip(b" \t") for value in _field_pattern(name).findall(fields)]


def cookie(fields: bytes, name: str) -> bytes | None:
    """The value of a cookie in a block of lines."""
    cookies = field(fields, "cookie")
    found = _cookie_pattern(name).search(cookies) if cookies else None
    return found[1].strip() if found else None


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
