"""The demo: a cluster of three nodes on 127.0.0.1, .2 and .3, driven with the same commands that a user types.

State is in a temporary folder. Whatever happens, the stack, the nodes and the folder are gone afterwards.
"""

import argparse
import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

HERE = Path(__file__).resolve().parent
BIN = Path(sys.executable).parent
NODES = 3
REPLICAS = 5
PORT = 4000
"""Where the stack is published, if nothing else is asked for by `--port`."""
STACK = "demo"
START_TIMEOUT = 30.0
DEPLOY_TIMEOUT = 180.0
LOOK_EVERY = 3.0
"""Seconds between looks whether a task was rejected while the stack comes up."""
REQUESTS = 40
"""Requests to each node in the check: enough that five replicas in turn are all seen, whichever worker answers."""


class Failed(Exception):
    """What went wrong, for the person at the terminal."""


def say(text: str) -> None:
    print(text, flush=True)


class Node:
    """One essaimd with its own address, state and socket."""

    def __init__(self, number: int, folder: Path, cluster_port: int, options: list[str]) -> None:
        self.name = f"node{number}"
        self.address = f"127.0.0.{number}"
        self.cluster_address = f"{self.address}:{cluster_port}"
        self.log = folder / f"{self.name}.log"
        self.host = f"unix://{folder / self.name}.sock"
        self._command = [
            str(BIN / "essaimd"), "--state-dir", str(folder / self.name), "--socket", f"{folder / self.name}.sock",
            "--listen-addr", self.cluster_address, "--advertise-addr", self.cluster_address,
            "--mesh-addr", self.address, "--hostname", self.name, "--gateway-workers", "1", *options,
        ]  # fmt: skip
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(
                self._command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )

    def wait_until_up(self, deadline: float) -> None:
        path = self.host.removeprefix("unix://")
        while time.monotonic() < deadline:
            self.check_alive()
            with socket.socket(socket.AF_UNIX) as probe, contextlib.suppress(OSError):
                probe.connect(path)
                return
            time.sleep(0.02)
        raise Failed(f"{self.name} did not come up in {START_TIMEOUT:.0f} s:\n{self.last_words()}")

    def check_alive(self) -> None:
        if self._process is not None and self._process.poll() is not None:
            raise Failed(f"{self.name} ended:\n{self.last_words()}")

    def last_words(self) -> str:
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-15:])

    def essaim(self, *arguments: str, timeout: float = 180) -> str:
        """Run the command against this node. Raises Failed with what it said.

        It has a session of its own: Ctrl-C ends what the demo does, and never the command that takes a node down.
        """
        command = [str(BIN / "essaim"), "--host", self.host, *arguments]
        try:
            done = subprocess.run(
                command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=timeout, check=False,
                start_new_session=True,
            )  # fmt: skip
        except subprocess.TimeoutExpired as error:
            raise Failed(f"`essaim {' '.join(arguments)}` took longer than {timeout:.0f} s") from error
        if done.returncode != 0:
            raise Failed(f"`essaim {' '.join(arguments)}` failed: {(done.stderr or '').strip()}")
        return (done.stdout or "").strip()

    def stop(self) -> None:
        process = self._process
        if process is None:
            return
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(15)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        self._process = None


def free_port(preferred: int) -> int:
    """The preferred port, or another one when it is taken on any of the demo's addresses."""
    for number in range(1, NODES + 1):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((f"127.0.0.{number}", preferred))
            except OSError:
                with socket.socket() as other:
                    other.bind(("127.0.0.1", 0))
                    port: int = other.getsockname()[1]
                    return port
    return preferred


def check_commands() -> None:
    """An environment that was made half has no commands."""
    for name in ("essaimd", "essaim"):
        if not os.access(BIN / name, os.X_OK):
            raise Failed(
                f"{BIN / name} is missing. Remove the folder {BIN.parent} and run ./demo again, which makes it"
            )


