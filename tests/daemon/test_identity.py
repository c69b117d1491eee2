from pathlib import Path

import pytest

from essaim.daemon.identity import BrokenIdentity, Identity, IdentityFile

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
    file.erase()
    file.erase()
    assert file.load() is None


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
