"""ContainerSpec and its parts: what runs in a task (Engine API: TaskSpec.ContainerSpec, Mount, HealthConfig)."""

from typing import Any

from .engine_options import EngineOptions
from .shape import Shape

NANOSECONDS = 1_000_000_000


class DriverSpec(Shape):
    name: str | None = None
    options: dict[str, str] | None = None


class HealthConfig(Shape):
    """Docker's HEALTHCHECK. Durations in nanoseconds; `test` is NONE, CMD args... or CMD-SHELL line."""

    test: list[str] | None = None
    interval: int | None = None
    timeout: int | None = None
    retries: int | None = None
    start_period: int | None = None
    start_interval: int | None = None


class BindOptions(Shape):
    propagation: str | None = None
    non_recursive: bool | None = None
    create_mountpoint: bool | None = None
    read_only_non_recursive: bool | None = None
    read_only_force_recursive: bool | None = None


class VolumeOptions(Shape):
    no_copy: bool | None = None
    labels: dict[str, str] | None = None
    driver_config: DriverSpec | None = None
    subpath: str | None = None


class ImageOptions(Shape):
    subpath: str | None = None


class TmpfsOptions(Shape):
    size_bytes: int | None = None
    mode: int | None = None
    options: list[list[str]] | None = None


class Mount(Shape):
    """`type` is bind, volume, tmpfs, npipe, image or cluster."""

    type: str | None = None
    source: str | None = None
    target: str | None = None
    read_only: bool | None = None
    consistency: str | None = None
    bind_options: BindOptions | None = None
    volume_options: VolumeOptions | None = None
    image_options: ImageOptions | None = None
    tmpfs_options: TmpfsOptions | None = None


class FileTarget(Shape):
    """Where a secret or config appears. `name` is a path; a relative one is below /run/secrets (configs: /)."""

    name: str
    uid: str | None = None
    gid: str | None = None
    mode: int | None = None


class SecretReference(Shape):
    file: FileTarget | None = None
    secret_id: str | None = None
    secret_name: str | None = None


class ConfigReference(Shape):
    file: FileTarget | None = None
    runtime: dict[str, Any] | None = None
    config_id: str | None = None
    config_name: str | None = None


class DNSConfig(Shape):
    nameservers: list[str] | None = None
    search: list[str] | None = None
    options: list[str] | None = None


class CredentialSpec(Shape):
    config: str | None = None
    file: str | None = None
    registry: str | None = None


class SELinuxContext(Shape):
    disable: bool | None = None
    user: str | None = None
    role: str | None = None
    type: str | None = None
    level: str | None = None


class Seccomp(Shape):
    mode: str | None = None
    profile: bytes | None = None


class AppArmor(Shape):
    mode: str | None = None


class Privileges(Shape):
    credential_spec: CredentialSpec | None = None
    selinux_context: SELinuxContext | None = None
    seccomp: Seccomp | None = None
    apparmor: AppArmor | None = None
    no_new_privileges: bool | None = None


class Ulimit(Shape):
    name: str
    soft: int | None = None
    hard: int | None = None


class ContainerSpec(Shape):
    """Durations in nanoseconds. Field order is the order in which an Engine echoes them; `engine_options` is essaim's
    own, and what ContainerSpec lacks."""

    image: str | None = None
    labels: dict[str, str] | None = None
    command: list[str] | None = None
    args: list[str] | None = None
    hostname: str | None = None
    env: list[str] | None = None
    dir: str | None = None
    user: str | None = None
    groups: list[str] | None = None
    privileges: Privileges | None = None
    init: bool | None = None
    stop_signal: str | None = None
    tty: bool | None = None
    open_stdin: bool | None = None
    read_only: bool | None = None
    mounts: list[Mount] | None = None
    stop_grace_period: int | None = None
    healthcheck: HealthConfig | None = None
    hosts: list[str] | None = None
    dns_config: DNSConfig | None = None
    secrets: list[SecretReference] | None = None
    configs: list[ConfigReference] | None = None
    isolation: str | None = None
    sysctls: dict[str, str] | None = None
    capability_add: list[str] | None = None
    capability_drop: list[str] | None = None
    ulimits: list[Ulimit] | None = None
    oom_score_adj: int | None = None
    engine_options: EngineOptions | None = None


DEFAULT_STOP_GRACE_PERIOD = 10 * NANOSECONDS
