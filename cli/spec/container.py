"""The container of a service: what runs in it, as whom, with which surroundings.

Pure: a ContainerSpec and flags to a ContainerSpec. What does not fit raises ValueError.
"""

import shlex
from typing import Any

from msgspec.structs import replace

from essaim.cluster.container import ContainerSpec, CredentialSpec, DNSConfig, Privileges

from ..flags import Flags
from ..values.pairs import host_entry, to_map
from ..values.references import capabilities, capability
from .lists import added, env_key, keyed, mapped, plain, removed, touched

# flag -> attribute
TEXTS = {
    "hostname": "hostname",
    "image": "image",
    "isolation": "isolation",
    "stop-signal": "stop_signal",
    "user": "user",
    "workdir": "dir",
}
SWITCHES = {"init": "init", "read-only": "read_only", "tty": "tty"}
NUMBERS = {"stop-grace-period": "stop_grace_period", "oom-score-adj": "oom_score_adj"}
DNS = {"dns": "nameservers", "dns-option": "options", "dns-search": "search"}


def words(line: str) -> list[str]:
    """A command line split as a shell would."""
    try:
        return shlex.split(line)
    except ValueError as error:
        raise ValueError(f"cannot split {line!r}: {error}") from None


def change_container(container: ContainerSpec, flags: Flags) -> ContainerSpec:
    """Plain fields, environment, labels, groups, hosts, DNS, sysctls, ulimits and capabilities."""
    changes: dict[str, Any] = {}
    for flag, attribute in TEXTS.items():
        if flag in flags.flags and flags.given(flag):
            changes[attribute] = flags.text(flag)
    for flag, attribute in SWITCHES.items():
        if flags.given(flag):
            changes[attribute] = flags.on(flag)
    for flag, attribute in NUMBERS.items():
        if flags.given(flag):
            changes[attribute] = flags.number(flag)
    if flags.given("entrypoint"):
        changes["command"] = words(flags.text("entrypoint"))
    if "args" in flags.flags and flags.given("args"):
        changes["args"] = words(flags.text("args"))
    if touched(flags, "env"):
        changes["env"] = keyed(container.env, added(flags, "env"), removed(flags, "env"), env_key)
    if touched(flags, "container-label"):
        changes["labels"] = mapped(container.labels, added(flags, "container-label"), removed(flags, "container-label"))
    if touched(flags, "group"):
        changes["groups"] = plain(container.groups, added(flags, "group"), removed(flags, "group"))
    if touched(flags, "host"):
        changes["hosts"] = hosts(container.hosts, added(flags, "host"), removed(flags, "host"))
    if touched(flags, "sysctl"):
        changes["sysctls"] = mapped(container.sysctls, added(flags, "sysctl"), removed(flags, "sysctl")) or None
    if touched(flags, "ulimit"):
        found = keyed(container.ulimits, added(flags, "ulimit"), removed(flags, "ulimit"), lambda limit: limit.name)
        changes["ulimits"] = sorted(found, key=lambda limit: limit.name) if found else None
    if any(touched(flags, flag) for flag in DNS):
        changes["dns_config"] = dns(container.dns_config or DNSConfig(), flags)
    if flags.given("cap-add", "cap-drop"):
        changes |= capability_changes(container, flags)
    if flags.given("credential-spec"):
        privileges = container.privileges or Privileges()
        changes["privileges"] = replace(privileges, credential_spec=credentials(flags.text("credential-spec")))
    return replace(container, **changes)


def hosts(current: list[str] | None, add: list[str], remove: set[str]) -> list[str] | None:
    """Entries `ip name...`; `--host-rm` names a host, or a host and its address."""
    kept: list[str] = []
    for entry in current or []:
        address, *names = entry.split()
        names = [name for name in names if name not in remove and f"{name}:{address}" not in remove]
        if names:
            kept.append(" ".join([address, *names]))
    new = [host_entry(item) for item in add]
    return [*kept, *(entry for entry in dict.fromkeys(new) if entry not in kept)] or None


def dns(config: DNSConfig, flags: Flags) -> DNSConfig:
    changes = {
        attribute: plain(getattr(config, attribute), added(flags, flag), removed(flags, flag))
        for flag, attribute in DNS.items()
        if touched(flags, flag)
    }
    if "dns" in flags.flags:  # create keeps the order in which they were given
        changes = {attribute: added(flags, flag) for flag, attribute in DNS.items() if touched(flags, flag)}
    return replace(config, **changes)


def capability_changes(container: ContainerSpec, flags: Flags) -> dict[str, Any]:
    """Adding what was dropped takes the drop back, and the other way round; RESET forgets what was there."""
    add = {capability(item) for item in flags.items("cap-add")}
    drop = {capability(item) for item in flags.items("cap-drop")}
    old_add, old_drop = set(container.capability_add or ()), set(container.capability_drop or ())
    if "RESET" in add:
        old_add = set()
    if "RESET" in drop:
        old_drop = set()
    add, drop = add - {"RESET"}, drop - {"RESET"}
    neutral = {item for item in add if item in old_drop} | {item for item in drop if item in old_add}
    result = capabilities(
        (old_add | add) - neutral - (drop - add), (old_drop | drop) - neutral - add
    )
    return {"capability_add": result[0] or None, "capability_drop": result[1] or None}


def credentials(text: str) -> CredentialSpec:
    """`config://ID`, `file://NAME`, `registry://NAME`."""
    scheme, separator, rest = text.partition("://")
    if not separator or scheme not in ("config", "file", "registry"):
        raise ValueError(
            "invalid credential spec: value must be prefixed with 'config://', 'file://', or 'registry://'"
        )
    return CredentialSpec(**{scheme: rest})


def log_options(items: list[str]) -> dict[str, str]:
    return to_map(items)
