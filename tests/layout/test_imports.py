"""The import table of docs/architecture.md, enforced: which room may import which."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

MAY_IMPORT: dict[str, set[str]] = {
    "raft": set(),
    "cluster": {"raft"},
    "secrets": {"cluster"},
    "certificates": {"cluster", "secrets"},
    "scheduler": {"cluster", "secrets"},
    "agent": {"cluster", "network", "secrets"},
    "gateway": {"cluster"},
    "configs": {"cluster", "gateway"},
    "network": {"cluster"},
    "stacks": {"cluster"},
    "api": {
        "raft",
        "cluster",
        "secrets",
        "certificates",
        "scheduler",
        "agent",
        "gateway",
        "configs",
        "network",
        "stacks",
    },
    "cli": {"cluster", "stacks", "api"},
    "daemon": {
        "raft",
        "cluster",
        "secrets",
        "certificates",
        "scheduler",
        "agent",
        "gateway",
        "configs",
        "network",
        "api",
    },
}
# A room that may use only a part of another one: (importer, imported) -> the allowed modules.
ONLY: dict[tuple[str, str], set[str]] = {
    ("cluster", "raft"): {"essaim.raft.interface"},
    ("gateway", "cluster"): {
        "essaim.cluster.booleans",
        "essaim.cluster.certificates",
        "essaim.cluster.durations",
        "essaim.cluster.routes",
        "essaim.cluster.sizes",
    },
    ("configs", "cluster"): {"essaim.cluster.routes"},
    ("configs", "gateway"): {"essaim.gateway.protocol.routes"},
    ("cli", "api"): {"essaim.api.client"},
}
# Modules that decide import none of these: time and chance come in as arguments.
IMPURE = {"asyncio", "time", "random", "socket", "secrets", "os"}


def modules(room: str) -> list[Path]:
    return sorted((ROOT / room).rglob("*.py"))


def imported(path: Path) -> set[str]:
    """Full dotted names of what a file imports, relative imports resolved."""
    package = ["essaim", *path.relative_to(ROOT).with_suffix("").parts[:-1]]
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            name = ".".join([*base, *((node.module or "").split("."))]).rstrip(".")
            found.add(name)
            found |= {f"{name}.{alias.name}" for alias in node.names}
    return found


@pytest.mark.parametrize("room", sorted(MAY_IMPORT))
def test_room_imports_only_its_allowed_rooms(room: str) -> None:
    wrong = []
    for path in modules(room):
        for name in imported(path):
            parts = name.split(".")
            if parts[0] != "essaim" or len(parts) < 2 or parts[1] == room:
                continue
            allowed = parts[1] in MAY_IMPORT[room]
            only = ONLY.get((room, parts[1]))
            if allowed and only and not any(name == o or name.startswith(o + ".") for o in only):
                allowed = any(o.startswith(name + ".") for o in only) and name.count(".") < 2
            if not allowed:
                wrong.append(f"{path.relative_to(ROOT)} imports {name}")
    assert wrong == []


def test_every_room_is_in_the_table_and_in_the_package_map() -> None:
    import tomllib

    packages = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
    assert {p.removeprefix("essaim.").split(".")[0] for p in packages} == set(MAY_IMPORT)
    for room in MAY_IMPORT:
        for path in modules(room):
            package = ".".join(["essaim", *path.relative_to(ROOT).parts[:-1]])
            assert package in packages, f"{path.relative_to(ROOT)} is in no package of pyproject.toml"


def test_secrets_room_has_no_init_so_that_the_standard_library_wins() -> None:
    assert not (ROOT / "secrets" / "__init__.py").exists()
    code = "import secrets; assert secrets.token_hex; print(secrets.__file__)"
    found = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert str(ROOT / "secrets") not in found.stdout


def pure_modules() -> list[Path]:
    """Files that open with a docstring saying `Pure:` promise to decide without I/O."""
    return [p for room in MAY_IMPORT for p in modules(room) if "\nPure: " in p.read_text()[:3000]]


def test_pure_modules_import_no_clock_no_chance_and_no_io() -> None:
    wrong = [
        f"{path.relative_to(ROOT)} imports {name}"
        for path in pure_modules()
        for name in imported(path)
        if name.split(".")[0] in IMPURE
    ]
    assert wrong == []
