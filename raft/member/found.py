"""The beginning of a member's log, written while the member does not run.

All functions block.
"""

from pathlib import Path

from essaim.raft.core.entries import Entry, HardState, Kind
from essaim.raft.core.members import decode_configuration, encode_configuration, first_configuration
from essaim.raft.disk.codec import PLAIN, Codecs
from essaim.raft.disk.storage import Storage


class AlreadyFounded(Exception):
    """The directory holds a member's state already; the message names it."""


def found_cluster(directory: Path, members: dict[int, str], codecs: Codecs = PLAIN) -> None:
    """Make `directory` a member of a new cluster of `members` (id to address), the same on each of them."""
    storage = Storage(directory, codecs=codecs)
    try:
        if not storage.open().empty:
            raise AlreadyFounded(f"{directory} holds the state of a cluster already. Leave that, or use another one.")
        data = encode_configuration(first_configuration(members))
        storage.save(HardState(term=1, commit=1), [Entry(1, 1, Kind.MEMBERS, data=data)])
    finally:
        storage.close()


def prepare_member(directory: Path) -> None:
    """An empty log, for a member that a leader is going to add: a directory without any has lost it."""
    storage = Storage(directory)
    try:
        storage.open()
        storage.wal.cut()
    finally:
        storage.close()


def has_log(directory: Path) -> bool:
    """Whether a member has ever begun there. Raises OSError."""
    return directory.is_dir() and any(directory.glob("*.wal"))


def force_new_cluster(directory: Path, member_id: int, address: str, codecs: Codecs = PLAIN) -> None:
    """Make the member in `directory` the only one, keeping all that its log holds (committed or not)."""
    storage = Storage(directory, codecs=codecs)
    try:
        found = storage.open()
        now = decode_configuration(found.snapshot.members)
        for entry in found.entries:
            if entry.kind == Kind.MEMBERS:
                now = decode_configuration(entry.data)
        others = {*now.everyone, *now.removed} - {member_id}
        alone = first_configuration({member_id: address})
        alone = type(alone)(alone.voters, addresses=alone.addresses, removed=tuple(sorted(others)))
        index = found.snapshot.index + len(found.entries) + 1
        term = found.state.term + 1
        entry = Entry(index, term, Kind.MEMBERS, data=encode_configuration(alone))
        storage.save(HardState(term, member_id, index), [entry])
    finally:
        storage.close()
