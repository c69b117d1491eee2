"""Go's way to replace what a pattern matches, where Python's differs: labels are written for it.

- `$1`, `${1}`, `$name`: the longest run of letters, digits and underscores is the name, so that `$1x` is the group
  `1x`; a group that is not there, or took no part, is empty; `$$` is a dollar.
- An empty match right after another match is none: `.*` matches a text once.

Pure: text in, text out.
"""

import re

REFERENCE = re.compile(rb"\$(?:\$|(\w+)|\{(\w+)\})")


class Expansion:
    def __init__(self, pattern: str, replacement: str) -> None:
        self._pattern = re.compile(pattern.encode())
        self._replacement = replacement.encode()

    def matches(self, text: bytes) -> bool:
        return self._pattern.search(text) is not None

    def replace(self, text: bytes) -> bytes:
        """The text with every match replaced."""
        out: list[bytes] = []
        end = 0
        for number, found in enumerate(self._pattern.finditer(text)):
            if found.start() == found.end() == end and number:
                continue
            out += (text[end : found.start()], self._expanded(found))
            end = found.end()
        return b"".join(out) + text[end:]

    def _expanded(self, found: re.Match[bytes]) -> bytes:
        def group(reference: re.Match[bytes]) -> bytes:
            name = (reference[1] or reference[2] or b"").decode()
            if not name:
                return b"$"
            try:
                return found[int(name) if name.isdecimal() else name] or b""
            except IndexError:
                return b""

        return REFERENCE.sub(group, self._replacement)
