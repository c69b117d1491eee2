"""Services by what stack files call them, which as names of hosts are the same in upper and lower case.

Pure: names in, ids out.
"""

from collections.abc import Iterator, Sequence


class ServiceNames:
    def __init__(self) -> None:
        self._ids: dict[str, str] = {}
        self._names: dict[str, str] = {}

    def put(self, service_id: str, name: str) -> None:
        name = name.lower()
        if self._names.get(service_id) != name:
            self.drop(service_id)
            self._names[service_id], self._ids[name] = name, service_id

    def drop(self, service_id: str) -> None:
        name = self._names.pop(service_id, None)
        # Another one may have taken its name over.
        if name is not None and self._ids.get(name) == service_id:
            del self._ids[name]

    def find(self, names: Sequence[str]) -> Iterator[str]:
        """The services with one of these names, in their order."""
        return (self._ids[name] for name in names if name in self._ids)
