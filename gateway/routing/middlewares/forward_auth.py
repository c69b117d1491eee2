"""Traefik's `forwardAuth`: another server is asked whether a request may pass.

- It is asked with GET (`preserveRequestMethod`: the request's own method), the request's fields (`authRequestHeaders`:
  only those) without the hop's, and X-Forwarded-Method, -Proto, -Host, -Uri and -For. What earlier hops claim in these
  counts only if both `trustForwardHeader` and the rules of trust of the gateway allow it.
- 2xx lets the request pass, with the answer's `authResponseHeaders` and those that match `authResponseHeadersRegex` in
  the place of whatever the client has sent under these names, also spelt with underscores, as many servers read them
  alike. Fields that frame a message, or that the gateway itself writes, are exempt.
- Any other answer goes to the client as it is, redirects included; a relative Location is made absolute by the address
  asked, unless `preserveLocationHeader`. `authSigninURL` is where a 401 becomes a redirect to.
- No answer within 30 s is a 500, a body over `maxBodySize` or an answer over `maxResponseBodySize` a 401, as with
  Traefik. Unlike Traefik's, neither can be more than MAX_BODY, which is what they are where nothing is said: the worker
  has to hold them.

Pure: a call in, a changed call, an answer or a question out.
"""

import re
from collections.abc import Iterable
from urllib.parse import urljoin

from essaim.gateway.codec.hop_by_hop import NOT_PASSED_ON, nominated
from essaim.gateway.codec.message import REQUEST_NAMES
from essaim.gateway.routing.call import (
    Answer,
    BodyWanted,
    Call,
    Options,
    Undecided,
    Verdict,
    field_value,
    flag,
    listed,
    set_field,
)
from essaim.gateway.routing.pattern import Pattern

from .auth_server import AuthServer, read_server

MAX_BODY = 1 << 20
ALWAYS = frozenset(
    {b"x-forwarded-method", b"x-forwarded-proto", b"x-forwarded-host", b"x-forwarded-uri", b"x-forwarded-for"}
)
NOT_ASKED = NOT_PASSED_ON | ALWAYS | {b"host", b"expect"}
OWN = NOT_PASSED_ON | frozenset(REQUEST_NAMES)
"""Fields that no auth server may set."""
Fields = tuple[tuple[bytes, bytes], ...]


class Question(Undecided):
    """What an auth server is to be asked: `fields` are lines, each ended by CRLF, without Host and framing."""

    def __init__(self, call: Call, server: AuthServer, method: bytes, fields: bytes, body: bytes, limit: int) -> None:
        super().__init__(f"{server.url} has not answered yet")
        self.server = server
        self.method = method
        self.fields = fields
        self.body = body
        # Of the answer's body, in bytes.
        self.limit = limit
        self._call = call

    @property
    def message(self) -> bytes:
        """The whole request, as HTTP/1.1 sends it."""
        framed = self.body or self.method not in (b"GET", b"HEAD", b"OPTIONS", b"TRACE", b"DELETE")
        length = b"Content-Length: %d\r\n" % len(self.body) if framed else b""
        target, host = self.server.target.encode(), self.server.authority.encode()
        return b"%b %b HTTP/1.1\r\nHost: %b\r\n%b%b\r\n%b" % (
            self.method, target, host, self.fields, length, self.body,
        )  # fmt: skip

    def settle(self, verdict: Verdict) -> None:
        self._call.verdict = verdict


