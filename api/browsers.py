"""Requests that a web page made: refused, since a page that somebody looks at must not command the cluster.

A browser sends what a page asks for to any address it can reach, loopback among them, and a name that the page's owner
rebinds to such an address makes page and API one origin. Three marks tell, and none can be forged by a page:

- `Host`: who calls a TCP listener by a name that is not ours has had it from a foreign name server (DNS rebinding).
- `Sec-Fetch-Site`: the browser says that another site's page asks. What is of the same origin, or was typed in, passes;
  so do requests that a web interface in front of the API passes on with its own users' headers.
- `Origin`, from browsers that do not send the former: it must be the API's own.

And a body has to be called JSON, as Docker's daemon demands: a page may send other types without asking, JSON it may
not. Requests without a body may be called anything (the stock client calls them `text/plain`).

Pure: headers in, the reason of a refusal out.
"""

import ipaddress
from collections.abc import Collection, Sequence
from urllib.parse import urlsplit

JSON = "application/json"
OURS = {"same-origin", "none"}
RAW_FAMILIES = {"build", "grpc", "session"}
RAW_ACTIONS = {("images", "create"), ("images", "load"), ("plugins", "create")}
RAW_OF_CONTAINER = {"archive", "attach"}
DEFAULT_PORTS = {"http": 80, "https": 443}


def page_refusal(
    host: Sequence[str], origin: Sequence[str], site: Sequence[str], *, names: Collection[str], local: str
) -> str:
    """Why the request must not be obeyed; empty when it may. The first three are the values of the headers `Host`,
    `Origin` and `Sec-Fetch-Site`; `names` what the listener is called (lower case, `*.` for any
    first label), `local` the address that was
    called."""
    if len(host) > 1 or not all(_is_ours(value, names, local) for value in host):
        return (
            f"the API is not called {_shown(host)} (header Host): call it by an address of its host, or start essaimd "
            "with --api-host NAME for a further name"
        )
    if any(value.strip().lower() not in OURS for value in site):
        return (
            f"a web page of another site made this request (header Sec-Fetch-Site: {_shown(site)}): the API obeys "
            "programs only"
        )
    if not site and any(not _same_origin(value, host) for value in origin):
        return (
            f"a web page of {_shown(origin)} made this request (header Origin): the API obeys programs only. A proxy "
            "in front of the API that passes on what browsers send has to leave this header out"
        )
    return ""


def body_refusal(content_type: Sequence[str], segments: Sequence[str]) -> str:
    """Why a body of this type is not taken at this path (below the version); empty when it is."""
    if _takes_anything(segments):
        return ""
    kinds = {value.partition(";")[0].strip().lower() for value in content_type} or {""}
    if kinds == {JSON}:
        return ""
    return f"unsupported Content-Type header ({_shown(content_type)}): the body has to be sent as '{JSON}'"


def _takes_anything(segments: Sequence[str]) -> bool:
    """Archives, and streams: the Engine's business."""
    if segments[:1] and segments[0] in RAW_FAMILIES and len(segments) == 1:
        return True
    if tuple(segments) in RAW_ACTIONS:
        return True
    return len(segments) >= 3 and segments[0] == "containers" and segments[2] in RAW_OF_CONTAINER


def _is_ours(value: str, names: Collection[str], local: str) -> bool:
    name = _name(value)
    if name == "localhost" or name.endswith(".localhost") or name in names:
        return True
    if f"*.{name.partition('.')[2]}" in names:
        return True
    try:
        address = ipaddress.ip_address(name)
    except ValueError:
        return False
    return address.is_loopback or str(address) in names or str(address) == local


def _name(value: str) -> str:
    """A `Host` without its port, in lower case; empty for what is none."""
    try:
        return (urlsplit(f"//{value.strip()}").hostname or "").rstrip(".")
    except ValueError:
        return ""


def _same_origin(origin: str, host: Sequence[str]) -> bool:
    try:
        parts = urlsplit(origin.strip())
        ours = urlsplit(f"//{host[0].strip()}") if host else None
        if ours is None or parts.scheme not in DEFAULT_PORTS or not parts.hostname:
            return False
        default = DEFAULT_PORTS[parts.scheme]
        return (parts.hostname, parts.port or default) == (ours.hostname, ours.port or default)
    except ValueError:
        return False


def _shown(values: Sequence[str]) -> str:
    text = ", ".join(values)[:100]
    return text if text.isprintable() else repr(text)
