"""What pyproject.toml declares for running is what the shipped code imports: no package that only tests use, none that
comes along with another by chance."""

import ast
import sys
import tomllib
from importlib.metadata import packages_distributions

from .test_imports import MAY_IMPORT, ROOT, modules

FOUND_BESIDE = {"whoami"}
"""Modules that the shipped code loads from its own folder."""


def declared() -> set[str]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return {line.partition(">")[0] for line in project["dependencies"]}


def imported_packages() -> set[str]:
    """Distributions of all imports, those in functions too."""
    names: set[str] = set()
    for path in (path for room in MAY_IMPORT for path in modules(room)):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                names |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and not node.level and node.module:
                names.add(node.module.partition(".")[0])
    found = packages_distributions()
    third = names - sys.stdlib_module_names - FOUND_BESIDE - {"essaim"}
    return {found.get(name, [f"(nothing has {name})"])[0].lower().replace("_", "-") for name in third}


def test_every_declared_package_is_imported_by_the_shipped_code_and_every_imported_one_declared() -> None:
    assert imported_packages() == declared()
