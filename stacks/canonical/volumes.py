"""Mounts of a service: the short form, and the long form that it becomes.

Short: `TARGET`, `SOURCE:TARGET`, `SOURCE:TARGET:OPTION[,OPTION]`. A source that looks like a path is a bind mount,
anything else a volume's name. `C:\\path` counts as one word.

Pure: no I/O.
"""

import re
from typing import Any

WINDOWS = re.compile(r"[A-Za-z]:[\\/]")
PROPAGATION = ("shared", "slave", "private", "rshared", "rslave", "rprivate")
SHORT_FORM = "[SOURCE:]TARGET[:ro|rw|nocopy|z|Z|" + "|".join(PROPAGATION) + "]"
CONSISTENCY = ("cached", "delegated", "consistent")


class VolumeError(ValueError):
    """Says what is wrong with the text of a mount."""


def parse_short(text: str) -> dict[str, Any]:
    """The long form. Raises VolumeError."""
    words = _split(text)
    if not 1 <= len(words) <= 3 or not all(words):
        raise VolumeError(f'"{text}" is no volume; allowed: {SHORT_FORM}')
    if len(words) == 1:
        return {"type": "volume", "target": words[0]}
    kind = "bind" if is_path(words[0]) else "volume"
    found: dict[str, Any] = {"type": kind, "source": words[0], "target": words[1]}
    for option in words[2].split(",") if len(words) == 3 else ():
        _option(found, option.strip(), text)
    return found


def _split(text: str) -> list[str]:
    """At colons, except those of drive letters."""
    words: list[str] = []
    while text:
        end = text.find(":", 2 if _starts_with_drive(text) else 0)
        if end < 0:
            return [*words, text]
        words.append(text[:end])
        text = text[end + 1 :]
    return [*words, ""]


def _starts_with_drive(text: str) -> bool:
    """`C:\\x` and `C:/x:/target`; but `v:/x` is the volume v, because a path of Windows needs a target behind it."""
    return WINDOWS.match(text) is not None and (text[2] == "\\" or ":/" in text[3:] or ":\\" in text[3:])


def is_path(source: str) -> bool:
    """Does a source name a path of the host?"""
    return source[:1] in (".", "/", "~", "\\") or WINDOWS.match(source) is not None


def _option(found: dict[str, Any], option: str, text: str) -> None:
    if option in ("ro", "rw"):
        found["read_only"] = option == "ro"
    elif option == "nocopy":
        found["volume"] = {"nocopy": True}
    elif option in PROPAGATION:
        found.setdefault("bind", {})["propagation"] = option
    elif option in ("z", "Z"):
        found.setdefault("bind", {})["selinux"] = option
    elif option not in CONSISTENCY:  # a hint for desktops, which Docker drops here too
        raise VolumeError(f'"{option}" in "{text}" is no mount option; allowed: {SHORT_FORM}')
