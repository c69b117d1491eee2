"""ContainerSpec of a service, as `docker stack deploy` builds it, and more where it drops keys.

Pure: no I/O.
"""

from typing import Any

from essaim.cluster.container import (
    ConfigReference,
    ContainerSpec,
    CredentialSpec,
    DNSConfig,
    FileTarget,
    HealthConfig,
    Privileges,
    SecretReference,
    Ulimit,
)
from essaim.stacks.canonical.values import NAMESPACE_LABEL, familiar_image, labels, value

from .engine_spec import engine_options
from .mount_specs import mounts

DEFAULT_FILE_MODE = 0o444
ALL = "ALL"


def container_spec(service: dict[str, Any], file: dict[str, Any], namespace: str) -> ContainerSpec:
    """`file` is the whole file in plain canonical data. Raises SpecError."""
    added, dropped = _capabilities(service.get("cap_add") or [], service.get("cap_drop") or [])
    hosts = [_host(line) for line in service.get("extra_hosts") or ()]
    return ContainerSpec(
        image=familiar_image(service["image"]),
        labels=labels(service.get("labels"), **{NAMESPACE_LABEL: namespace}),
        command=service.get("entrypoint") or None,
        args=service.get("command") or None,
        hostname=service.get("hostname"),
        env=_environment(service.get("environment")),
        dir=service.get("working_dir"),
        user=service.get("user"),
        groups=service.get("group_add") or None,
        privileges=_privileges(service, file, namespace),
        init=service.get("init"),
        stop_signal=service.get("stop_signal"),
        tty=service.get("tty") or None,
        open_stdin=service.get("stdin_open") or None,
        read_only=service.get("read_only") or None,
        mounts=mounts(service, file.get("volumes") or {}, namespace),
        stop_grace_period=service.get("stop_grace_period"),
        healthcheck=_healthcheck(service.get("healthcheck")),
        hosts=hosts or None,
        dns_config=_dns(service),
        secrets=_secrets(service, file.get("secrets") or {}, namespace),
        configs=_configs(service, file.get("configs") or {}, namespace),
        isolation=service.get("isolation"),
        sysctls=_sysctls(service.get("sysctls")),
        capability_add=added or None,
        capability_drop=dropped or None,
        ulimits=_ulimits(service.get("ulimits")),
        oom_score_adj=service.get("oom_score_adj"),
        engine_options=engine_options(service),
    )


def object_name(given: Any, key: str, namespace: str) -> str:
    """The cluster-wide name of a network, secret or config of the file."""
    given = given or {}
    if given.get("name"):
        return str(given["name"])
    return key if given.get("external") else f"{namespace}_{key}"


def _environment(own: dict[str, str | None] | None) -> list[str] | None:
    """Sorted. A variable that is set nowhere is passed on by its name alone, as Docker does."""
    return sorted(key if text is None else f"{key}={text}" for key, text in own.items()) if own else None


def _sysctls(own: dict[str, str | None] | None) -> dict[str, str] | None:
    return {key: text or "" for key, text in own.items()} if own else None


def _host(line: str) -> str:
    host, _, address = line.partition(":")
    return f"{address} {host}"


def _capabilities(add: list[str], drop: list[str]) -> tuple[list[str], list[str]]:
    """Sorted, with the CAP_ prefix; `ALL` swallows the others, and adding wins over dropping."""

    def names(given: list[str]) -> set[str]:
        upper = {name.upper() for name in given}
        if ALL in upper:
            return {ALL}
        return {name if name.startswith("CAP_") else f"CAP_{name}" for name in upper}

    added, dropped = names(add), names(drop)
    return sorted(added), sorted(dropped - added)


def _privileges(service: dict[str, Any], file: dict[str, Any], namespace: str) -> Privileges | None:
    own = service.get("credential_spec")
    if not own:
        return None
    config = own.get("config")
    name = object_name(value(file, "configs", config), config, namespace) if config else None
    return Privileges(credential_spec=CredentialSpec(config=name, file=own.get("file"), registry=own.get("registry")))


def _healthcheck(own: dict[str, Any] | None) -> HealthConfig | None:
    if not own:
        return None
    if own.get("disable"):
        return HealthConfig(test=["NONE"])
    return HealthConfig(
        test=own.get("test"),
        interval=own.get("interval"),
        timeout=own.get("timeout"),
        retries=own.get("retries"),
        start_period=own.get("start_period"),
        start_interval=own.get("start_interval"),
    )


def _dns(service: dict[str, Any]) -> DNSConfig | None:
    found = DNSConfig(
        nameservers=service.get("dns") or None,
        search=service.get("dns_search") or None,
        options=service.get("dns_opt") or None,
    )
    return None if found == DNSConfig() else found


def _target(entry: dict[str, Any]) -> FileTarget:
    return FileTarget(
        name=entry.get("target") or entry["source"],
        uid=entry.get("uid") or "0",
        gid=entry.get("gid") or "0",
        mode=DEFAULT_FILE_MODE if entry.get("mode") is None else entry["mode"],
    )


def _secrets(service: dict[str, Any], secrets: dict[str, Any], namespace: str) -> list[SecretReference] | None:
    found = [
        SecretReference(
            file=_target(entry), secret_name=object_name(secrets.get(entry["source"]), entry["source"], namespace)
        )
        for entry in service.get("secrets") or ()
    ]
    return sorted(found, key=lambda reference: reference.secret_name or "") or None


def _configs(service: dict[str, Any], configs: dict[str, Any], namespace: str) -> list[ConfigReference] | None:
    found = [
        ConfigReference(
            file=_target(entry), config_name=object_name(configs.get(entry["source"]), entry["source"], namespace)
        )
        for entry in service.get("configs") or ()
    ]
    credential = value(service, "credential_spec", "config")
    if credential:
        name = object_name(configs.get(credential), credential, namespace)
        found.append(ConfigReference(runtime={}, config_name=name))
    return sorted(found, key=lambda reference: reference.config_name or "") or None


def _ulimits(own: dict[str, Any] | None) -> list[Ulimit] | None:
    if not own:
        return None
    return [
        Ulimit(name=name, soft=limit["soft"], hard=limit["hard"])
        if isinstance(limit, dict)
        else Ulimit(name=name, soft=limit, hard=limit)
        for name, limit in sorted(own.items())
    ]
