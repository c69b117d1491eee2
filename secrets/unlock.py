"""The unlock key of locked managers (`SWMKEY-1-...`, as Swarm prints it), and what is wrapped with it.

Pure: chance is passed in.
"""

import base64
import binascii

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from essaim.cluster.errors import InvalidArgument, Unauthorized
from essaim.cluster.ids import Chance

PREFIX = "SWMKEY-1-"
KEY_BYTES = 32
NONCE_BYTES = 12
LABEL = b"essaim node keys"


def new_unlock_key(chance: Chance) -> str:
    return PREFIX + base64.b64encode(chance.getrandbits(8 * KEY_BYTES).to_bytes(KEY_BYTES, "big")).decode().rstrip("=")


def parse_unlock_key(text: str) -> bytes:
    """Raises InvalidArgument, in an Engine's words."""
    encoded = text.strip().removeprefix(PREFIX)
    try:
        key = base64.b64decode(encoded + "=" * (-len(encoded) % 4), validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if not text.strip().startswith(PREFIX) or len(key) != KEY_BYTES:
        raise InvalidArgument("invalid key string")
    return key


def wrap(text: bytes, unlock_key: str, chance: Chance) -> bytes:
    """Encrypt under the unlock key. Called a few times in a key's life: a nonce of chance is good enough."""
    nonce = chance.getrandbits(8 * NONCE_BYTES).to_bytes(NONCE_BYTES, "big")
    return nonce + AESGCM(parse_unlock_key(unlock_key)).encrypt(nonce, text, LABEL)


def unwrap(wrapped: bytes, unlock_key: str) -> bytes:
    """Raises InvalidArgument for what is no key, Unauthorized for the wrong one."""
    cipher = AESGCM(parse_unlock_key(unlock_key))
    try:
        return cipher.decrypt(wrapped[:NONCE_BYTES], wrapped[NONCE_BYTES:], LABEL)
    except (InvalidTag, ValueError):
        raise Unauthorized("swarm could not be unlocked: invalid key provided") from None
