"""What `essaimd` was told on its command line."""

import re
from dataclasses import dataclass, field
from pathlib import Path

DEFAULT_CLUSTER_PORT = 2377
DEFAULT_API_PORT = 2376
ENTRY_POINTS = {"web": 80, "websecure": 443}
"""Where Traefik's routers listen, unless it is said otherwise."""


@dataclass(frozen=True, slots=True)
class Settings:
    """Addresses may be empty where a default is found at run time. `engine` is a URL or empty for the usual socket."""

    state_dir: Path
    socket: Path
    advertise_addr: str = ""
    listen_addr: str = ""
    api_addr: str = ""
    tls_ca: Path | None = None
    tls_cert: Path | None = None
    tls_key: Path | None = None
    mesh_addr: str = ""
    runtime: str = "auto"
    engine: str = ""
    hostname: str = ""
    gateway_only: bool = False
    join: tuple[str, ...] = ()
    token: str = ""
    gateway_workers: int | None = None
    entry_points: dict[str, int] = field(default_factory=lambda: dict(ENTRY_POINTS))


def read_entry_points(texts: tuple[str, ...]) -> dict[str, int]:
    """The usual entry points, changed by `NAME=PORT` and `NAME=off`. Raises ValueError."""
    points = dict(ENTRY_POINTS)
    for text in texts:
        name, sign, port = (part.strip() for part in text.partition("="))
        if not sign or not re.fullmatch(r"[A-Za-z0-9_-]+", name):
            raise ValueError(f"{text!r} is not NAME=PORT, such as web=8080")
        if port == "off":
            points.pop(name.lower(), None)
        elif port.isdigit() and 0 < int(port) < 65536:
            points[name.lower()] = int(port)
        else:
            raise ValueError(f"{text!r}: {port!r} is neither a port nor off")
    taken: dict[int, str] = {}
    for name, number in points.items():
        if number in taken:
            raise ValueError(f"the entry points {taken[number]} and {name} have the same port {number}")
        taken[number] = name
    return points
