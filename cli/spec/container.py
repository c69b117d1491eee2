"""The container of a service: what runs in it, as whom, with which surroundings.

Pure: a ContainerSpec and flags to a ContainerSpec. What does not fit raises ValueError.
"""

import shlex
from collections.abc import Callable
from typing import Any

from msgspec.structs import replace

from essaim.cli.flags import Flags
from essaim.cli.values.images import with_tag
from essaim.cli.values.pairs import host_entry
from essaim.cli.values.references import capabilities, capability
from essaim.cluster.container import ContainerSpec, CredentialSpec, DNSConfig, Privileges, Ulimit

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
SWITCHES = {"read-only": "read_only", "tty": "tty"}
NUMBERS = {"stop-grace-period": "stop_grace_period", "oom-score-adj": "oom_score_adj"}
COMMANDS = {"entrypoint": "command", "args": "args"}
DNS = {"dns": "nameservers", "dns-option": "options", "dns-search": "search"}


def words(line: str) -> list[str]:
    """A command line split as a shell would."""
    try:
        return shlex.split(line)
    except ValueError as error:
        raise ValueError(f"cannot split {line!r}: {error}") from None


def change_container(container: ContainerSpec, flags: Flags) -> ContainerSpec:
    """Plain fields, environment, labels, groups, hosts, DNS, sysctls, ulimits and capabilities."""
    changes = plain_changes(flags)
    for flag, (attribute, change) in LISTS.items():
        if touched(flags, flag):
            changes[attribute] = change(getattr(container, attribute), added(flags, flag), removed(flags, flag))
    if any(touched(flags, flag) for flag in DNS):
        changes["dns_config"] = dns(container.dns_config or DNSConfig(), flags)
    if flags.given("cap-add", "cap-drop"):
        changes |= capability_changes(container, flags)
    if flags.given("credential-spec"):
        privileges = container.privileges or Privileges(no_new_privileges=False)
        found = CredentialSpec(**dict([flags.items("credential-spec")[-1]]))
        changes["privileges"] = replace(privileges, credential_spec=found)
    return replace(container, **changes)


def plain_changes(flags: Flags) -> dict[str, Any]:
    """Fields that one flag sets."""
    changes: dict[str, Any] = {}
    for flag, attribute in TEXTS.items():
        if flag in flags.flags and flags.given(flag):
            changes[attribute] = flags.text(flag)
    if "image" in changes:
        changes["image"] = with_tag(changes["image"])
    changes |= {attribute: flags.on(flag) or None for flag, attribute in SWITCHES.items() if flags.given(flag)}
    if flags.given("init"):  # false differs from absent: the daemon's default may be an init
        changes["init"] = flags.on("init")
    changes |= {attribute: flags.number(flag) for flag, attribute in NUMBERS.items() if flags.given(flag)}
    for flag, attribute in COMMANDS.items():
        if flag in flags.flags and flags.given(flag):
            changes[attribute] = words(flags.text(flag))
    return changes


def environment(current: list[str] | None, add: list[str], remove: set[str]) -> list[str] | None:
    return keyed(current, add, remove, env_key)


def sysctls(current: dict[str, str] | None, add: list[str], remove: set[str]) -> dict[str, str] | None:
    return mapped(current, add, remove) or None


def ulimits(current: list[Ulimit] | None, add: list[Ulimit], remove: set[str]) -> list[Ulimit] | None:
    found = keyed(current, add, remove, lambda limit: limit.name)
    return sorted(found, key=lambda limit: limit.name) if found else None


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
    result = capabilities((old_add | add) - neutral - (drop - add), (old_drop | drop) - neutral - add)
    return {"capability_add": result[0] or None, "capability_drop": result[1] or None}


# flag -> (attribute, how additions and removals change it)
LISTS: dict[str, tuple[str, Callable[[Any, list[Any], set[str]], Any]]] = {
    "env": ("env", environment),
    "container-label": ("labels", mapped),
    "group": ("groups", plain),
    "host": ("hosts", hosts),
    "sysctl": ("sysctls", sysctls),
    "ulimit": ("ulimits", ulimits),
}
