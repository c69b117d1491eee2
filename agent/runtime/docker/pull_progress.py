"""How far a pull has come, from the Engine's stream of messages about its layers.

Pure: no I/O, no clock.
"""

from typing import Any

UNITS = ("B", "kB", "MB", "GB", "TB")


class PullProgress:
    """Layers are counted as they are announced; sizes are known only for those under way."""

    def __init__(self, image: str) -> None:
        self._image = image
        self._layers: dict[str, str] = {}
        self._bytes: dict[str, tuple[int, int]] = {}

    def take(self, message: dict[str, Any]) -> None:
        layer, status = message.get("id"), message.get("status", "")
        if not layer or status.startswith("Pulling from"):
            return
        self._layers[layer] = status
        detail = message.get("progressDetail") or {}
        if status == "Downloading" and detail.get("total"):
            self._bytes[layer] = (detail.get("current", 0), detail["total"])
        elif status in ("Download complete", "Pull complete") and layer in self._bytes:
            self._bytes[layer] = (self._bytes[layer][1],) * 2

    def text(self) -> str:
        """`pulling web:1: 3 of 7 layers, 12.5 MB of 40.1 MB`."""
        done = sum(status in ("Pull complete", "Already exists") for status in self._layers.values())
        parts = [f"{done} of {len(self._layers)} layers"] if self._layers else ["waiting for its registry"]
        if self._bytes:
            current, total = (sum(column) for column in zip(*self._bytes.values(), strict=True))
            parts.append(f"{_shown(current)} of {_shown(total)}")
        return f"pulling {self._image}: {', '.join(parts)}"


def _shown(count: float) -> str:
    for unit in UNITS:
        if count < 1000 or unit == UNITS[-1]:
            break
        count /= 1000
    return f"{count:.3g} {unit}"
