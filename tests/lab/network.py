"""A lab's network: one bridge, one cable (veth pair) per host, and cuts between hosts.

Names carry the lab's number: bridge `elab7`, host 3's cable `elab7h3` (its other end is `eth0` in the host),
subnet 10.77.7.0/24, host 3 is 10.77.7.3, the test itself is 10.77.7.254. Hosts get no default route: nothing
leaves the machine, and name look-ups fail at once instead of hanging.

Cuts are drops between two ports of the bridge, of every protocol, ARP included, in one nftables table. They
outlive a host's crash and reboot, can be one-way, and leave the test's own sight of both sides alone.
(Rejected: drops inside the namespaces, which die with the host; links taken down, which cut the test off too.)
"""

import ipaddress
import json
from collections.abc import Iterable

from .commands import call
from .wait import eventually

TEST_SIDE = 254
NUMBERS = range(256)


def links() -> dict[str, list[str]]:
    """Every network interface of this namespace with its IPv4 networks."""
    described = json.loads(call(["ip", "-json", "-4", "address"]).stdout)
    names = [str(link["ifname"]) for link in json.loads(call(["ip", "-json", "link"]).stdout)]
    networks = {
        str(link["ifname"]): [f"{a['local']}/{a['prefixlen']}" for a in link["addr_info"] if "local" in a]
        for link in described
        if link.get("ifname")
    }
    return {name: networks.get(name, []) for name in names}


def free_numbers() -> list[int]:
    """Numbers whose subnet and bridge name nothing on this machine uses."""
    present = links()
    taken = [ipaddress.ip_interface(net).network for networks in present.values() for net in networks]
    routes = json.loads(call(["ip", "-json", "-4", "route"]).stdout)
    taken += [ipaddress.ip_network(r["dst"]) for r in routes if r["dst"] != "default"]
    return [
        number
        for number in NUMBERS
        if f"elab{number}" not in present
        and not any(ipaddress.ip_network(f"10.77.{number}.0/24").overlaps(other) for other in taken)
    ]


class Network:
    def __init__(self, number: int) -> None:
        self.number = number
        self.bridge = f"elab{number}"

    def address(self, index: int) -> str:
        return f"10.77.{self.number}.{index}"

    def port(self, index: int) -> str:
        """The bridge's end of a host's cable."""
        return f"{self.bridge}h{index}"

    @property
    def hardware_address(self) -> str:
        """The bridge's own. It would else be that of one of the cables, and change when that host is lost: what others
        send to the test would go astray for as long as they remember the old one."""
        return f"02:00:0a:4d:{self.number:02x}:{TEST_SIDE:02x}"

    def create(self) -> None:
        """The bridge, up, with the test's address; what passes between its ports is accepted by any firewall here."""
        options = "forward_delay 0 stp_state 0 mcast_snooping 0"
        lines = [
            f"link add {self.bridge} address {self.hardware_address} type bridge {options}",
            f"address add {self.address(TEST_SIDE)}/24 dev {self.bridge}",
            f"link set {self.bridge} up",
        ]
        _ip(lines)
        call(["iptables", "-w", "-I", *self._accept])

    def attach(self, index: int, pid: int) -> None:
        """Plug a cable from the bridge into the network namespace of process `pid`."""
        self.detach(index)
        port = self.port(index)
        # A machine keeps its hardware address over a reboot; a new one would leave its peers with stale ARP entries.
        hardware = f"02:77:00:{self.number:02x}:00:{index:02x}"
        peer = f"peer name eth0 address {hardware} netns {pid}"
        _ip([f"link add {port} type veth {peer}", f"link set {port} master {self.bridge} up"])
        inside = [f"address add {self.address(index)}/24 dev eth0", "link set eth0 up", "link set lo up"]
        _ip(inside, within=["nsenter", f"--net=/proc/{pid}/ns/net"])

    def unplug(self, index: int) -> None:
        """Silence: neither side hears of the other's end. `plug` undoes it."""
        _ip([f"link set {self.port(index)} down"])

    def plug(self, index: int) -> None:
        _ip([f"link set {self.port(index)} up"])

    def detach(self, index: int) -> None:
        """Remove the cable. A dead namespace takes its end away some time later: here it is done at once."""
        call(["ip", "link", "delete", self.port(index)], check=False)

    def apply_cuts(self, cuts: Iterable[tuple[int, int]]) -> None:
        """Drop everything from the first host to the second of each pair, and nothing else, in one transaction."""
        rules = "".join(
            f'  iifname "{self.port(source)}" oifname "{self.port(target)}" drop\n' for source, target in sorted(cuts)
        )
        chain = f" chain forward {{ type filter hook forward priority 0; policy accept;\n{rules} }}\n"
        table = f"table bridge {self.bridge}"
        call(["nft", "-f", "-"], text=f"{table}\ndelete {table}\n{table} {{\n{chain}}}\n")

    def remove(self) -> None:
        """Take away everything of this network; what is not there is no error."""

        def gone() -> bool:
            mine = [name for name in links() if name == self.bridge or name.startswith(f"{self.bridge}h")]
            for name in mine:
                # The kernel may take a dead host's cable away between the two looks.
                call(["ip", "link", "delete", name], check=False)
            return not mine

        eventually(gone, 10, f"removing the links of {self.bridge}")
        if f"table bridge {self.bridge}\n" in call(["nft", "list", "tables"]).stdout:
            call(["nft", "delete", "table", "bridge", self.bridge])
        if call(["iptables", "-w", "-C", *self._accept], check=False).returncode == 0:
            call(["iptables", "-w", "-D", *self._accept])

    @property
    def _accept(self) -> list[str]:
        # An Engine in this namespace sets the policy DROP, and bridged packets pass here too (br_netfilter).
        return ["FORWARD", "-i", self.bridge, "-o", self.bridge, "-j", "ACCEPT"]


def _ip(lines: list[str], within: list[str] | None = None) -> None:
    """Several `ip` commands in one process."""
    if lines:
        call([*(within or []), "ip", "-batch", "-"], text="".join(f"{line}\n" for line in lines))
