"""htpasswd's users: `name:hash`, comma-separated, with the hashes that can be checked without a library of C.

`{SHA}` and `$apr1$` (htpasswd -m, the default of older ones). bcrypt (`$2y$`) is refused with a warning when the labels
are read: a check takes it some 50 ms by design, in which a worker would serve nobody.

Pure: credentials in, a verdict out.
"""

import base64
import binascii
import hashlib
import hmac

ALPHABET = b"./0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
ROUNDS = 1000
MAX_REMEMBERED = 1024


class Users:
    """Raises ValueError for a hash that cannot be checked."""

    def __init__(self, text: str) -> None:
        self._hashes: dict[bytes, bytes] = {}
        # Credentials that were right, by their digest: a hash of 1,000 rounds takes a millisecond.
        self._right: dict[bytes, bytes] = {}
        for entry in text.split(","):
            name, colon, hashed = entry.strip().partition(":")
            # Compose files write $$ for $.
            hashed = hashed.replace("$$", "$")
            if not colon or not name:
                raise ValueError("users are written name:hash, separated by commas")
            if not hashed.startswith(("{SHA}", "$apr1$")):
                raise ValueError(f"the password of {name} is neither {{SHA}} nor $apr1$ (htpasswd -s or -m)")
            self._hashes[name.encode()] = hashed.encode()

    def verify(self, authorization: bytes | None) -> bytes | None:
        """The user's name if an Authorization field's credentials are right."""
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
        found = sha(password) if hashed.startswith(b"{SHA}") else apr1(password, hashed.split(b"$")[2])
        if not hmac.compare_digest(found, hashed):
            return None
        if len(self._right) >= MAX_REMEMBERED:
            self._right.clear()
        self._right[digest] = name
        return name


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
