"""A real ACME server: Debian's pebble, with its DNS, on loopback ports of its own."""

import contextlib
import json
import os
import random
import signal
import ssl
import subprocess
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import trustme

from tests.lab.wait import eventually
from tests.ports import free_port

CHANCE = random.SystemRandom()
UP = 20.0


@dataclass(slots=True)
class Pebble:
    """`http_port` and `tls_port` are where it looks for answers to challenges; `ca_file` vouches for its own API."""

    folder: Path
    api_port: int
    management_port: int
    dns_management_port: int
    http_port: int
    tls_port: int

    @property
    def directory(self) -> str:
        return f"https://127.0.0.1:{self.api_port}/dir"

    @property
    def ca_file(self) -> Path:
        return self.folder / "ca.pem"

    def resolve(self, host: str, *addresses: str) -> None:
        """Names that are not told resolve to 127.0.0.1."""
        self._dns("clear-a", {"host": host})
        self._dns("add-a", {"host": host, "addresses": list(addresses)})

    def _dns(self, action: str, body: dict[str, Any]) -> None:
        url = f"http://127.0.0.1:{self.dns_management_port}/{action}"
        with urllib.request.urlopen(url, json.dumps(body).encode(), timeout=5):
            pass

    def root(self) -> str:
        """The root of what it issues, PEM."""
        url = f"https://127.0.0.1:{self.management_port}/roots/0"
        with urllib.request.urlopen(url, timeout=5, context=self._trust()) as answer:
            text: str = answer.read().decode()
            return text

    def answers(self) -> bool:
        with contextlib.suppress(OSError), urllib.request.urlopen(self.directory, timeout=5, context=self._trust()):
            return True
        return False

    def _trust(self) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=str(self.ca_file))


@contextlib.contextmanager
def pebble(folder: Path, *, http_port: int, tls_port: int, **settings: Any) -> Iterator[Pebble]:
    """`settings` go into its configuration."""
    folder.mkdir(parents=True, exist_ok=True)
    dns = free_port()
    made = Pebble(folder, free_port(), free_port(), free_port(), http_port, tls_port)
    authority = trustme.CA()
    own = authority.issue_cert("127.0.0.1")
    authority.cert_pem.write_to_path(made.ca_file)
    own.cert_chain_pems[0].write_to_path(folder / "cert.pem")
    own.private_key_pem.write_to_path(folder / "key.pem")
    configuration = {
        "listenAddress": f"127.0.0.1:{made.api_port}",
        "managementListenAddress": f"127.0.0.1:{made.management_port}",
        "certificate": str(folder / "cert.pem"),
        "privateKey": str(folder / "key.pem"),
        "httpPort": http_port,
        "tlsPort": tls_port,
        "ocspResponderURL": "",
        **settings,
    }
    (folder / "pebble.json").write_text(json.dumps({"pebble": configuration}))
    # The library repeats a request once after a bad nonce; pebble refuses good ones by chance, also twice.
    quick = {"PEBBLE_VA_NOSLEEP": "1", "PEBBLE_WFE_NONCEREJECT": "0", "PEBBLE_AUTHZREUSE": "0"}
    names = [
        "pebble-challtestsrv",
        "-dns01",
        f"127.0.0.1:{dns}",
        "-management",
        f"127.0.0.1:{made.dns_management_port}",
    ]
    names += ["-http01", "", "-https01", "", "-tlsalpn01", "", "-defaultIPv4", "127.0.0.1", "-defaultIPv6", ""]
    server = ["pebble", "-config", str(folder / "pebble.json"), "-dnsserver", f"127.0.0.1:{dns}"]
    running: list[subprocess.Popen[bytes]] = []
    try:
        for command in (names, server):
            with (folder / f"{command[0]}.log").open("ab") as log:
                environment = {**os.environ, **quick}
                running.append(
                    subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment)
                )
        eventually(made.answers, UP, "pebble answers")
        yield made
    finally:
        for process in running:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process.pid, signal.SIGKILL)
            process.wait(30)
