"""Traefik's `headers`: fields of requests and responses, CORS, and the fields that browsers take for security.

- A preflight (OPTIONS with Origin and Access-Control-Request-Method) is answered here as soon as one of the
  `accessControl*` options is set; other requests pass, and their responses get the CORS fields.
- Strict-Transport-Security and Public-Key-Pins go out over TLS only (RFC 6797, 7.2), the first with `forceSTSHeader`
  without it, too.
- `isDevelopment` switches allowedHosts and these two off. A host that is not allowed is a 403.

Pure: a call in, a changed call out.
"""

from essaim.gateway.codec.message import HOST
from essaim.gateway.routing.call import (
    Answer,
    Call,
    Options,
    field_name,
    field_value,
    flag,
    get_field,
    listed,
    number,
    set_field,
)
from essaim.gateway.routing.pattern import Pattern

Fields = list[tuple[bytes, bytes]]

# Option, field, and what a flag puts there (None: the option's own text). A later row wins over an earlier one.
SECURITY: tuple[tuple[str, bytes, bytes | None], ...] = (
    ("framedeny", b"X-Frame-Options", b"DENY"),
    ("customframeoptionsvalue", b"X-Frame-Options", None),
    ("contenttypenosniff", b"X-Content-Type-Options", b"nosniff"),
    ("browserxssfilter", b"X-XSS-Protection", b"1; mode=block"),
    ("custombrowserxssvalue", b"X-XSS-Protection", None),
    ("contentsecuritypolicy", b"Content-Security-Policy", None),
    ("contentsecuritypolicyreportonly", b"Content-Security-Policy-Report-Only", None),
    ("referrerpolicy", b"Referrer-Policy", None),
    ("permissionspolicy", b"Permissions-Policy", None),
    ("featurepolicy", b"Feature-Policy", None),
)
OWN = (b"content-length", b"transfer-encoding", b"connection")
"""Fields that frame a message; a label may not set them."""


class Headers:
    def __init__(self, options: Options) -> None:
        self._request = _named(options, "customrequestheaders.")
        self._response = _named(options, "customresponseheaders.")
        for name, value in self._request:
            if name.lower() == b"host" and not (value and HOST.fullmatch(value)):
                raise ValueError("the field Host must be set to a host")
        for option, name, fixed in SECURITY:
            if option in options and (fixed is None or flag(options, option)):
                self._response.append((name, field_value(option, options[option]) if fixed is None else fixed))
        development = flag(options, "isdevelopment")
        allowed = listed(options.get("allowedhosts", ""))
        self._hosts = set() if development else {one.lower().encode() for one in allowed}
        forced = flag(options, "forcestsheader")
        sts, pins = _transport_security(options), field_value("publickey", options.get("publickey", ""))
        self._secure: Fields = [] if development else [(b"Public-Key-Pins", pins)] if pins else []
        if sts and not development:
            (self._response if forced else self._secure).append((b"Strict-Transport-Security", sts))
        self._cors = Cors(options)

    def __call__(self, call: Call) -> None:
        if self._hosts and call.request.host not in self._hosts:
            raise Answer(403, "this host is not served here")
        self._cors(call)
        for name, value in self._request:
            call.fields = set_field(call.fields, name, value)
            if name.lower() == b"host":
                call.authority = value
        found = self._response + self._secure if call.scheme == "https" else self._response
        if found:
            call.edits.append(lambda head: edited(head, found))


class Cors:
    def __init__(self, options: Options) -> None:
        self._any = any(option.startswith("accesscontrol") for option in options)
        self._origins = listed(options.get("accesscontrolalloworiginlist", ""))
        patterns = listed(options.get("accesscontrolalloworiginlistregex", ""))
        self._patterns = [Pattern(pattern) for pattern in patterns]
        self._always: Fields = []
        if flag(options, "accesscontrolallowcredentials"):
            self._always.append((b"Access-Control-Allow-Credentials", b"true"))
        self._preflight: Fields = [
            (field, ",".join(listed(options[option])).encode())
            for option, field in (
                ("accesscontrolallowheaders", b"Access-Control-Allow-Headers"),
                ("accesscontrolallowmethods", b"Access-Control-Allow-Methods"),
            )
            if listed(options.get(option, ""))
        ]
        if age := number(options, "accesscontrolmaxage"):
            self._preflight.append((b"Access-Control-Max-Age", b"%d" % age))
        self._exposed = ",".join(listed(options.get("accesscontrolexposeheaders", ""))).encode()
        self._vary = flag(options, "addvaryheader")
        for value in (*(value.decode() for _, value in self._preflight), self._exposed.decode(), *self._origins):
            field_value("accessControl", value)

    def __call__(self, call: Call) -> None:
        if not (self._any or self._vary):
            return
        origin = get_field(call.fields, b"origin")
        found = list(self._always)
        if allowed := self._allowed(origin or b""):
            found.append((b"Access-Control-Allow-Origin", allowed))
        if (
            self._any
            and origin
            and call.request.method == b"OPTIONS"
            and get_field(call.fields, b"access-control-request-method")
        ):
            raise Answer(200, "", b"".join(b"%b: %b\r\n" % one for one in (*found, *self._preflight)), b"")
        if self._exposed:
            found.append((b"Access-Control-Expose-Headers", self._exposed))
        if found:
            call.edits.append(lambda head: edited(head, found))
        if self._vary:
            call.edits.append(_vary_by_origin)

    def _allowed(self, origin: bytes) -> bytes | None:
        if "*" in self._origins:
            # Browsers take no `*` where credentials are allowed.
            return origin if self._always else b"*"
        if origin and origin.decode("latin-1") in self._origins:
            return origin
        return origin if origin and any(pattern.matches(origin) for pattern in self._patterns) else None


def edited(head: bytes, fields: Fields) -> bytes:
    """A response's head with these fields."""
    line, _, block = head.partition(b"\r\n")
    for name, value in fields:
        block = set_field(block, name, value)
    return line + b"\r\n" + block


def _vary_by_origin(head: bytes) -> bytes:
    before = get_field(head.partition(b"\r\n")[2], b"vary")
    names = [name.strip().lower() for name in (before or b"").split(b",")]
    if b"origin" in names or b"*" in names:
        return head
    return edited(head, [(b"Vary", before + b", Origin" if before else b"Origin")])


def _transport_security(options: Options) -> bytes:
    """The field's value; empty for none."""
    age = number(options, "stsseconds")
    parts = [f"max-age={age}"]
    parts += ["includeSubDomains"] if flag(options, "stsincludesubdomains") else []
    parts += ["preload"] if flag(options, "stspreload") else []
    return "; ".join(parts).encode() if age else b""


def _named(options: Options, prefix: str) -> Fields:
    """Fields with their values, an empty one removes. Raises ValueError for those that cannot be set."""
    found: Fields = []
    for option, value in sorted(options.items()):
        if option.startswith(prefix):
            name = field_name(option[len(prefix) :])
            if name.lower() in OWN:
                raise ValueError(f"the field {name.decode()} is the gateway's own")
            found.append((name, field_value(name.decode(), value)))
    return found
