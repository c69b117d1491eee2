import asyncio
import time
from datetime import UTC, datetime
from pathlib import Path
from random import SystemRandom
from typing import Any, cast

import msgspec
import pytest
import structlog

from essaim.daemon.keys.identity import BrokenIdentity, Identity, IdentityFile
from essaim.daemon.keys.keyring import Keyring
from essaim.daemon.node.roles import Roles
from essaim.daemon.settings import Settings

IDENTITY = Identity(
    node_id="n", role="worker", cluster_id="k", advertise="10.0.0.1:2377", listen="10.0.0.1:2377",
    data_ip="10.0.0.1", managers=["10.0.0.2:2377"],
)  # fmt: skip


def test_identity_file_gives_back_what_was_saved_and_only_to_its_owner(tmp_path: Path) -> None:
    file = IdentityFile(tmp_path / "state")
    assert file.load() is None
    file.save(IDENTITY)
    assert file.load() == IDENTITY
    assert file.path.stat().st_mode & 0o777 == 0o600
    file.erase("n")
    file.erase("n")
    assert file.load() is None


def test_identity_that_was_erased_is_not_saved_again_and_another_nodes_is_not_erased(tmp_path: Path) -> None:
    file = IdentityFile(tmp_path)
    file.save(IDENTITY)
    file.erase("n")
    file.save(IDENTITY)
    assert file.load() is None
    another = msgspec.structs.replace(IDENTITY, node_id="m")
    file.save(another)
    file.erase("n")
    assert file.load() == another


async def test_managers_told_while_a_node_leaves_do_not_bring_its_identity_back(tmp_path: Path) -> None:
    settings = Settings(state_dir=tmp_path, socket=tmp_path / "s")
    keyring = Keyring(tmp_path, SystemRandom())
    roles = Roles(
        settings,
        cast("Any", None),
        cast("Any", None),
        keyring,
        now=lambda: datetime.now(UTC),
        monotonic=time.monotonic,
        log=structlog.get_logger(),
    )
    await roles.save(IDENTITY)
    async with roles.changing:
        roles._on_managers(["10.0.0.9:2377"])  # its save waits for its turn
        await asyncio.sleep(0)
        await roles.abandon()
    await asyncio.gather(*roles._background)
    assert roles.identity is None
    assert list(tmp_path.iterdir()) == []


def test_identity_file_broken_says_which_and_what_to_do(tmp_path: Path) -> None:
    file = IdentityFile(tmp_path)
    file.path.write_text("{")
    with pytest.raises(BrokenIdentity, match=r"node\.json.*move it away"):
        file.load()


def test_identity_file_left_half_written_keeps_the_old_one(tmp_path: Path) -> None:
    file = IdentityFile(tmp_path)
    file.save(IDENTITY)
    file.path.with_suffix(".tmp").write_text('{"node_id": "half')
    assert IdentityFile(tmp_path).load() == IDENTITY
