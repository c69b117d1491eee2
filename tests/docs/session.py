"""Runs a page's commands on a cluster of real daemons with the process runtime, as a reader would type them.

What stands for the reader's own machines is replaced: addresses 10.0.0.N by loopback ones, ports by free ones, tokens
by the cluster's, sockets and files of an installation by the test's, and images by the one that runs without Docker.
`essaim service create` and the like do not wait until a service has been stable for 5 s (`--detach`), and `curl` asks
again until it is answered, for 20 s. Nothing else is changed.
"""

import os
import re
import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path

from tests.daemon.processes import BIN, UP, Daemon
from tests.lab.wait import eventually_async
from tests.ports import free_port

from .blocks import Block

ROOT = Path(__file__).resolve().parents[2]
ADDRESSES = ("127.0.0.1", "127.0.0.2", "127.0.0.3")
HOST = re.compile(r"^# on (?:the (?P<which>first|second|third) host)\b.*$")
RESTART = "sudo systemctl restart essaimd"
ORDER = {"first": 0, "second": 1, "third": 2}
TOKEN = re.compile(r"SWMTKN-1-\.\.\.")
PORTS = (80, 443, 2376, 4000, 4080, 8080, 8081, 8082, 8404, 9323)
"""Ports that the pages publish or listen on."""
IMAGES = re.compile(r"\b(nginx|redis|shop):[a-z0-9.-]+(?=\s|$)")
OUTSIDE = re.compile(r"(?<![\w.])/(etc|var|usr|opt|root|boot|home)/\S*")
"""Files of this machine itself."""
COMMAND_LIMIT = 60.0
WRAPPERS = {
    "sudo": 'exec "$@"',
    "essaim": """
case "$1 $2" in
    "service create"|"service update"|"service scale"|"service rollback"|"service rebalance")
        group=$1 verb=$2; shift 2; set -- "$group" "$verb" --detach "$@" ;;
esac
exec {bin}/essaim "$@"
""",
    "curl": """
for _ in $(seq 100); do
    {curl} --max-time 5 --fail-with-body "$@" && exit 0
    code=$?
    read -rt 0.2 <> <(:) || :
done
exit $code
""",
}


class Session:
    """The hosts that a page speaks of, and a folder that its commands are run in."""

    def __init__(self, folder: Path, hosts: int) -> None:
        self.folder = folder / "work"
        self.folder.mkdir()
        self.ports = {port: free_port(*ADDRESSES) for port in PORTS}
        self.daemons = [Daemon(folder, number, self._flags(number)) for number in range(1, hosts + 1)]
        self.printed = ""
        self._bin = folder / "bin"
        self._bin.mkdir()
        for name, text in WRAPPERS.items():
            self._wrapper(name, text)
        for name in ("web.yml", "shop.yml"):
            (self.folder / "examples").mkdir(exist_ok=True)
            shutil.copy(ROOT / "examples" / name, self.folder / "examples" / name)
        self.options = [folder / f"options{number}" for number in range(1, hosts + 1)]

    def _flags(self, number: int) -> tuple[str, ...]:
        entry_points = ("--entrypoint", f"web={self.ports[80]}", "--entrypoint", f"websecure={self.ports[443]}")
        return ("--runtime", "process", *entry_points)

    def _wrapper(self, name: str, text: str) -> None:
        path = self._bin / name
        path.write_text("#!/bin/bash\n" + text.replace("{bin}", str(BIN)).replace("{curl}", shutil.which("curl") or ""))
        path.chmod(0o755)

    async def start(self) -> None:
        for daemon in self.daemons:
            await daemon.start()

    async def stop(self) -> None:
        for daemon in reversed(self.daemons):
            await daemon.remove()

    def replaced(self, text: str, host: int = 0) -> str:
        """The text with this test's addresses, ports, token, paths and images in it."""
        for number, daemon in enumerate(self.daemons, 1):
            text = text.replace(f"10.0.0.{number}:2377", daemon.cluster_address).replace(
                f"10.0.0.{number}", daemon.address
            )
        for port, free in self.ports.items():
            text = re.sub(rf"(?<=[:=\s\"']){port}(?=[:/,\s\"'?#]|->|$)", str(free), text)
        if TOKEN.search(text):
            text = TOKEN.sub(self.token("manager" if "manager" in text else "worker"), text)
        text = text.replace("/run/essaim/essaim.sock", str(self.daemons[host].socket))
        text = text.replace("/etc/default/essaimd", str(self.options[host])).replace(
            "/etc/essaim", f"{self.folder}/etc"
        )
        text = re.sub(r"/etc/(haproxy|nginx|traefik)/", f"{self.folder}/", text)
        outside = OUTSIDE.search(text.replace(str(self.folder.parent), ""))
        assert outside is None, f"a test must not touch {outside}: {text}"
        return IMAGES.sub("essaim/whoami", text)

    def token(self, role: str) -> str:
        return self.daemons[0].essaim("swarm", "join-token", "-q", role).stdout.strip()

    async def run(self, block: Block) -> None:
        """Raises AssertionError with what a command said."""
        for host, part in parts(block.text):
            if part.strip() == RESTART:
                await self.restart(host)
            else:
                self.run_part(block, host, part)

    def write(self, block: Block) -> None:
        path = self.folder / block.file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(self.replaced(block.text))

    async def restart(self, host: int) -> None:
        """With the flags that the page has put into the daemon's options."""
        daemon = self.daemons[host]
        daemon.kill(15)
        found = re.findall(r'^ESSAIMD_OPTIONS="(.*)"', self.options[host].read_text(), re.MULTILINE)
        daemon.flags = (*self._flags(host + 1), *found[-1].split())
        await daemon.start()
        await eventually_async(
            lambda: self._is_ready(daemon), UP, f"{daemon.name} is back; it said:\n{daemon.log.read_text()[-2000:]}"
        )

    async def _is_ready(self, daemon: Daemon) -> bool:
        listed = daemon.essaim("node", "ls")
        return listed.returncode == 0 and "Leader" in listed.stdout

    def run_part(self, block: Block, host: int, part: str) -> None:
        environment = {
            "PATH": f"{self._bin}:{BIN}:{os.environ['PATH']}", "HOME": str(self.folder), "LANG": "C.UTF-8",
            "ESSAIM_HOST": self.daemons[host].host, "DEMO_PORT": str(self.ports[4000]),
            "DOCKER_CONFIG": str(self.folder / "docker"), "fpath": str(self.folder),
        }  # fmt: skip
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", self.replaced(part, host)], cwd=self.folder, env=environment,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            timeout=COMMAND_LIMIT, check=False,
        )  # fmt: skip
        self.printed += done.stdout
        assert done.returncode == 0, f"{block.page}:{block.line}: exit code {done.returncode} of\n{part}\n{done.stdout}"


def parts(text: str) -> Iterable[tuple[int, str]]:
    """(host, commands) in order; a restart of the daemon is a part of its own."""
    host, lines = 0, list[str]()
    for line in text.splitlines():
        turn = HOST.match(line)
        if turn or line.strip() == RESTART:
            if any(one.strip() for one in lines):
                yield host, "\n".join(lines)
            lines = []
        if turn:
            host = ORDER[turn["which"]]
        elif line.strip() == RESTART:
            yield host, line
        else:
            lines.append(line)
    if any(one.strip() for one in lines):
        yield host, "\n".join(lines)
