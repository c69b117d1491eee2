import random
from datetime import UTC, datetime
from pathlib import Path

import pytest
from msgspec.structs import replace

from essaim.cluster.errors import InvalidArgument, Unauthorized
from essaim.daemon.keys.identity import BrokenIdentity
from essaim.daemon.keys.keyring import Keyring, Keys
from essaim.secrets.ca import issue, new_authority
from essaim.secrets.holder import Holder
from essaim.secrets.nodekey import new_key, request_for
from essaim.secrets.sealing import new_data_key
from essaim.secrets.unlock import new_unlock_key

CHANCE = random.SystemRandom()
NOW = datetime.now(UTC)
AUTHORITY = new_authority(NOW)


def keys() -> Keys:
    key = new_key()
    certificate = issue(AUTHORITY, request_for(key), Holder("n", "manager", "c", 1), NOW)
    return Keys(key, certificate, AUTHORITY.certificate, new_data_key())


def opened(folder: Path) -> Keyring:
    keyring = Keyring(folder, CHANCE)
    assert keyring.load()
    return keyring


def test_keyring_gives_back_its_keys_and_only_to_their_owner(tmp_path: Path) -> None:
    keyring = Keyring(tmp_path, CHANCE)
    assert not keyring.load()
    wanted = keys()
    keyring.put(wanted)
    assert opened(tmp_path).keys == wanted
    assert keyring.path.stat().st_mode & 0o777 == 0o600
    assert "private" not in repr(wanted).lower()
    keyring.erase()
    assert not Keyring(tmp_path, CHANCE).load()


def test_keyring_locked_shows_nothing_on_disk_and_opens_with_its_key_only(tmp_path: Path) -> None:
    keyring, wanted, unlock = Keyring(tmp_path, CHANCE), keys(), new_unlock_key(CHANCE)
    keyring.put(wanted)
    keyring.lock_with(unlock, 7)
    # A new certificate is kept locked, too.
    renewed = replace(wanted, certificate=keys().certificate, private_key=new_key())
    with pytest.raises(OSError, match=r"(?i)key"):
        keyring.put(renewed)
    intact = opened(tmp_path)
    intact.unlock(unlock)
    assert intact.keys == keyring.keys == wanted
    renewed = replace(keys(), data_key=wanted.data_key)
    keyring.put(renewed)
    raw = keyring.path.read_bytes()
    assert b"PRIVATE" not in raw
    assert unlock.encode() not in raw
    locked = opened(tmp_path)
    assert locked.locked
    assert locked.lock_version == 7
    with pytest.raises(Unauthorized):
        locked.unlock(new_unlock_key(CHANCE))
    with pytest.raises(InvalidArgument):
        locked.unlock("x")
    assert locked.locked
    locked.unlock(unlock)
    assert not locked.locked
    assert locked.keys == renewed
    locked.forget()
    assert locked.locked
    locked.unlock(unlock)
    locked.lock_with("", 8)
    assert opened(tmp_path).keys == renewed


def test_keyring_writes_and_locks_logs_with_its_own_data_key(tmp_path: Path) -> None:
    keyring = Keyring(tmp_path, CHANCE)
    keyring.put(keys())
    sealed = keyring.codecs().log.seal(b"text")
    assert keyring.codecs().log.open(sealed) == b"text"
    keyring.put(keys())
    with pytest.raises(ValueError, match="another key"):
        keyring.codecs().log.open(sealed)


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"keys": 3}'])
def test_keyring_broken_says_which_file(tmp_path: Path, text: str) -> None:
    keyring = Keyring(tmp_path, CHANCE)
    keyring.path.write_text(text)
    with pytest.raises(BrokenIdentity, match=r"keys\.json.*join again"):
        keyring.load()