class ForwardAuth:
    """`stack`, beside Traefik's options: the stack of the service whose labels define it."""

    def __init__(self, options: Options) -> None:
        self._server = read_server(
            options["address"],
            options.get("stack", ""),
            options.get("tls.ca", ""),
            unverified=flag(options, "tls.insecureskipverify"),
        )
        self._trusts = flag(options, "trustforwardheader")
        self._asked = frozenset(_names(options, "authrequestheaders"))
        self._taken = frozenset(name.replace(b"_", b"-") for name in _names(options, "authresponseheaders"))
        pattern = options.get("authresponseheadersregex", "")
        self._pattern = Pattern(pattern) if pattern else None
        self._cookies = frozenset(one.encode() for one in listed(options.get("addauthcookiestoresponse", "")))
        self._user = options.get("headerfield", "").lower().encode()
        self._forwards_body = flag(options, "forwardbody")
        self._limit = _size(options, "maxbodysize")
        self._answer_limit = _size(options, "maxresponsebodysize")
        self._keeps_location = flag(options, "preservelocationheader")
        self._keeps_method = flag(options, "preserverequestmethod")
        self._signin = field_value("Location", options.get("authsigninurl", ""))

    def __call__(self, call: Call) -> None:
        verdict, call.verdict = call.verdict, None
        if verdict is None:
            raise self._question(call)
        if verdict.failure:
            raise Answer(verdict.status, verdict.failure)
        if self._user:
            call.user = next((value for name, value in verdict.fields if name.lower() == self._user), b"")
        if not 200 <= verdict.status < 300:
            raise self._refusal(verdict)
        self._take(call, verdict.fields)
        given = [value for name, value in verdict.fields if name.lower() == b"set-cookie"]
        if self._cookies and given:
            cookies = [value for value in given if _cookie_name(value) in self._cookies]
            call.edits.append(lambda head: _with_cookies(head, self._cookies, cookies))

    def _question(self, call: Call) -> Undecided:
        """Raises Answer."""
        body = b""
        if self._forwards_body and call.request.length:
            if not call.body_excess and call.body is None:
                return BodyWanted(call, self._limit)
            if call.body is None or len(call.body) > self._limit:
                raise Answer(401, f"the body is longer than the {self._limit} bytes that may be shown to who decides")
            body = call.body
            # It has been met.
            call.fields = set_field(call.fields, b"Expect", b"")
        method = call.request.method if self._keeps_method else b"GET"
        return Question(call, self._server, method, self._fields(call), body, self._answer_limit)

    def _fields(self, call: Call) -> bytes:
        lines = [
            line
            for line in call.fields.split(b"\r\n")
            if line and (name := _name(line)).replace(b"_", b"-") not in NOT_ASKED and self._asks(name)
        ]
        said = _claims(call) if self._trusts else {}
        hops = call.hops if self._trusts else ()
        told = {
            b"X-Forwarded-Method": call.request.method,
            b"X-Forwarded-Proto": b"https" if call.secure else b"http",
            b"X-Forwarded-Host": call.authority,
            b"X-Forwarded-Uri": call.target,
        }
        if self._asks(b"x-forwarded-port"):
            told[b"X-Forwarded-Port"] = b"%d" % call.port
        lines += [name + b": " + value for name, own in told.items() if (value := said.get(name.lower(), own))]
        lines.append(b"X-Forwarded-For: " + ", ".join([*hops, call.peer or call.address]).encode("latin-1"))
        if self._asks(b"x-real-ip"):
            lines.append(b"X-Real-IP: " + call.address.encode("latin-1"))
        return b"".join(line + b"\r\n" for line in lines)

    def _asks(self, name: bytes) -> bool:
        return not self._asked or name in self._asked

    def _refusal(self, verdict: Verdict) -> Answer:
        if self._signin and verdict.status == 401:
            return Answer(302, "", b"Location: " + self._signin + b"\r\n", b"", relayed=True)
        lines: list[bytes] = []
        for name, value in verdict.fields:
            if name.lower() == b"location" and not self._keeps_location:
                try:
                    value = urljoin(self._server.url, value.decode("latin-1")).encode("latin-1")
                except ValueError:
                    return Answer(500, "the auth server redirects to an address that is none")
            lines.append(name + b": " + value + b"\r\n")
        return Answer(verdict.status, "", b"".join(lines), verdict.body, relayed=True)

    def _take(self, call: Call, fields: Fields) -> None:
        """The answer's fields into the request."""
        if not self._taken and self._pattern is None:
            return
        kept = [line for line in call.fields.split(b"\r\n") if line and not self._takes(_name(line))]
        kept += [name + b": " + value for name, value in fields if self._takes(name.lower())]
        call.fields = b"".join(line + b"\r\n" for line in kept)

    def _takes(self, name: bytes) -> bool:
        name = name.replace(b"_", b"-")
        if name in OWN:
            return False
        return name in self._taken or (self._pattern is not None and self._pattern.matches(_canonical(name)))


def end_to_end(fields: Iterable[tuple[bytes, bytes]]) -> Fields:
    """A message's fields without those that are the hop's, or that its Connection names (RFC 9110, 7.6.1)."""
    known = tuple(fields)
    left_out = NOT_PASSED_ON | nominated(value for name, value in known if name.lower() == b"connection")
    return tuple((name, value) for name, value in known if name.lower() not in left_out)


def _claims(call: Call) -> dict[bytes, bytes]:
    """What earlier hops say of the request, if the one that has connected is believed."""
    if not call.trusted:
        return {}
    return {_name(line): value for _, value, line in call.request.forwarded}


def _name(line: bytes) -> bytes:
    return line.partition(b":")[0].lower()


def _canonical(name: bytes) -> bytes:
    """As Go spells fields, which Traefik's patterns are matched against."""
    return b"-".join(part.capitalize() for part in name.split(b"-"))


def _names(options: Options, option: str) -> list[bytes]:
    return [one.lower().encode() for one in listed(options.get(option, ""))]


def _size(options: Options, option: str) -> int:
    """Bytes; -1 is the most that there can be. Raises ValueError."""
    text = options.get(option, "-1").strip()
    if not re.fullmatch(r"-1|[0-9]{1,15}", text):
        raise ValueError(f"{option} must be a number of bytes, or -1")
    return MAX_BODY if text == "-1" else min(int(text), MAX_BODY)


def _cookie_name(value: bytes) -> bytes:
    return value.partition(b"=")[0].strip()


def _with_cookies(head: bytes, names: frozenset[bytes], cookies: list[bytes]) -> bytes:
    """A response's head with these cookies, and no others of these names."""
    kept = [
        line
        for line in head.split(b"\r\n")
        if line and not (_name(line) == b"set-cookie" and _cookie_name(line.partition(b":")[2]) in names)
    ]
    kept += [b"Set-Cookie: " + cookie for cookie in cookies]
    return b"".join(line + b"\r\n" for line in kept)
