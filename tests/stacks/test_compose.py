"""Debian's docker-compose (1.29) reads, merges and resolves the same files to the same thing.

What it prints is a Compose file again: ours reads it, so that the two are compared in one spelling.
"""

import os
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from essaim.stacks.read.load import Document, Source, load, read_environment
from essaim.stacks.source.tree import plain

pytestmark = pytest.mark.root

FILES = {
    "base.yml": """
version: "3.9"
x-common: &common
  restart: unless-stopped
  logging: {driver: json-file, options: {max-size: 1m}}
services:
  web:
    <<: *common
    image: "example/web:${TAG:-latest}"
    command: serve --port 80 "two words"
    ports: ["8080:80", "9000-9001:90-91"]
    environment: [A=1, "B=${B_VALUE}", C]
    env_file: [one.env]
    volumes: ["./src:/src", "data:/data:ro"]
    depends_on: [db]
    dns: 1.1.1.1
    cap_add: [NET_ADMIN]
    networks: {front: {aliases: [w]}}
    stop_grace_period: 90s
    extra_hosts: ["h:1.2.3.4"]
    deploy: {replicas: 2, resources: {limits: {cpus: "0.5", memory: 64M}}}
  db:
    image: example/db
    healthcheck: {test: check it, interval: 1m30s, retries: 5}
    networks: [front]
    volumes: [data:/var/lib/db]
    secrets: [password]
networks: {front: {driver: overlay}}
volumes: {data: {}}
secrets: {password: {file: ./password.txt}}
""",
    "over.yml": """
version: "3.9"
services:
  web:
    command: [other]
    environment: {B: over, D: new}
    ports: ["8443:443"]
    volumes: ["./other:/src"]
    dns: [8.8.8.8]
    cap_add: [SYS_TIME]
    labels: {x: "${FROM_FILE}"}
    deploy: {replicas: 5, labels: {k: v}}
  cache: {image: "example/cache:${UNSET-none}", networks: [front]}
""",
    "one.env": "A=file\nE=plain text\nF='single $B_VALUE'\nG=\"double\"\n# comment\nH=\n",
    ".env": "FROM_FILE=from .env\nTAG=5\n",
    "password.txt": "p",
}
ENVIRONMENT = {"B_VALUE": "b", "C": "c"}


def both(folder: Path, *names: str) -> tuple[Document, Document]:
    """Ours, and docker-compose's."""
    for name, text in FILES.items():
        (folder / name).write_text(text)
    variables = read_environment(folder, ENVIRONMENT)
    ours = load([Source(name, (folder / name).read_text()) for name in names], variables, folder)
    return ours, docker_compose_config(folder, ENVIRONMENT, *names)


def docker_compose_config(folder: Path, variables: Mapping[str, str], *names: str) -> Document:
    """What docker-compose prints for files in a folder."""
    program = shutil.which("docker-compose") or "docker-compose"
    arguments = [word for name in names for word in ("-f", name)]
    environment = {"PATH": os.environ["PATH"], **variables}
    done = subprocess.run(
        [program, *arguments, "config"], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return load([Source("printed", done.stdout)], {}, folder)


def comparable(document: Document, section: str) -> dict[str, Any]:
    found = {name: plain(node) for name, node in getattr(document, section).items()}
    for own in found.values():
        own.pop("env_file", None)
        own.pop("build", None)  # not carried out here
        own.pop("name", None)  # docker-compose adds the project's name
        if "networks" in own:
            own["networks"] = {name: entry or {} for name, entry in own["networks"].items()}
        for key in ("cap_add", "ports", "volumes", "dns"):
            # The order of a merged list means nothing there.
            if key in own:
                own[key] = sorted(own[key], key=str) if key != "volumes" else _mounts(own[key])
        if "ports" in own:
            own["ports"] = sorted((port["target"], port.get("published"), port["protocol"]) for port in own["ports"])
    return found


def _mounts(entries: list[dict[str, Any]]) -> list[tuple[Any, ...]]:
    return sorted(
        (entry["type"], entry.get("source"), entry["target"].rstrip("/") or "/", bool(entry.get("read_only")))
        for entry in entries
    )


@pytest.mark.parametrize("names", [("base.yml",), ("base.yml", "over.yml")], ids=["one", "merged"])
def test_config_is_what_docker_compose_makes_of_it(names: tuple[str, ...], tmp_path: Path) -> None:
    ours, theirs = both(tmp_path, *names)
    for section in ("services", "networks", "volumes", "secrets"):
        assert comparable(ours, section) == comparable(theirs, section)
