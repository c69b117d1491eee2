"""What a mistyped word was probably meant to be.

Pure: words to words.
"""

from collections.abc import Iterable
from difflib import get_close_matches

CLOSE = 0.75
"""How alike two words are (difflib's ratio) for one to be offered instead of the other."""


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """A sentence that offers the nearest known word, or nothing."""
    found = get_close_matches(word, list(known), 1, CLOSE)
    return f"Did you mean {found[0]}?" if found else ""
