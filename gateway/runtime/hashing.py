"""Places of keys on rings and among gateways.

Pure: bytes in, a number out.
"""

from hashlib import blake2b


def hash_key(value: bytes) -> int:
    """The place of a key: the same in all workers, on all nodes and in all versions."""
    return int.from_bytes(blake2b(value, digest_size=8).digest(), "big")
