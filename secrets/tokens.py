"""Join tokens: `SWMTKN-1-<digest>-<secret>`, the form that Swarm's users know.

The digest (50 characters of base 36) is the SHA-256 of the cluster's root certificate, so that a joining node knows
whom it may trust before it has any certificate; the secret (25 characters) is what the managers compare.

Pure: chance is passed in.
"""

import hashlib
import hmac
from dataclasses import dataclass

from essaim.cluster.errors import ClusterError
from essaim.cluster.ids import DIGITS, Chance, base36, new_id

PREFIX = "SWMTKN"
VERSION = "1"
DIGEST_LENGTH = 50
SECRET_LENGTH = 25
DIGEST_BITS = 256


class InvalidToken(ClusterError):
    """An Engine answers a malformed token with status 500."""

    def __init__(self) -> None:
        super().__init__("invalid join token")


@dataclass(frozen=True, slots=True)
class JoinToken:
    """`digest` is the SHA-256 of the root certificate (32 bytes), `secret` 25 characters of base 36."""

    digest: bytes
    secret: str

    def __str__(self) -> str:
        number = int.from_bytes(self.digest, "big")
        return f"{PREFIX}-{VERSION}-{base36(number, DIGEST_LENGTH)}-{self.secret}"

    def __repr__(self) -> str:
        return f"JoinToken(digest={self.digest.hex()[:8]}..., secret=...)"

    def trusts(self, root_certificate: bytes) -> bool:
        """Whether this is the root certificate of the token's cluster, byte by byte as it was when it was made."""
        return hmac.compare_digest(self.digest, root_digest(root_certificate))

    def matches(self, text: str) -> bool:
        """Compare with a presented token without telling by time how much of it was right."""
        return hmac.compare_digest(str(self).encode(), text.encode("utf-8", "surrogatepass"))


def root_digest(root_certificate: bytes) -> bytes:
    return hashlib.sha256(root_certificate).digest()


def generate(digest: bytes, chance: Chance) -> JoinToken:
    """A new token for the cluster whose root certificate has this SHA-256."""
    if len(digest) * 8 != DIGEST_BITS:
        raise ValueError("a join token is bound to a SHA-256 of 32 bytes")
    return JoinToken(digest, new_id(chance))


def parse(text: str) -> JoinToken:
    """Raises InvalidToken for anything that is not a token in its canonical form."""
    parts = text.split("-")
    if len(parts) != 4 or parts[0] != PREFIX or parts[1] != VERSION:
        raise InvalidToken
    digest, secret = parts[2:]
    if len(digest) != DIGEST_LENGTH or len(secret) != SECRET_LENGTH or not set(digest + secret) <= set(DIGITS):
        raise InvalidToken
    number = int(digest, 36)
    if number.bit_length() > DIGEST_BITS:
        raise InvalidToken
    return JoinToken(number.to_bytes(DIGEST_BITS // 8, "big"), secret)


def rotate(token: str, chance: Chance) -> str:
    """A token of the same cluster with a new secret; the old one is worth nothing once this is stored."""
    return str(generate(parse(token).digest, chance))
