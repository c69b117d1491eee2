"""Loading from memory: `stack_of(text)`, `document_of(text)`, `problems_of(text)`, each with files and variables."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeAlias

import pytest

from essaim.stacks.convert.convert import Stack, convert
from essaim.stacks.read.load import Document, Source, load
from essaim.stacks.source.errors import Problem, StackError


class MemoryFiles:
    def __init__(self, content: Mapping[str, str]) -> None:
        self.content = {str(Path("/project") / name): text.encode() for name, text in content.items()}

    def read(self, path: Path) -> bytes:
        if str(path) not in self.content:
            raise FileNotFoundError(2, "No such file or directory", str(path))
        return self.content[str(path)]


Load: TypeAlias = Callable[..., Document]


def load_texts(
    *texts: str,
    files: Mapping[str, str] | None = None,
    env: Mapping[str, str] | None = None,
    profiles: tuple[str, ...] | None = None,
    interpolate: bool = True,
) -> Document:
    sources = [Source(f"stack{index or ''}.yml", text) for index, text in enumerate(texts)]
    return load(sources, env or {}, Path("/project"), profiles, MemoryFiles(files or {}), interpolate)


@pytest.fixture
def document_of() -> Load:
    return load_texts


@pytest.fixture
def stack_of() -> Callable[..., Stack]:
    def stack(*texts: str, **options: Any) -> Stack:
        return convert(load_texts(*texts, **options), "ns")

    return stack


@pytest.fixture
def problems_of() -> Callable[..., list[Problem]]:
    """What is wrong with the texts; fails where nothing is."""

    def problems(*texts: str, **options: Any) -> list[Problem]:
        with pytest.raises(StackError) as caught:
            convert(load_texts(*texts, **options), "ns")
        return caught.value.problems

    return problems
