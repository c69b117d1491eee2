"""What essaim's installation on a host consists of: files, links and a systemd unit, as operations that print and run.

An installation lives in one Python environment (`/opt/essaim/...` by `./install`, or pipx's or uv's own); everything
outside of it is listed here, so that `--uninstall` leaves nothing.

Pure: a host's facts in, operations out.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

UNIT = Path("/etc/systemd/system/essaimd.service")
OPTIONS = Path("/etc/default/essaimd")
COMMANDS = ("essaim", "essaimd")
COMPLETIONS = {
    "bash": Path("/usr/local/share/bash-completion/completions/essaim"),
    "zsh": Path("/usr/local/share/zsh/site-functions/_essaim"),
    "fish": Path("/usr/local/share/fish/vendor_completions.d/essaim.fish"),
}
STATE = (Path("/var/lib/essaim"), Path("/run/essaim"))
LINKS = Path("/usr/local/bin")

OPTIONS_TEXT = """# Flags of essaimd on this host (see `essaimd --help`). After a change: systemctl restart essaimd
ESSAIMD_OPTIONS=""
"""

UNIT_TEXT = """[Unit]
Description=essaim: containers on many hosts, behind a load balancer on each of them
After=network-online.target docker.service containerd.service
Wants=network-online.target

[Service]
EnvironmentFile=-{options}
ExecStart={essaimd} $ESSAIMD_OPTIONS
Restart=always
RestartSec=2
# Tasks and gateway workers outlive a restart of the daemon, which finds them again.
KillMode=process
StateDirectory=essaim
StateDirectoryMode=0700
RuntimeDirectory=essaim
# Containers may hold the file of the socket below it (--serve-docker-socket).
RuntimeDirectoryPreserve=yes
UMask=0077
LimitNOFILE=1048576
TasksMax=infinity
Delegate=yes
OOMScoreAdjust=-500
# The daemon drives the Engine, makes links and namespaces, and with the process runtime its tasks run in this sandbox
# too: what is closed here is closed to them.
SystemCallArchitectures=native
LockPersonality=yes
ProtectClock=yes
ProtectKernelLogs=yes
ProtectHostname=yes
RestrictRealtime=yes

[Install]
WantedBy=multi-user.target
"""


@dataclass(frozen=True, slots=True)
class Write:
    """A file with this content; one that a person may have changed is kept."""

    path: Path
    text: str
    keep: bool = False

    def __str__(self) -> str:
        return f"write {self.path}"


@dataclass(frozen=True, slots=True)
class Link:
    """A symbolic link at `path`."""

    path: Path
    target: Path

    def __str__(self) -> str:
        return f"link {self.path} to {self.target}"


@dataclass(frozen=True, slots=True)
class Run:
    """A command; `must` is whether its failure ends the installation."""

    argv: Sequence[str]
    must: bool = True

    def __str__(self) -> str:
        return f"run {' '.join(self.argv)}"


@dataclass(frozen=True, slots=True)
class Remove:
    """A file, a link or a whole folder, if it is there."""

    path: Path

    def __str__(self) -> str:
        return f"remove {self.path}"


Operation = Write | Link | Run | Remove


@dataclass(frozen=True, slots=True)
class Host:
    """Facts: `scripts` is where the environment has its commands; `has_systemd`, whether systemd runs this host;
    `is_installed`, whether a unit of essaim is there; `links`, what the links in /usr/local/bin point at now;
    `completions`, the scripts by shell."""

    scripts: Path
    has_systemd: bool
    is_installed: bool = False
    links: Mapping[str, Path] = field(default_factory=dict)
    completions: Mapping[str, str] = field(default_factory=dict)


class InTheWay(Exception):
    """Something that is not essaim's stands where its command is to be; the message says what to do."""


def installing(host: Host) -> list[Operation]:
    """Also what brings an installation to this version. Raises InTheWay."""
    found: list[Operation] = []
    for name in COMMANDS:
        target, now = host.scripts / name, host.links.get(name)
        if now is not None and now != target and "essaim" not in now.parts[:-1]:
            raise InTheWay(f"{LINKS / name} is there already and leads to {now}: remove it, then install again")
        if now != target and host.scripts != LINKS:
            found.append(Link(LINKS / name, target))
    found += [Write(COMPLETIONS[shell], text) for shell, text in host.completions.items()]
    found.append(Write(OPTIONS, OPTIONS_TEXT, keep=True))
    found.append(Write(UNIT, UNIT_TEXT.format(options=OPTIONS, essaimd=host.scripts / "essaimd")))
    if host.has_systemd:
        start = "restart" if host.is_installed else "start"
        found += [Run(["systemctl", "daemon-reload"]), Run(["systemctl", "enable", "--quiet", "essaimd"])]
        found.append(Run(["systemctl", start, "essaimd"]))
    return found


def uninstalling(host: Host, environments: Iterable[Path]) -> list[Operation]:
    """Everything that `installing` made, the node's state, and the environments that `./install` made."""
    found: list[Operation] = []
    if host.has_systemd:
        found.append(Run(["systemctl", "disable", "--now", "--quiet", "essaimd"], must=False))
    ours = [LINKS / name for name, target in host.links.items() if target == host.scripts / name]
    found += [Remove(path) for path in (UNIT, OPTIONS, *COMPLETIONS.values(), *ours, *STATE)]
    if host.has_systemd:
        found.append(Run(["systemctl", "daemon-reload"]))
    return found + [Remove(path) for path in environments]
