"""A real registry on a lab host's loopback (TLS and a password), and one that never answers."""

import base64
import json
import sys

from .host import Host
from .wait import eventually

REGISTRY = "127.0.0.1:5000"
DEAF = "127.0.0.1:5001"
USER, PASSWORD = "ana", "hunter2"
# bcrypt of the password, as htpasswd writes it.
HTPASSWD = f"{USER}:$2y$05$abcdefghijklmnopqrstuuoXuKqgZXLiJqzfmMXDDhSFPIvxV7t8.\n"
AUTH = base64.urlsafe_b64encode(json.dumps({"username": USER, "password": PASSWORD}).encode()).decode()
CONFIG = """
version: 0.1
storage: {{filesystem: {{rootdirectory: {folder}/data}}}}
http: {{addr: "127.0.0.1:5000", tls: {{certificate: {folder}/cert.pem, key: {folder}/key.pem}}}}
auth: {{htpasswd: {{realm: test, path: {folder}/htpasswd}}}}
"""
DEAF_SERVER = """
import socket
server = socket.create_server(("127.0.0.1", 5001))
kept = []
while True: kept.append(server.accept())
"""


def start_registries(host: Host) -> None:
    folder = host.directory / "registry"
    folder.mkdir(exist_ok=True)
    (folder / "config.yml").write_text(CONFIG.format(folder=folder))
    (folder / "htpasswd").write_text(HTPASSWD)
    files = ["-keyout", str(folder / "key.pem"), "-out", str(folder / "cert.pem")]
    kind = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2", "-subj", "/CN=registry"]
    host.run(["openssl", "req", "-x509", *kind, *files])
    host.popen(["docker-registry", "serve", folder / "config.yml"], name="registry")
    host.popen([sys.executable, "-c", DEAF_SERVER], name="deaf")
    eventually(
        lambda: host.run(["curl", "-sk", f"https://{REGISTRY}/v2/"], check=False).returncode == 0, 30, "registry"
    )


def push(host: Host, name: str, image: str = "box:1") -> str:
    """Push a local image under another name and forget that here; its reference with the digest."""
    reference = f"{REGISTRY}/{name}"
    host.docker("tag", image, reference)
    host.docker("login", "--username", USER, "--password-stdin", REGISTRY, text=PASSWORD)
    host.docker("push", "--quiet", reference)
    digest = json.loads(host.docker("inspect", reference))[0]["RepoDigests"][0]
    host.docker("rmi", reference)
    return str(digest)
