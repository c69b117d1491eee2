"""The real Docker client on a corpus of shapes that public stack files have: what it sends, and prints, is ours too.

`docker stack deploy` talks to an Engine that only records. What compose.md names as different is listed here.
"""

import http.server
import json
import os
import re
import shutil
import socketserver
import subprocess
import threading
import urllib.parse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml

from essaim.stacks.convert.convert import Stack, convert, resolve
from essaim.stacks.read.load import Document, Source, load
from essaim.stacks.render import render

pytestmark = pytest.mark.root

CORPUS = Path(__file__).parent / "corpus"
FILES = sorted(CORPUS.glob("*.yml"), key=lambda path: path.name)
VARIABLES = {"B": "b", "A": "a", "PASSED_ON": "yes", "HOME": "/root"}
DOCKER = shutil.which("docker") or "docker"
EXPECTED = {
    # Docker ignores `network_mode`.
    ("four", "TaskTemplate.ContainerSpec.EngineOptions"),
    ("four", "TaskTemplate.Networks"),
    # Removal in reverse order goes by this label.
    ("web", "Labels.com.essaim.stack.depends_on"),
}


class Recorder(http.server.BaseHTTPRequestHandler):
    """An Engine that is a manager, has nothing yet, and writes down what is created."""

    protocol_version = "HTTP/1.1"
    server: "Engine"

    def log_message(self, *arguments: object) -> None: ...

    def address_string(self) -> str:
        return "client"

    def answer(self, status: int, body: object) -> None:
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Api-Version", "1.41")
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def do_HEAD(self) -> None:
        self.answer(200, "OK")

    def do_GET(self) -> None:
        path, _, query = self.path.partition("?")
        last = path.rsplit("/", 1)[-1]
        filters = json.loads(urllib.parse.parse_qs(query).get("filters", ["{}"])[0])
        if last == "info":
            self.answer(200, {"Swarm": {"NodeID": "n", "LocalNodeState": "active", "ControlAvailable": True}})
        elif last in ("secrets", "configs"):
            self.answer(200, [{"ID": f"id-{name}", "Spec": {"Name": name}} for name in filters.get("name", ())])
        elif re.search(r"/networks/[^/]+$", path):
            self.answer(200, {"Name": last, "Scope": "swarm", "Id": last})
        elif last in ("networks", "services", "_ping"):
            self.answer(200, [])
        else:
            self.answer(404, {"message": "not found"})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        body.pop("CheckDuplicate", None)  # older versions of the API
        self.server.created[body["Name"]] = body
        self.answer(201, {"ID": f"id-{body['Name']}", "Id": body["Name"]})


class Engine(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    daemon_threads = True

    def __init__(self, path: str) -> None:
        super().__init__(path, Recorder)
        self.created: dict[str, Any] = {}


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    server = Engine(str(tmp_path / "engine.sock"))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def docker(*arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {"PATH": os.environ["PATH"], **VARIABLES}
    return subprocess.run(
        [DOCKER, *arguments], capture_output=True, text=True, cwd=CORPUS, env=environment, check=False
    )


def document(path: Path) -> Document:
    return load([Source(path.name, path.read_text())], VARIABLES, CORPUS)


def ours(path: Path) -> Stack:
    stack = convert(document(path), "ns")
    names = {spec.name or "" for spec in [*stack.secrets, *stack.configs]}
    names |= {*stack.external_secrets, *stack.external_configs}
    ids = {name: f"id-{name}" for name in names}
    return resolve(stack, ids, ids)


DEFAULTS = {("Protocol", "tcp"), ("PublishMode", "ingress"), ("protocol", "tcp"), ("mode", "ingress")}


def cleaned(value: Any) -> Any:
    """Without what is empty (Go's client writes out what it leaves unset), and without the defaults of a port, which
    Docker fills in for the short form only."""
    if isinstance(value, dict):
        found = {key: cleaned(child) for key, child in value.items()}
        kept = {key: child for key, child in found.items() if child not in (None, {}, [], "", False)}
        return {
            key: child for key, child in kept.items() if isinstance(child, dict | list) or (key, child) not in DEFAULTS
        }
    return [cleaned(child) for child in value] if isinstance(value, list) else value


def differences(one: Any, other: Any, path: str = "") -> list[str]:
    if isinstance(one, dict) and isinstance(other, dict):
        return [
            text
            for key in sorted({*one, *other})
            for text in differences(one.get(key), other.get(key), f"{path}.{key}" if path else key)
        ]
    return [] if one == other else [path]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_stack_deploy_sends_what_docker_sends(path: Path, engine: Engine) -> None:
    host = f"unix://{engine.server_address}"
    done = docker("-H", host, "stack", "deploy", "--resolve-image", "never", "-c", path.name, "ns")
    assert done.returncode == 0, done.stderr
    stack = ours(path)
    mine = {spec.name: msgspec.to_builtins(spec) for spec in [*stack.networks, *stack.secrets, *stack.configs]}
    mine |= {spec.name: msgspec.to_builtins(spec) for spec in stack.services}
    assert set(mine) == set(engine.created)
    found = {
        (name.removeprefix("ns_"), where)
        for name, spec in mine.items()
        for where in differences(cleaned(spec), cleaned(engine.created[name]))
    }
    assert found <= EXPECTED


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_stack_config_prints_what_docker_prints(path: Path) -> None:
    done = docker("stack", "config", "-c", path.name)
    if done.returncode == 125:
        pytest.skip("this Docker client is older than `docker stack config`")
    assert done.returncode == 0, done.stderr
    theirs = cleaned(yaml.safe_load(done.stdout))
    mine = cleaned(yaml.safe_load(render(document(path)).replace("$$", "$")))
    theirs.pop("version")
    for service in mine["services"].values():
        if "depends_on" in service:
            service["depends_on"] = list(service["depends_on"])
    assert differences(mine, theirs) == []
