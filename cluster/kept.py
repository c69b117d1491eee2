"""Fields of stored objects that this version does not know: a newer one wrote them, and they survive here.

The typed object beside them is what this version works with. Where an object leaves as bytes again, in a snapshot or
in a change, they are put back: into the place where they were, and, in a list, into the element that is still the same.

Pure: MessagePack in, MessagePack out.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec

_decode = msgspec.msgpack.decode
_encode = msgspec.msgpack.encode


@dataclass(frozen=True, slots=True)
class Kept:
    """`fields` beside the known ones, then what is kept inside these and inside the elements of a list, each with
    its place and the element as it is known."""

    fields: dict[str, Any] = field(default_factory=dict)
    inside: dict[str, "Kept"] = field(default_factory=dict)
    items: list[tuple[int, Any, "Kept"]] = field(default_factory=list)

    def with_parts(self, parts: Mapping[str, "Kept | None"]) -> "Kept | None":
        """When these parts are replaced as a whole, with what is kept inside each of them from now on."""
        inside = {name: kept for name, kept in self.inside.items() if name not in parts}
        inside |= {name: kept for name, kept in parts.items() if kept is not None}
        left = Kept(self.fields, inside, self.items)
        return left if left.fields or left.inside or left.items else None


def unknown_in(raw: bytes | msgspec.Raw, known: bytes) -> Kept | None:
    """What is in `raw` and not in `known`, its encoding by this version's type; None if nothing is."""
    if bytes(raw) == known:
        return None
    return _difference(_decode(raw), _decode(known))


def with_kept(known: bytes, kept: Kept) -> bytes:
    """The encoding of an object with what is kept of it; what is known goes before."""
    return _encode(_merged(_decode(known), kept))


def kept_of_items(raw: bytes, known: bytes, name: str) -> dict[int, Kept]:
    """Of a message with a list under `name`: what is unknown of each element, by its place."""
    whole = unknown_in(raw, known)
    items = whole.inside[name].items if whole is not None and name in whole.inside else []
    return {place: kept for place, _, kept in items}


def with_kept_items(known: bytes, name: str, kept: Mapping[int, Kept]) -> bytes:
    """The encoding of such a message, with what is kept of its elements."""
    elements = _decode(known)[name]
    items = [(place, elements[place], own) for place, own in kept.items()]
    return with_kept(known, Kept(inside={name: Kept(items=items)}))


def _difference(full: Any, known: Any) -> Kept | None:
    if isinstance(full, dict) and isinstance(known, dict):
        # Null is absent to every version.
        fields = {name: value for name, value in full.items() if name not in known and value is not None}
        found = {name: _difference(full[name], value) for name, value in known.items() if name in full}
        inside = {name: kept for name, kept in found.items() if kept is not None}
        return Kept(fields, inside) if fields or inside else None
    if isinstance(full, list) and isinstance(known, list) and len(full) == len(known):
        items = [
            (place, element, kept)
            for place, (whole, element) in enumerate(zip(full, known, strict=True))
            if (kept := _difference(whole, element)) is not None
        ]
        return Kept(items=items) if items else None
    return None


def _merged(known: Any, kept: Kept) -> Any:
    if isinstance(known, dict):
        inside = kept.inside
        whole = {name: _merged(value, inside[name]) if name in inside else value for name, value in known.items()}
        return {**{name: value for name, value in kept.fields.items() if name not in whole}, **whole}
    return _merged_list(known, kept) if isinstance(known, list) else known


def _merged_list(known: list[Any], kept: Kept) -> list[Any]:
    """An element that is where it was gets back what is its own; of moved ones, the first that is the same does."""
    whole, left = list(known), []
    for place, element, own in kept.items:
        if place < len(known) and known[place] == element:
            whole[place] = _merged(element, own)
        else:
            left.append((element, own))
    free = [place for place in range(len(known)) if whole[place] is known[place]]
    for element, own in left:
        for place in [place for place in free if known[place] == element][:1]:
            free.remove(place)
            whole[place] = _merged(element, own)
    return whole
