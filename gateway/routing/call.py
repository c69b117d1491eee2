"""A request between its rule and its replica: what the middlewares of its router see, change and answer.

Pure: values in, values out.
"""

import ipaddress
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from essaim.gateway.codec.message import FORWARDED_FOR, Request
from essaim.gateway.protocol.numbers import flag as boolean
from essaim.gateway.protocol.numbers import whole


class Answer(Exception):
    """The gateway answers by itself. `lines`: further fields, each ended by CRLF; `body` instead of the reason.

    `relayed`: another server's answer, whose type is among its lines, or unknown. `last`: the connection that the
    request came by takes no other one.
    """

    def __init__(
        self,
        status: int,
        reason: str,
        lines: bytes = b"",
        body: bytes | None = None,
        *,
        relayed: bool = False,
        last: bool = False,
    ) -> None:
        super().__init__(reason)
        self.status = status
        self.reason = reason
        self.lines = lines
        self.body = body
        self.relayed = relayed
        self.last = last


class Undecided(Exception):
    """A middleware can neither pass nor answer the call before something is done that takes time.

    Whoever lets the call proceed does what the kind asks for, keeps meanwhile what else arrives of the request, and
    lets it proceed again: the same middleware is called again, and finds the outcome where the kind has left it.
    Each kind has a `settle`, to be called with the outcome where the rest of the worker runs.
    """


class BodyWanted(Undecided):
    """The request's whole body is needed, as far as it is not longer than `limit` bytes."""

    def __init__(self, call: "Call", limit: int) -> None:
        super().__init__("the request's body is not here yet")
        self.limit = limit
        self._call = call

    def settle(self, content: bytes | None) -> None:
        """None: it is longer."""
        self._call.body, self._call.body_excess = content, content is None


@dataclass(frozen=True, slots=True)
class Verdict:
    """An auth server's answer, its fields without those of the hop.

    `failure`: it gave none, for this reason; `status` is then what the gateway answers instead.
    """

    status: int
    fields: tuple[tuple[bytes, bytes], ...] = ()
    body: bytes = b""
    failure: str = ""


@dataclass(slots=True)
class Call:
    """A request on its way: `path`, `query` and `fields` (lines, each ended by CRLF) are what the replica will get.

    `address`: who called; `peer`: whose connection it is, a proxy's perhaps; `trusted`: that is believed in what it
    says of earlier hops.
    """

    request: Request
    path: bytes
    query: bytes
    fields: bytes
    address: str
    authority: bytes
    now: float
    scheme: str = "http"
    trusted: bool = False
    # The port of this node that the client has connected to, and whether by TLS.
    port: int = 0
    secure: bool = False
    max_body: int = 0
    retries: int | None = None
    # Seconds before the first retry; later ones wait longer.
    retry_pause: float = 0.0
    edits: list[Callable[[bytes], bytes]] = field(default_factory=list)
    # Told when the request is over: the status of its answer, and the seconds that it took.
    after: list[Callable[[int, float], None]] = field(default_factory=list)
    # The middlewares to pass, and how many of them are passed.
    chain: "tuple[Middleware, ...]" = ()
    step: int = 0
    # Who has asked, as far as a middleware has found out; for the access log.
    user: bytes = b""
    # The request's content, where a middleware wanted it (see BodyWanted), or that it is longer than was wanted.
    body: bytes | None = None
    body_excess: bool = False
    # What an auth server has said to the middleware that asked it (see `forward_auth.py`).
    verdict: "Verdict | None" = None
    # "": the same as `address`.
    peer: str = ""

    def proceed(self) -> None:
        """Pass the middlewares; after an interruption, those that are left. Raises Answer, and Undecided."""
        while self.step < len(self.chain):
            self.chain[self.step](self)
            self.step += 1

    def edit(self, head: bytes) -> bytes:
        """A response's head (lines, each ended by CRLF) as the middlewares want it."""
        for edit in self.edits:
            head = edit(head)
        return head

    def end(self, status: int, seconds: float) -> None:
        """The request is over; said again it has no effect."""
        after, self.after = self.after, []
        for tell in reversed(after):
            tell(status, seconds)

    @property
    def target(self) -> bytes:
        return self.path + b"?" + self.query if self.query else self.path

    @property
    def hops(self) -> Sequence[str]:
        """The addresses of X-Forwarded-For, the nearest last; none from a peer that is not believed."""
        if not self.trusted:
            return ()
        values = [value.decode("latin-1") for kind, value, _ in self.request.forwarded if kind == FORWARDED_FOR]
        return [hop.strip() for value in values for hop in value.split(",")]


class Middleware(Protocol):
    def __call__(self, call: Call) -> None: ...


Options = dict[str, str]


def get_field(fields: bytes, name: bytes) -> bytes | None:
    """The first value of a field in a block of lines."""
    lower = name.lower()
    for line in fields.split(b"\r\n"):
        key, _, value = line.partition(b":")
        if key.lower() == lower:
            return value.strip()
    return None


def set_field(fields: bytes, name: bytes, value: bytes) -> bytes:
    """The block with the field set to one value; removed if that is empty."""
    lower = name.lower()
    kept = [line for line in fields.split(b"\r\n") if line and line.partition(b":")[0].lower() != lower]
    if value:
        kept.append(name + b": " + value)
    return b"".join(line + b"\r\n" for line in kept)


def listed(value: str) -> list[str]:
    return [item.strip() for item in value.split(",") if item.strip()]


def flag(options: Options, name: str, default: str = "false") -> bool:
    """Raises ValueError for what is neither true nor false."""
    try:
        return boolean(options.get(name, default))
    except ValueError as error:
        raise ValueError(f"{name} {error}") from None


def number(options: Options, name: str, default: str = "0", least: int = 0) -> int:
    """A whole number. Raises KeyError when it is needed (no default) and missing, ValueError when it is no number."""
    text = options[name] if default == "" else options.get(name, default)
    try:
        return whole(text, least)
    except ValueError as error:
        raise ValueError(f"{name} {error}") from None


def field_value(name: str, value: str) -> bytes:
    """A field's value out of a label. Raises ValueError for one that would end the line."""
    if re.search(r"[\x00-\x08\x0a-\x1f\x7f]", value):
        raise ValueError(f"the field {name} cannot be set so")
    return value.encode()


def field_name(name: str) -> bytes:
    if not re.fullmatch(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", name):
        raise ValueError(f"{name!r} is not the name of a field")
    return name.encode()


def subnet(address: str, bits: int) -> str:
    """An IPv6 address's network of so many bits; anything else stays as it is."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return address
    if parsed.version == 4:
        return address
    return str(ipaddress.ip_network((parsed, bits), strict=False).network_address)
