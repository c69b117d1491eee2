"""No module imports, over however many others, itself; imports for type checkers and inside functions included."""

from collections.abc import Iterator, Mapping
from pathlib import Path

from .test_imports import MAY_IMPORT, ROOT, imported, modules


def graph() -> dict[str, set[str]]:
    """Module -> the modules of ours that it imports."""
    paths = {name_of(path): path for room in MAY_IMPORT for path in modules(room)}
    return {
        name: {found for found in imported(path) if found in paths and found != name} for name, path in paths.items()
    }


def name_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(["essaim", *(parts[:-1] if parts[-1] == "__init__" else parts)])


def circles(imports: Mapping[str, set[str]]) -> Iterator[list[str]]:
    """The modules in circles: what is left when those that lead nowhere, or that nobody leads to, are taken away."""
    left = dict(imports)
    while leaves := [name for name, found in left.items() if not any(other in left for other in found)]:
        for name in leaves:
            del left[name]
    while entries := [
        name for name in left if not any(name in found for other, found in left.items() if other != name)
    ]:
        for name in entries:
            del left[name]
    if left:
        yield sorted(left)


def test_no_module_imports_itself_over_others() -> None:
    assert list(circles(graph())) == []


def test_circles_finds_one_and_nothing_else() -> None:
    assert list(circles({"a": {"b"}, "b": {"c"}, "c": {"b", "d"}, "d": set()})) == [["b", "c"]]
    assert list(circles({"a": {"b"}, "b": {"c"}, "c": set()})) == []


def test_graph_sees_imports_of_type_checkers_and_of_functions() -> None:
    found = graph()
    assert len(found) > 300
    assert "essaim.cli.progress.bars" in found["essaim.cli.progress.display"]
