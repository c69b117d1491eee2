"""htpasswd's users: `name:hash`, comma-separated: `{SHA}`, `$apr1$` (htpasswd -m) and bcrypt (htpasswd -B).

A bcrypt check takes 5 ms to seconds by design, in which a worker would serve nobody: it is not made here, but handed
out (`Unproven`) to be made in a thread, and its outcome remembered by the credentials' digest. Right and wrong ones are
remembered apart, so that a guesser cannot push out who has a password.

Pure: credentials in, a verdict out.
"""

import base64
import binascii
import hashlib
import hmac
import re

import bcrypt

from essaim.gateway.routing.call import Undecided

ALPHABET = b"./0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
ROUNDS = 1000
MAX_REMEMBERED = 1024
BCRYPT = re.compile(r"\$2[aby]\$(\d\d)\$[./A-Za-z0-9]{53}")
BCRYPT_BYTES = 72
"""As much of a password counts, as with htpasswd."""
BCRYPT_COST = 14
"""One check at this cost takes about a second; more would let a few wrong passwords keep everybody out."""


class Unproven(Undecided):
    """Credentials that take long to check: `check()` anywhere, then `settle()` with its outcome where the rest runs."""

    def __init__(self, users: "Users", digest: bytes, name: bytes, password: bytes, hashed: bytes) -> None:
        super().__init__("the credentials are not checked yet")
        self.digest = digest
        self._users, self._name, self._password, self._hashed = users, name, password, hashed

    def check(self) -> bool:
        try:
            return bcrypt.checkpw(self._password[:BCRYPT_BYTES], self._hashed)
        except ValueError:
            # A password with a NUL: no hash is of one.
            return False

    def settle(self, right: bool) -> None:
        self._users.remember(self.digest, self._name if right else None)


class Users:
    """Raises ValueError for a hash that cannot be checked."""

    def __init__(self, text: str) -> None:
        self._hashes: dict[bytes, bytes] = {}
        # Credentials that were right, by their digest: a hash of 1,000 rounds takes a millisecond.
        self._right: dict[bytes, bytes] = {}
        self._wrong: set[bytes] = set()
        for entry in text.split(","):
            name, colon, hashed = entry.strip().partition(":")
            # Compose files write $$ for $.
            hashed = hashed.replace("$$", "$")
            if not colon or not name:
                raise ValueError("users are written name:hash, separated by commas")
            slow = BCRYPT.fullmatch(hashed)
            if slow and int(slow[1]) > BCRYPT_COST:
                raise ValueError(f"the password of {name} has a bcrypt cost over {BCRYPT_COST} (htpasswd -C)")
            if not slow and not hashed.startswith(("{SHA}", "$apr1$")):
                raise ValueError(f"the password of {name} is not bcrypt, {{SHA}} or $apr1$ (htpasswd -B, -s or -m)")
            self._hashes[name.encode()] = hashed.encode()

    def verify(self, authorization: bytes | None) -> bytes | None:
        """The user's name if an Authorization field's credentials are right. Raises Unproven when that takes long."""
        if not authorization or authorization[:6].lower() != b"basic ":
            return None
        try:
            name, _, password = base64.b64decode(authorization[6:].strip(), validate=True).partition(b":")
        except binascii.Error:
            return None
        hashed = self._hashes.get(name)
        if hashed is None:
            return None
        digest = hashlib.sha256(name + b":" + hashed + b":" + password).digest()
        if digest in self._right:
            return name
        if digest in self._wrong:
            return None
        if hashed.startswith(b"$2"):
            raise Unproven(self, digest, name, password, hashed)
        found = sha(password) if hashed.startswith(b"{SHA}") else apr1(password, hashed.split(b"$")[2])
        if not hmac.compare_digest(found, hashed):
            return None
        self.remember(digest, name)
        return name

    def remember(self, digest: bytes, name: bytes | None) -> None:
        """Credentials' outcome: the user's name, or None for wrong ones."""
        known: dict[bytes, bytes] | set[bytes] = self._wrong if name is None else self._right
        if len(known) >= MAX_REMEMBERED:
            known.clear()
        if name is None:
            self._wrong.add(digest)
        else:
            self._right[digest] = name


def sha(password: bytes) -> bytes:
    return b"{SHA}" + base64.b64encode(hashlib.sha1(password, usedforsecurity=False).digest())


def _md5(data: bytes) -> bytes:
    return hashlib.md5(data, usedforsecurity=False).digest()


def apr1(password: bytes, salt: bytes) -> bytes:
    """Apache's variant of MD5-crypt: 1,000 rounds over password, salt and the last result in turns."""
    inner = _md5(password + salt + password)
    mixed = password + b"$apr1$" + salt
    mixed += (inner * (len(password) // 16 + 1))[: len(password)]
    bits = len(password)
    while bits:
        mixed += b"\0" if bits & 1 else password[:1]
        bits >>= 1
    result = _md5(mixed)
    for turn in range(ROUNDS):
        step = password if turn & 1 else result
        step += salt if turn % 3 else b""
        step += password if turn % 7 else b""
        step += result if turn & 1 else password
        result = _md5(step)
    return b"$apr1$" + salt + b"$" + _encode(result)


def _encode(digest: bytes) -> bytes:
    """The digest's bytes in MD5-crypt's order, six bits a character, lowest first."""
    out = b""
    for a, b, c in ((0, 6, 12), (1, 7, 13), (2, 8, 14), (3, 9, 15), (4, 10, 5)):
        out += _characters(digest[a] << 16 | digest[b] << 8 | digest[c], 4)
    return out + _characters(digest[11], 2)


def _characters(value: int, count: int) -> bytes:
    return bytes(ALPHABET[value >> (6 * place) & 0x3F] for place in range(count))
