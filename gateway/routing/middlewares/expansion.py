"""Go's way to replace what a pattern matches, which labels are written for.

- `$1`, `${1}`, `$name`: the longest run of letters, digits and underscores is the name, so that `$1x` is the group
  `1x`; a group that is not there, or took no part, is empty; `$$` is a dollar.
- An empty match right after another match is none: `.*` matches a text once. After it the search goes on behind the
  next character, not behind the next byte.

Pure: text in, text out.
"""

import re

from essaim.gateway.routing.pattern import NOWHERE, Pattern, Span, as_utf8

REFERENCE = re.compile(r"\$(?:\$|(\w+)|\{(\w+)\})")
NUMBER = re.compile(r"0|[1-9][0-9]{0,7}")
TAIL = range(0x80, 0xC0)
"""The bytes that continue a character of UTF-8."""
LONGEST = 64 << 10
"""Bytes of a result: eight times what a target may have."""


class TooLong(Exception):
    """What is put in place of the matches makes the text longer than LONGEST."""


class Expansion:
    """Raises BadPattern."""

    def __init__(self, pattern: str, replacement: str) -> None:
        self._pattern = Pattern(pattern, groups=True)
        # Text, and groups by their number.
        self._parts: list[bytes | int] = []
        end = 0
        for reference in REFERENCE.finditer(replacement):
            self._parts.append(replacement[end : reference.start()].encode())
            self._parts.append(self._meaning(reference[1] or reference[2] or ""))
            end = reference.end()
        self._parts.append(replacement[end:].encode())

    def _meaning(self, name: str) -> bytes | int:
        if not name:
            return b"$"
        group = int(name) if NUMBER.fullmatch(name) else self._pattern.names.get(name, -1)
        return group if 0 <= group <= self._pattern.groups else b""

    def matches(self, text: bytes) -> bool:
        return self._pattern.matches(text)

    def replace(self, text: bytes) -> bytes:
        """The text with every match replaced. Bytes of it that are not UTF-8 are U+FFFD afterwards. Raises TooLong."""
        if not text.isascii():
            text = as_utf8(text)
        out: list[bytes] = []
        done = place = size = 0
        while place <= len(text):
            found = self._pattern.find(text, place)
            if found is None:
                break
            start, end = found[0]
            out.append(text[done:start])
            if end > done or start == 0:
                made = self._expanded(text, found)
                size += len(made)
                if size > LONGEST:
                    raise TooLong
                out.append(made)
            done = end
            place = max(_next(text, place), end)
        return b"".join(out) + text[done:]

    def _expanded(self, text: bytes, found: list[Span]) -> bytes:
        """Raises TooLong."""
        groups = [0 if span == NOWHERE else span[1] - span[0] for span in found]
        if sum(len(part) if isinstance(part, bytes) else groups[part] for part in self._parts) > LONGEST:
            raise TooLong
        return b"".join(
            part if isinstance(part, bytes) else text[slice(*found[part])] if groups[part] else b""
            for part in self._parts
        )


def _next(text: bytes, place: int) -> int:
    """Where the next character begins."""
    place += 1
    while place < len(text) and text[place] in TAIL:
        place += 1
    return place