def check_published_port(port: int) -> None:
    for number in range(1, NODES + 1):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((f"127.0.0.{number}", port))
            except OSError as error:
                other = port + 1 if port < 65535 else port - 1
                raise Failed(
                    f"port {port} on 127.0.0.{number} is taken or not allowed ({error.strerror or error}); a demo may "
                    f"be running already. Take another port: ./demo --port {other}"
                ) from None


@contextlib.contextmanager
def cluster(options: list[str]) -> Iterator[list[Node]]:
    """Three nodes that have found each other."""
    folder = Path(tempfile.mkdtemp(prefix="essaim-demo-"))
    nodes = [Node(n, folder, free_port(2377), options) for n in range(1, NODES + 1)]
    try:
        deadline = time.monotonic() + START_TIMEOUT
        for node in nodes:
            node.start()
        for node in nodes:
            node.wait_until_up(deadline)
        first = nodes[0]
        first.essaim("swarm", "init", "--advertise-addr", first.cluster_address)
        token = first.essaim("swarm", "join-token", "-q", JOIN_AS)
        for node in nodes[1:]:
            node.essaim("swarm", "join", "--token", token, first.cluster_address)
        yield nodes
    except Failed as failure:
        for node in nodes:
            if node.log.exists():
                say(f"--- {node.name}\n{node.last_words()}")
        raise failure
    finally:
        try:
            take_down(nodes)
        finally:
            shutil.rmtree(folder, ignore_errors=True)


JOIN_AS = "manager"


def leave(node: Node) -> None:
    """The node ends its tasks. A signal that comes just as the command starts, before it has a session of its own,
    still ends it: so it is tried again."""
    for attempt in range(4):
        try:
            node.essaim("swarm", "leave", "--force", timeout=60)
        except Failed as failure:
            if "not part of a swarm" in str(failure):
                return
            if attempt == 3:
                say(f"{node.name}: {failure}")
        else:
            return


def take_down(nodes: list[Node]) -> None:
    """Every node ends its own tasks when it leaves, so that none outlives its daemon.

    Whoever asks again meanwhile is told to wait: half a clean-up would leave daemons and replicas behind.
    """
    on_signals(already_going)
    say("\nTaking down ...")
    for node in reversed(nodes):
        leave(node)
    for node in nodes:
        node.stop()


def deploy(first: Node, port: int) -> None:
    setting = "" if port == PORT else f"DEMO_PORT={port} "
    say(f"\n$ {setting}essaim stack deploy -c examples/web.yml {STACK}")
    command = [str(BIN / "essaim"), "--host", first.host, "stack", "deploy", "--detach=false", "-c"]
    environment = {**os.environ, "DEMO_PORT": str(port)}
    with subprocess.Popen(
        [*command, str(HERE / "web.yml"), STACK], stdin=subprocess.DEVNULL, env=environment, start_new_session=True
    ) as deploying:
        try:
            watch(first, deploying)
        finally:
            deploying.terminate()
    if deploying.returncode:
        raise Failed("the stack could not be deployed")


def watch(first: Node, deploying: "subprocess.Popen[bytes]") -> None:
    """Until the stack is up. Raises Failed at once for what will never come up."""
    end, look_at = time.monotonic() + DEPLOY_TIMEOUT, time.monotonic() + LOOK_EVERY
    while deploying.poll() is None:
        if time.monotonic() > end:
            raise Failed(f"the stack was not up in {DEPLOY_TIMEOUT:.0f} s")
        if time.monotonic() > look_at:
            look_at = time.monotonic() + LOOK_EVERY
            complain_of_rejected(first)
        time.sleep(0.05)


def complain_of_rejected(first: Node) -> None:
    """A task that a node cannot run would be tried again and again. Raises Failed with the reason."""
    tasks = first.essaim("stack", "ps", STACK, "--no-trunc", "--format", "{{.CurrentState}}\t{{.Error}}")
    for line in tasks.splitlines():
        state, _, error = line.partition("\t")
        if state.startswith("Rejected"):
            raise Failed(f"a node cannot run a replica: {error}")


