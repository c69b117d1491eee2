"""Where a Docker Engine answers: `unix:///path`, `tcp://host:port` or `http://host:port`. The port is 2375 unless it is
given, as docker has it.

Pure: text in, an address out.
"""

from dataclasses import dataclass
from urllib.parse import urlsplit

DEFAULT_ENGINE = "unix:///var/run/docker.sock"
DEFAULT_PORT = 2375


@dataclass(frozen=True, slots=True)
class EngineAddress:
    """A path of a socket, or a host and a port."""

    socket: str = ""
    host: str = ""
    port: int = DEFAULT_PORT

    @property
    def authority(self) -> str:
        """As `Host` and URLs name it."""
        if self.socket:
            return "docker"
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def parse_engine(url: str) -> EngineAddress:
    """Raises ValueError, in words for a user."""
    scheme, _, rest = url.partition("://")
    if scheme == "unix" and rest:
        return EngineAddress(socket=rest)
    if scheme in ("tcp", "http"):
        try:
            parts = urlsplit(f"//{rest}")
            port = DEFAULT_PORT if parts.port is None else parts.port
            if parts.hostname and port and parts.path in ("", "/") and not (parts.query or parts.username):
                return EngineAddress(host=parts.hostname, port=port)
        except ValueError:  # of a port, or of brackets, that are none
            pass
    raise ValueError(
        f"{url[:200]!r} is no address of a Docker Engine: use unix://PATH, http://HOST:PORT or tcp://HOST:PORT"
    )
