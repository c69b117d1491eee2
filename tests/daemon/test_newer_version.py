"""A manager in whose log a newer version has written: it stops and says so, and the others go on without it."""

import asyncio
import shutil
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest

from essaim.api.client import ApiError, Client
from essaim.cluster import formats
from essaim.cluster.changes import put
from essaim.cluster.errors import FailedPrecondition
from essaim.cluster.node import NodeDescription
from essaim.daemon.keys.identity import IdentityFile
from essaim.daemon.keys.keyring import Keyring
from essaim.daemon.membership.joins import JoinMessage
from essaim.raft.core.entries import Entry, HardState
from essaim.raft.disk.storage import Storage
from essaim.raft.interface import CannotApply
from essaim.secrets.nodekey import new_key, request_for
from tests.daemon.peers import CHANCE, serving
from tests.daemon.processes import Daemon, daemons, init

pytestmark = [pytest.mark.timeout(120), pytest.mark.blocking_allowed]


def write_as_a_newer_version(daemon: Daemon) -> None:
    """At the end of a stopped manager's log: a kind of change that is not known here."""
    keyring = Keyring(daemon.state, CHANCE)
    assert keyring.load()
    storage = Storage(daemon.state / "raft", codecs=keyring.codecs())
    found = storage.open()
    index = found.snapshot.index + len(found.entries) + 1
    change = {"type": "swap", "table": "secrets", "id": "a", "with": "b"}
    data = msgspec.msgpack.encode({"changes": [change], "at": datetime.now(UTC), "format": 2})
    storage.save(HardState(found.state.term, found.state.vote, index), [Entry(index, found.state.term, data=data)])
    storage.close()


async def test_daemon_that_cannot_apply_its_log_is_up_and_says_so(tmp_path: Path) -> None:
    async with daemons(tmp_path, 1, tasks=False) as (only,):
        await init(only)
        only.kill(15)
        kept = tmp_path / "kept"
        shutil.copytree(only.state / "raft", kept)
        write_as_a_newer_version(only)
        await only.start()
        async with Client(only.host) as client:
            swarm = (await client.get("/info"))["Swarm"]
            assert swarm["LocalNodeState"] == "error"
            assert "Upgrade essaim on this node" in swarm["Error"]
            with pytest.raises(ApiError, match="Upgrade essaim on this node"):
                await client.get("/services")
        assert "Traceback" not in only.log.read_text()
        assert IdentityFile(only.state).load() is not None
        only.kill(15)
        shutil.rmtree(only.state / "raft")
        shutil.copytree(kept, only.state / "raft")
        await only.start()  # what was on its disk before is in order


async def test_manager_of_an_older_version_is_not_let_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with serving(tmp_path / "manager") as port:
        store = port.manager.store
        monkeypatch.setattr(formats, "FORMAT", 2)
        cluster, node = store.cluster, store.nodes.get(port.manager.identity.node_id)
        assert cluster is not None
        assert node is not None
        description = msgspec.structs.replace(node.description or NodeDescription(), format=2)
        await port.manager.writer.commit([put("nodes", msgspec.structs.replace(node, description=description))])

        async def raised() -> None:
            while store.format < 2:
                await asyncio.sleep(0.02)

        await asyncio.wait_for(raised(), 20)  # by the keeper: the only manager understands it
        message = JoinMessage(
            port.tokens.manager, "127.0.0.1:1", "127.0.0.1", "active", NodeDescription(format=1), request_for(new_key())
        )
        with pytest.raises(FailedPrecondition, match=r"agreed on format 2 .* up to 1: upgrade essaim there"):
            await port.manager.admission.join(message)
        snapshot = store.snapshot()()
        monkeypatch.setattr(formats, "FORMAT", 1)
        with pytest.raises(CannotApply, match="the cluster's state is of format 2"):
            type(store)().restore(9, snapshot)
