"""Natural order: numbers inside names compare as numbers (`web.2` before `web.10`).

Pure: text to sort keys.
"""

import re

CHUNK = re.compile(r"(\d+)")


def natural(text: str) -> tuple[tuple[int, int, str], ...]:
    """A sort key. Digits sort before other characters, as in ASCII; longer zero padding comes later."""
    key = []
    for place, chunk in enumerate(CHUNK.split(text)):
        if place % 2:
            key.append((0, int(chunk), f"{len(chunk):09d}"))
        else:
            key.extend((1, ord(letter), "") for letter in chunk)
    return tuple(key)
