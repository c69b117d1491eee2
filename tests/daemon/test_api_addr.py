"""`--api-addr`: the daemon's second door, over TLS for a Docker context, and closed to everybody else."""

import subprocess
from pathlib import Path

import pytest

from tests.api import docker_cli
from tests.api.certificates import Certificates
from tests.daemon.processes import Daemon
from tests.ports import free_port

pytestmark = [pytest.mark.root, pytest.mark.blocking_allowed, pytest.mark.timeout(120)]


async def test_docker_context_and_essaim_command_see_the_same_cluster(tmp_path: Path) -> None:
    certificates, port = Certificates(tmp_path), free_port("127.0.0.1")
    tls = ("--tlscacert", certificates.ca, "--tlscert", certificates.server, "--tlskey", certificates.server_key)
    flags = ("--runtime", "process", "--api-addr", f"127.0.0.1:{port}", *map(str, tls))
    daemon, config = Daemon(tmp_path, flags=flags), tmp_path / "cli"
    await daemon.start()
    try:
        where = f"host=tcp://127.0.0.1:{port},ca={certificates.ca}"
        where += f",cert={certificates.client},key={certificates.client_key}"
        await docker_cli.docker(daemon.host, config, "context", "create", "far", "--docker", where)

        async def docker(*words: str, code: int = 0) -> str:
            return await docker_cli.docker("", config, *words, context="far", code=code)

        await docker("swarm", "init")
        await docker("config", "create", "made-by-docker", str(certificates.ca))
        assert "made-by-docker" in daemon.essaim("config", "ls").stdout
        assert daemon.essaim("config", "create", "made-by-essaim", str(certificates.ca)).returncode == 0
        assert "made-by-essaim" in await docker("config", "ls")
        for url, extra in ((f"http://127.0.0.1:{port}", []), (f"https://127.0.0.1:{port}", ["--insecure"])):
            refused = subprocess.run(
                ["curl", "--silent", "--fail", "--max-time", "20", *extra, f"{url}/_ping"],
                capture_output=True,
                check=False,
            )
            assert (refused.returncode != 0, refused.stdout) == (True, b""), url
    finally:
        daemon.end()


@pytest.mark.parametrize("address", ["0.0.0.0", "192.0.2.1"])
def test_plain_tcp_beyond_loopback_is_refused_at_the_start(tmp_path: Path, address: str) -> None:
    said = Daemon(tmp_path, flags=("--runtime", "process", "--api-addr", f"{address}:2376")).refuse()
    assert f"plain TCP is for loopback only, not {address}: use TLS" in said
