"""Gives the answers of the table (support.py) to a file: refusals as problems, and what has no or another effect said
once for each key, with the place of the first.

Pure: no I/O.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache

from essaim.stacks.source.document import Document
from essaim.stacks.source.errors import Place
from essaim.stacks.source.tree import Node, Path, Problems, path_text, plain

from .support import TOP_LEVEL, Answer, Support, full_table

SECTIONS = ("services", "networks", "volumes", "secrets", "configs")
SHOWN = 3
"""Further places of one key that are named; more are counted."""


@dataclass(slots=True)
class Branch:
    """The table as a tree: `below` by key, NAME and []."""

    support: Support | None = None
    below: dict[str, "Branch"] = field(default_factory=dict)


@cache
def branches() -> Branch:
    """Only what is not simply carried out: nothing else needs to be looked for."""
    root = Branch()
    for path, support in full_table().items():
        if support.answer is Answer.CARRIED:
            continue
        here = root
        for key in path.replace("[]", ".[]").split("."):
            here = here.below.setdefault(key, Branch())
        here.support = support
    return root


@dataclass(slots=True)
class Said:
    """One key that has to be said, and where it stands."""

    support: Support
    place: Place
    paths: list[str]

    def __str__(self) -> str:
        what = "has no effect" if self.support.answer is Answer.IGNORED else "is carried out with a difference"
        others = self.paths[1 : 1 + SHOWN]
        rest = len(self.paths) - 1 - len(others)
        also = f" (also {', '.join(others)}{f' and {rest} more' if rest else ''})" if others else ""
        return f"{self.place}: {self.paths[0]}: {what}: {self.support.note}{also}"


def answers(document: Document, namespace: str, problems: Problems) -> list[str]:
    """Report what is refused; the warnings about the rest."""
    said: dict[int, Said] = {}
    for section in SECTIONS:
        branch = branches().below.get(section)
        if branch is None:
            continue
        for name, node in getattr(document, section).items():
            for found, path, support in _walk(node, branch.below["NAME"], ((None, section), name)):
                place = found.key_place or found.place
                if support.answer is Answer.REFUSED:
                    problems.add(place, path, f"is not supported: {support.note}")
                elif (known := said.get(id(support))) is not None:
                    known.paths.append(path_text(path))
                else:
                    said[id(support)] = Said(support, place, [path_text(path)])
    warnings = [str(one) for one in said.values()]
    if document.name is not None and document.name_place is not None and document.name != namespace:
        warnings.append(str(Said(TOP_LEVEL["name"], document.name_place, ["name"])))
    return warnings


def _walk(node: Node, branch: Branch, path: Path) -> Iterator[tuple[Node, Path, Support]]:
    if branch.support is not None and branch.support.applies(plain(node)):
        yield node, path, branch.support
        return
    if isinstance(node.value, dict):
        for key, child in node.value.items():
            if (below := branch.below.get(key) or branch.below.get("NAME")) is not None:
                yield from _walk(child, below, (path, key))
    elif isinstance(node.value, list) and (below := branch.below.get("[]")) is not None:
        for index, child in enumerate(node.value):
            yield from _walk(child, below, (path, index))
