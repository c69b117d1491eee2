"""Rules and flows in the network namespaces of containers.

A namespace is held open while it is worked in. Its process is checked to be of the container after that, so that a
number which the system has given to another process leads nowhere. Blocking: call it from a thread.
"""

import contextlib
import ctypes
import os
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from socket import IPPROTO_UDP

from .balancing import sample
from .conntrack import Conntrack

WITHIN = 10.0
CLONE_NEWNET = 0x40000000


class NamespaceGone(Exception):
    """The container has ended (or never had a namespace of its own)."""


class RulesRefused(Exception):
    """Why the rules cannot be loaded, fit for a user."""


def why_not() -> str:
    """Why containers on this machine cannot have rules; empty when they can."""
    try:
        _run(["unshare", "--net", "nft", "--check", "-f", "-"], sample())
    except RulesRefused as refusal:
        return str(refusal)
    return ""


def load(pid: int, container_id: str, rules: str) -> None:
    """Raises NamespaceGone or RulesRefused."""
    with _namespace(pid, container_id) as descriptor:
        _run(["nsenter", f"--net=/proc/self/fd/{descriptor}", "nft", "-f", "-"], rules, descriptor)


def forget_flows(pid: int, container_id: str, addresses: set[str]) -> None:
    """Let UDP flows to these replicas be decided anew: they would go on to nobody for as long as the client sends.
    Raises NamespaceGone or RulesRefused."""
    with _namespace(pid, container_id) as descriptor:
        try:
            _inside(descriptor, lambda: _forget(addresses))
        except OSError as error:
            raise RulesRefused(f"flows cannot be forgotten: {error}") from error


@contextlib.contextmanager
def _namespace(pid: int, container_id: str) -> Iterator[int]:
    try:
        descriptor = os.open(f"/proc/{pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise NamespaceGone(f"process {pid}: {error.strerror}") from error
    try:
        if not _is_of(pid, container_id) or os.fstat(descriptor).st_ino == Path("/proc/self/ns/net").stat().st_ino:
            raise NamespaceGone(f"process {pid} is not in a network namespace of container {container_id[:12]}")
        yield descriptor
    finally:
        os.close(descriptor)


def _is_of(pid: int, container_id: str) -> bool:
    try:
        return container_id in Path(f"/proc/{pid}/cgroup").read_text()
    except OSError:
        return False


def _run(command: list[str], text: str, *descriptors: int) -> None:
    try:
        done = subprocess.run(
            command, input=text, text=True, capture_output=True, timeout=WITHIN, pass_fds=descriptors, check=False
        )
    except FileNotFoundError as error:
        raise RulesRefused(f"the program {error.filename} is not there") from error
    except subprocess.TimeoutExpired as error:
        raise RulesRefused(f"nft did not end within {WITHIN:g} s") from error
    if done.returncode:
        said = done.stderr.strip().splitlines() or [f"it ended with code {done.returncode}"]
        if said[0].startswith(f"{command[0]}: failed to execute nft"):
            raise RulesRefused("the program nft is not there: install nftables")
        raise RulesRefused(f"nft: {said[0]}")


def _inside(descriptor: int, work: Callable[[], None]) -> None:
    """Do it in the namespace, by a thread that ends with it: a thread that cannot come back must not be used again."""
    problems: list[Exception] = []

    def enter() -> None:
        try:
            libc = ctypes.CDLL(None, use_errno=True)
            if libc.setns(descriptor, CLONE_NEWNET):
                code = ctypes.get_errno()
                raise OSError(code, os.strerror(code))
            work()
        except Exception as problem:
            problems.append(problem)

    thread = threading.Thread(target=enter, name="in a container's network namespace")
    thread.start()
    thread.join()
    if problems:
        raise problems[0]


def _forget(addresses: set[str]) -> None:
    with Conntrack(WITHIN) as tracking:
        over = [f for f in tracking.flows() if f.protocol == IPPROTO_UDP and f.answers_from in addresses]
        for flow in over:
            tracking.end(flow)