def fetch(address: str, port: int) -> str:
    """The name of the task that answered, over a connection of its own. Raises OSError."""
    request = urllib.request.Request(f"http://{address}:{port}/api", headers={"Connection": "close"})
    with urllib.request.urlopen(request, timeout=5) as response:
        return str(json.load(response)["Task"])


def check(nodes: list[Node], port: int, deadline: float) -> None:
    """Every node reaches every replica. Raises Failed."""
    for node in nodes:
        seen: dict[str, int] = {}
        error = ""
        while len(seen) < REPLICAS and time.monotonic() < deadline:
            try:
                for _ in range(REQUESTS):
                    task = fetch(node.address, port)
                    seen[task] = seen.get(task, 0) + 1
            except (OSError, ValueError, KeyError) as failure:
                error = f" (last error: {failure})"
                time.sleep(0.1)
        if len(seen) != REPLICAS:
            raise Failed(f"http://{node.address}:{port} reached {len(seen)} of {REPLICAS} replicas{error}")
        turns = ", ".join(f"{name.split('.')[1]}: {count}" for name, count in sorted(seen.items()))
        say(f"http://{node.address}:{port}  reached all {REPLICAS} replicas (requests by slot: {turns})")


def serve(nodes: list[Node], port: int) -> None:
    say(f"\nServing on {', '.join(f'http://{n.address}:{port}' for n in nodes)}")
    say(f"Try:  curl http://127.0.0.2:{port}")
    say(f"      {BIN}/essaim --host {nodes[0].host} service ls")
    say("Ctrl-C takes everything down.")
    while True:
        for node in nodes:
            node.check_alive()
        signal.sigtimedwait({signal.SIGUSR1}, 1.0)


def on_signals(handler: Callable[..., None]) -> None:
    """Also where the demo was started with a signal ignored, as a shell does with what it puts in the background."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, handler)


def interrupted(*_: object) -> None:
    on_signals(already_going)
    raise KeyboardInterrupt


def already_going(*_: object) -> None:
    # Not by print: a signal may come in the middle of one.
    os.write(sys.stdout.fileno(), b"Still taking down the nodes and their replicas; this takes some seconds ...\n")


def build_image() -> None:
    from essaim.agent.runtime.whoami_image import NotBuilt, build

    say("Building the image essaim/whoami on the local Docker Engine ...")
    try:
        build()
    except NotBuilt as error:
        raise Failed(str(error)) from error


def port_number(text: str) -> int:
    """Raises ValueError, which argparse reports."""
    number = int(text)
    if not 1 <= number <= 65535:
        raise ValueError
    return number


def main() -> int:
    parser = argparse.ArgumentParser(prog="./demo", description=__doc__)
    parser.add_argument("--once", action="store_true", help="check, take down and exit")
    parser.add_argument("--runtime", choices=["process", "docker"], default="process", help="what runs the replicas")
    parser.add_argument("--port", type=port_number, default=PORT, help=f"where the stack is served, instead of {PORT}")
    arguments = parser.parse_args()
    port = arguments.port
    on_signals(interrupted)
    started = time.monotonic()
    try:
        check_commands()
        check_published_port(port)
        if arguments.runtime == "docker":
            build_image()
        say(f"Starting {NODES} nodes on 127.0.0.1 to 127.0.0.{NODES} ...")
        with cluster(["--runtime", arguments.runtime]) as nodes:
            deploy(nodes[0], port)
            say("")
            for node in nodes:
                say(nodes[0].essaim("node", "ps", node.name, "--filter", "desired-state=running"))
            say(f"\nUp after {time.monotonic() - started:.1f} s.")
            check(nodes, port, time.monotonic() + START_TIMEOUT)
            if not arguments.once:
                serve(nodes, port)
    except KeyboardInterrupt:
        say("Taken down.")
        return 0 if not arguments.once else 130
    except Failed as failure:
        say(f"demo: {failure}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
