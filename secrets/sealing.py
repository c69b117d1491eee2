"""Encryption of a manager's log and snapshots on its disk: AES-256-GCM under the manager's data key.

A sealed piece is MAGIC, the salt of its writer (16 bytes), then frames: the writer's count (8 bytes) and up to FRAME
bytes of text, encrypted, with their tag. A writer's own key is derived from the data key and its salt (HKDF), and its
count is the nonce, so no nonce is used twice however much is written. What is authenticated with each frame is its
place in the piece, whether it is the last, and the label of the piece's kind: nothing can be cut, swapped, or passed
off as another kind.

Frames keep one call below a millisecond, since encryption may hold the interpreter.

Rejected: chance as nonce under the data key itself (2^32 records are a few days of full load), a cipher of the file
system (nothing to lock, and not everywhere there).
"""

import itertools
import os

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

MAGIC = b"ESSAIME1"
SALT_BYTES = 16
KEY_BYTES = 32
COUNT_BYTES = 8
TAG_BYTES = 16
FRAME = 1 << 20
"""Bytes of text in a frame."""
_SEALED_FRAME = COUNT_BYTES + FRAME + TAG_BYTES

PLAIN = "it was written without encryption, by an older version of essaim"
WRONG_KEY = "it cannot be decrypted: it was written with another key, or changed since"


class Unreadable(ValueError):
    """What is not sealed with this key, or was changed."""


class Sealer:
    """Seals and opens pieces of one kind under one data key. May be used from any thread."""

    def __init__(self, data_key: bytes, label: str, *, salt: bytes | None = None) -> None:
        if len(data_key) != KEY_BYTES:
            raise ValueError(f"a data key has {KEY_BYTES} bytes")
        self._data_key = data_key
        self._label = label.encode()
        self._salt = salt if salt is not None else os.urandom(SALT_BYTES)
        self._counts = itertools.count()
        self._ciphers: dict[bytes, AESGCM] = {}

    def seal(self, text: bytes) -> bytes:
        cipher = self._cipher(self._salt)
        parts = [MAGIC, self._salt]
        starts = range(0, len(text), FRAME) or range(1)
        view = memoryview(text)
        for start in starts:
            count = next(self._counts).to_bytes(COUNT_BYTES, "big")
            extra = self._extra(start, last=start + FRAME >= len(text))
            parts += [count, cipher.encrypt(b"\0\0\0\0" + count, view[start : start + FRAME], extra)]
        return b"".join(parts)

    def open(self, sealed: bytes) -> bytes:
        """Raises Unreadable."""
        head = len(MAGIC) + SALT_BYTES
        if sealed[: len(MAGIC)] != MAGIC:
            raise Unreadable(PLAIN)
        cipher = self._cipher(bytes(sealed[len(MAGIC) : head]))
        body = memoryview(sealed)[head:]
        if not body:
            raise Unreadable(WRONG_KEY)
        parts = []
        for place, start in enumerate(range(0, len(body), _SEALED_FRAME)):
            frame = body[start : start + _SEALED_FRAME]
            extra = self._extra(place * FRAME, last=start + _SEALED_FRAME >= len(body))
            try:
                parts.append(cipher.decrypt(b"\0\0\0\0" + frame[:COUNT_BYTES], frame[COUNT_BYTES:], extra))
            except (InvalidTag, ValueError):
                raise Unreadable(WRONG_KEY) from None
        return b"".join(parts)

    def _extra(self, start: int, *, last: bool) -> bytes:
        return self._label + start.to_bytes(8, "big") + (b"\1" if last else b"\0")

    def _cipher(self, salt: bytes) -> AESGCM:
        found = self._ciphers.get(salt)
        if found is None:
            key = HKDF(hashes.SHA256(), KEY_BYTES, salt, b"essaim sealing").derive(self._data_key)
            found = self._ciphers[salt] = AESGCM(key)
        return found


def new_data_key() -> bytes:
    return os.urandom(KEY_BYTES)
