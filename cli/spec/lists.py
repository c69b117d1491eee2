"""Lists and maps of a specification under `--x` (create), `--x-add` and `--x-rm` (update).

Pure: flags and a part of a specification to the new part. An empty result is None, that is absent.
"""

from collections.abc import Callable, Iterable
from typing import Any, TypeVar

from essaim.cli.flags import Flags
from essaim.cli.values.pairs import to_map

T = TypeVar("T")


def added(flags: Flags, name: str) -> list[Any]:
    """What is to be there: `--name` of create or `--name-add` of update."""
    return flags.items(name if name in flags.flags else f"{name}-add")


def removed(flags: Flags, name: str) -> set[str]:
    return set(flags.items(f"{name}-rm")) if f"{name}-rm" in flags.flags else set()


def touched(flags: Flags, name: str) -> bool:
    return flags.given(name, f"{name}-add", f"{name}-rm")


def keyed(
    current: Iterable[T] | None, add: Iterable[T], remove: Iterable[str], key: Callable[[T], str]
) -> list[T] | None:
    """One item for each key: what is added replaces, at the old one's place; what is removed goes first."""
    gone = set(remove)
    found = {key(item): item for item in current or () if key(item) not in gone}
    found.update({key(item): item for item in add})
    return list(found.values()) or None


def plain(current: Iterable[str] | None, add: Iterable[str], remove: Iterable[str]) -> list[str] | None:
    """Distinct strings, sorted."""
    gone = set(remove)
    return sorted({*(item for item in current or () if item not in gone), *add}) or None


def mapped(current: dict[str, str] | None, add: Iterable[str], remove: Iterable[str]) -> dict[str, str] | None:
    """A map under `key=value` additions and removal by key; None stays None."""
    gone = set(remove)
    kept = {key: value for key, value in (current or {}).items() if key not in gone}
    return dict(sorted({**kept, **to_map(add)}.items()))


def env_key(item: str) -> str:
    return item.partition("=")[0]
