"""One real manager's port 2377 inside the test's process, and certificates of every sort to knock with."""

import contextlib
import socket
import ssl
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import SystemRandom

import structlog

from essaim.cluster.changes import put
from essaim.cluster.node import Node, NodeDescription, NodeSpec
from essaim.cluster.swarm import JoinTokens, RootCA, SwarmSpec
from essaim.daemon.keys import tls
from essaim.daemon.keys.identity import Identity
from essaim.daemon.keys.keyring import Keyring, Keys
from essaim.daemon.node.bootstrap import first_objects
from essaim.daemon.node.manager import ManagerRole
from essaim.daemon.node.peer_server import PeerServer
from essaim.secrets.ca import Authority, issue, new_authority
from essaim.secrets.holder import Holder
from essaim.secrets.nodekey import new_key, request_for
from essaim.secrets.sealing import new_data_key
from essaim.secrets.tokens import generate, root_digest
from tests.ports import free_port

CHANCE = SystemRandom()
LOG = structlog.get_logger()
ADDRESS = "127.0.0.1"
MANAGER, WORKER = Holder("m" * 25, "manager", "c" * 25, 7), Holder("w" * 25, "worker", "c" * 25)


def now() -> datetime:
    return datetime.now(UTC)


def certified(authority: Authority, holder: Holder, ago: timedelta = timedelta(0)) -> tuple[bytes, bytes]:
    """A certificate of a new key, made that long ago, and the key."""
    key = new_key()
    return issue(authority, request_for(key), holder, now() - ago), key


def context_of(authority: Authority, holder: Holder, ago: timedelta = timedelta(0)) -> ssl.SSLContext:
    """What a client with such a certificate uses; it trusts the same authority."""
    return tls.calling_context(*certified(authority, holder, ago), authority.certificate)


def keyring_of(folder: Path, authority: Authority, holder: Holder) -> Keyring:
    certificate, key = certified(authority, holder)
    keyring = Keyring(folder, CHANCE)
    keyring.put(Keys(key, certificate, authority.certificate, new_data_key()))
    return keyring


@dataclass
class Port:
    """A manager's port 2377 with a worker in its store."""

    address: str
    authority: Authority
    manager: ManagerRole
    tokens: JoinTokens


@contextlib.asynccontextmanager
async def serving(folder: Path) -> AsyncIterator[Port]:
    authority, port = new_authority(now()), free_port(ADDRESS)
    address = f"{ADDRESS}:{port}"
    digest = root_digest(authority.certificate)
    tokens = JoinTokens(worker=str(generate(digest, CHANCE)), manager=str(generate(digest, CHANCE)))
    identity = Identity(MANAGER.node_id, "manager", MANAGER.cluster_id, address, address, ADDRESS, [address], 7)
    keyring = keyring_of(folder, authority, MANAGER)
    await ManagerRole.found(identity, folder / "raft", keyring)
    manager = ManagerRole(identity, folder / "raft", keyring, now=now, monotonic=time.monotonic, log=LOG)
    server = PeerServer(manager, keyring, LOG)
    await server.start(ADDRESS, port)
    await manager.start()
    try:
        root = RootCA(certificate=authority.certificate.decode(), key=authority.key.decode())
        first = first_objects(
            cluster_id=MANAGER.cluster_id, spec=SwarmSpec(), tokens=tokens, node_id=MANAGER.node_id, authority=root,
            description=NodeDescription(), availability="active", advertise=address, ip=ADDRESS, raft_id=7,
            chance=CHANCE,
        )  # fmt: skip
        worker = Node(id=WORKER.node_id, spec=NodeSpec(role="worker"))
        await manager.writer.commit([*first, put("nodes", worker, new=True)])
        yield Port(address, authority, manager, tokens)
    finally:
        await server.close_sessions()
        await manager.stop()
        await server.stop()


def dialled(address: str) -> socket.socket:
    host, _, port = address.rpartition(":")
    return socket.create_connection((host, int(port)), 5)
