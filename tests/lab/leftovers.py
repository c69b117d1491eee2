"""What of a lab is still there: links, firewall rules, control groups, mounts, processes, files, the record."""

from pathlib import Path

from . import cgroups, network, registry
from .commands import call


def leftovers(number: int, directory: Path) -> list[str]:
    """A line for each thing that is left of a lab; empty when it was removed completely."""
    bridge = network.Network(number).bridge
    found = [f"link {name}" for name in network.links() if name == bridge or name.startswith(f"{bridge}h")]
    rules = call(["iptables", "-w", "-S"]).stdout + call(["nft", "list", "tables"]).stdout
    found += [f"rule {line}" for line in rules.splitlines() if bridge in line.split()]
    groups = [root / f"essaim-lab-{number}" for root in cgroups.hierarchies()]
    found += [f"control group {path}" for path in groups if path.exists()]
    mounts = Path("/proc/self/mountinfo").read_text().splitlines()
    found += [f"mount {line}" for line in mounts if str(directory) in line]
    found += [f"process {line}" for line in _processes(number, directory)]
    found += [str(path) for path in (directory, registry.RECORDS / f"{number}.json") if path.exists()]
    return found


def _processes(number: int, directory: Path) -> list[str]:
    """Every program of a lab names its folder, its number or its control group on its command line."""
    listed = call(["ps", "-e", "-o", "pid=,stat=,args="]).stdout.splitlines()
    marks = (f"{directory}/", f"essaim-lab-{number}/", f"tests.lab.keeper {number}")
    return [line for line in listed if any(mark in line or line.endswith(mark) for mark in marks)]
