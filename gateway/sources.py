"""Connections by source address, so that one client cannot have them all. Each worker counts its own.

Pure: addresses in, verdicts out.
"""


class Sources:
    def __init__(self) -> None:
        self._open: dict[str, int] = {}

    def enter(self, address: str, limit: int) -> bool:
        """Count a connection; False when the source has more than `limit` (0: no limit). `leave` in either case."""
        count = self._open[address] = self._open.get(address, 0) + 1
        return not limit or count <= limit

    def leave(self, address: str) -> None:
        count = self._open.get(address, 0) - 1
        if count > 0:
            self._open[address] = count
        else:
            self._open.pop(address, None)
