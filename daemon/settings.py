"""What `essaimd` was told on its command line."""

from dataclasses import dataclass, field
from pathlib import Path

from essaim.gateway.protocol.entry_points import ENTRY_POINTS, EntryPoint

DEFAULT_CLUSTER_PORT = 2377
DEFAULT_API_PORT = 2376
DEFAULT_METRICS_PORT = 9323
"""What Docker's documentation uses for an Engine's metrics."""


@dataclass(frozen=True, slots=True)
class Settings:
    """Addresses may be empty where a default is found at run time. `engine` is a URL or empty for the usual socket."""

    state_dir: Path
    socket: Path
    advertise_addr: str = ""
    listen_addr: str = ""
    api_addr: str = ""
    api_hosts: tuple[str, ...] = ()
    metrics_addr: str = ""
    docker_socket: Path | None = None
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
    entry_points: dict[str, EntryPoint] = field(default_factory=lambda: dict(ENTRY_POINTS))
