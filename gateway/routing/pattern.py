r"""Regular expressions out of labels: Go's syntax, matched by RE2 in a time that grows with the text and no faster.

Labels are written for Traefik, whose patterns are Go's: `[[:alnum:]]`, `\z`, `\pL`, `(?U)`, `(?P<name>...)`, at most
1,000 repetitions; neither back-references nor look-aheads. Go's engine and this one come from the same author and have
the same syntax; the few patterns that only RE2 takes are refused as Go refuses them. A text is its bytes, read as
UTF-8; a byte that is none is a character of its own (U+FFFD), as in Go.

- A pattern has MOST_MEMORY at most, compiled and while it matches. The worst that was found to fit it takes 0.12 s for
  a text of 8 KiB; usual ones take half a microsecond for a path.
- RE2's own class is used, not the layer over it that imitates `re`: that costs 0.9 us a match, more than the match.
- Rejected: a set of several patterns that are matched at once. It gives a wrong answer when it runs out of memory.

Pure: patterns and texts in, places out.
"""

import re

import re2
from re2 import _re2

from essaim.gateway.protocol.numbers import shown

MOST_MEMORY = 1 << 20
LONGEST = 16 << 10
"""Characters of a pattern."""
MOST_REPEATED = 1000
NOWHERE = (-1, -1)
Span = tuple[int, int]

# What of a pattern is to be looked at beside RE2: quoted text, escapes, classes, repetitions.
PIECES = re.compile(
    r"\\Q.*?(?:\\E|\Z)|\\.|\[\^?\]?(?:\\.|\[:\^?[a-z]++:\]|[^\]\\])*+\]|\{([0-9]++)(?:,([0-9]*+))?\}",
    re.DOTALL,
)
HINTS = (
    ("(?=", "look-aheads are not in Go's syntax"),
    ("(?!", "look-aheads are not in Go's syntax"),
    ("(?<", "look-behinds are not in Go's syntax"),
    ("\\Z", "write \\z for the end of the text"),
    ("too large", f"it takes more than {MOST_MEMORY >> 20} MiB; use fewer or smaller repetitions"),
)
BACK_REFERENCE = re.compile(r"escape sequence: \\[1-9]")


class BadPattern(ValueError):
    """The pattern cannot be used; the message says why."""


class Pattern:
    """Raises BadPattern. `groups`: whether `find` tells the places of groups."""

    __slots__ = ("_match", "_unanchored", "groups", "names")

    def __init__(self, text: str, *, ignore_case: bool = False, groups: bool = False) -> None:
        options = re2.Options()
        options.log_errors = False
        options.max_mem = MOST_MEMORY
        options.case_sensitive = not ignore_case
        options.never_capture = not groups
        if len(text) > LONGEST:
            raise BadPattern(f"the pattern {shown(text)} is longer than {LONGEST} characters")
        try:
            compiled = _re2.RE2(text.encode(), options)
        except UnicodeEncodeError:
            raise BadPattern(f"the pattern {shown(text)} has characters that are not Unicode") from None
        if not compiled.ok():
            raise BadPattern(f"the pattern {shown(text)} cannot be used: {_said(compiled.error())}")
        if reason := _only_here(text):
            raise BadPattern(f"the pattern {shown(text)} cannot be used: {reason}")
        self._match = compiled.Match
        self._unanchored = _re2.RE2.Anchor.UNANCHORED
        self.groups: int = compiled.NumberOfCapturingGroups()
        self.names: dict[str, int] = {name.decode(): at for name, at in compiled.NamedCapturingGroups()}

    def matches(self, text: bytes) -> bool:
        """Whether it is anywhere in the text."""
        if not text.isascii():
            text = as_utf8(text)
        return bool(self._match(self._unanchored, text, 0, len(text))[0] != NOWHERE)

    def find(self, text: bytes, start: int = 0) -> list[Span] | None:
        """The first place from `start` on, and those of its groups (NOWHERE: took no part). The text is UTF-8."""
        found: list[Span] = self._match(self._unanchored, text, start, len(text))
        return None if found[0] == NOWHERE else found


def as_utf8(text: bytes) -> bytes:
    """The text as Go reads it: bytes that are not UTF-8 are U+FFFD, one each."""
    try:
        text.decode()
    except UnicodeDecodeError:
        kept = text.decode(errors="surrogateescape")
        return "".join("\ufffd" if "\udc80" <= one <= "\udcff" else one for one in kept).encode()
    return text


def _said(error: bytes) -> str:
    reason = error.decode(errors="replace")
    if BACK_REFERENCE.search(reason):
        return f"{reason} (back-references are not in Go's syntax)"
    return next((f"{reason} ({hint})" for sign, hint in HINTS if sign in reason), reason)


def _only_here(text: str) -> str:
    """Why Go refuses a pattern that RE2 takes; "" if it does not."""
    for piece in PIECES.finditer(text):
        if piece[0] == "\\C":
            return "invalid escape sequence: \\C (Go does not match single bytes)"
        if any(len(count) > 4 or int(count) > MOST_REPEATED for count in piece.groups() if count):
            return f"invalid repetition size: {piece[0]} (at most {MOST_REPEATED})"
    return ""
