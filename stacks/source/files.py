"""Reading what a stack file refers to: environment files, included and extended files, the data of secrets."""

from pathlib import Path
from typing import Protocol

from .yamlreader import MAX_BYTES


class Files(Protocol):
    """Where referenced files come from; tests and remote clients bring their own."""

    def read(self, path: Path) -> bytes:
        """The whole content. Raises OSError."""


class DiskFiles:
    """The local file system. Reads no more than `MAX_BYTES` of anything, so that a device cannot fill the memory."""

    def read(self, path: Path) -> bytes:
        try:
            with path.expanduser().open("rb") as file:
                data = file.read(MAX_BYTES + 1)
        except ValueError:
            raise OSError(22, "no file's name holds a null character", str(path)) from None
        if len(data) > MAX_BYTES:
            raise OSError(27, f"larger than {MAX_BYTES // 1024 // 1024} MiB", str(path))
        return data


def absolute(base: Path, text: str) -> Path:
    """A path of a stack file, relative to the folder that it is relative to."""
    path = Path(text)
    if text.startswith("~"):
        try:
            return path.expanduser()
        except (RuntimeError, ValueError):
            return base / path
    return normal(base / path)


def normal(path: Path) -> Path:
    """Without `.` and `..`, by the text alone: the path may be one of another machine."""
    parts: list[str] = []
    for part in path.parts:
        if part == ".." and len(parts) > 1:
            parts.pop()
        elif part != "..":
            parts.append(part)
    return Path(*parts)
