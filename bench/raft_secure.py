"""What makes a member of `raft_member` as secure as a manager's: mutual TLS, and an encrypted log. For `--secure`."""

import hashlib
import ssl
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from essaim.daemon.keys import tls
from essaim.daemon.node.manager import access_by
from essaim.raft.disk.codec import Codecs
from essaim.raft.transport.streams import Access
from essaim.secrets.ca import Authority, issue, new_authority
from essaim.secrets.holder import Holder
from essaim.secrets.nodekey import new_key, request_for
from essaim.secrets.sealing import Sealer

CLUSTER = "bench"


def make_authority(file: Path) -> None:
    """The authority that the members of one cluster share."""
    file.write_bytes(msgspec.json.encode(new_authority(datetime.now(UTC))))


def secured(file: Path, member: int) -> tuple[Access, Codecs, ssl.SSLContext]:
    """How the member talks to the others, how it writes, and with what it listens."""
    authority = msgspec.json.decode(file.read_bytes(), type=Authority)
    key = new_key()
    holder = Holder(f"node{member}", "manager", CLUSTER, member)
    certificate = issue(authority, request_for(key), holder, datetime.now(UTC))
    calling = tls.calling_context(certificate, key, authority.certificate)
    data_key = hashlib.sha256(authority.key).digest()
    serving = tls.serving_context(certificate, key, authority.certificate)
    return access_by(lambda: calling, CLUSTER), Codecs(Sealer(data_key, "log"), Sealer(data_key, "snapshot")), serving
