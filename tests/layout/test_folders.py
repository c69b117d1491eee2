"""Inside a room, too, arrows run one way: which folder may import which, and that no two folders lean on each other.

A file at the top of a room is either ground that its folders stand on (`scheduler/loop.py`) or a roof over them
(`scheduler/leader.py`); it counts as a folder of its own here, so it cannot be both.
"""

import re
from collections import defaultdict
from collections.abc import Mapping

import pytest

from .test_cycles import circles, graph, name_of
from .test_imports import MAY_IMPORT, ROOT, modules

# room -> folder -> the folders of the room that it imports. The same lines stand in docs/architecture.md.
ARROWS: dict[str, dict[str, set[str]]] = {
    "gateway": {
        "control": {"health", "protocol", "routing", "runtime", "tls"},
        "health": {"protocol", "runtime"},
        "worker": {"http", "protocol", "routing", "runtime", "tcp", "tls", "udp", "upstream"},
        "http": {"codec", "protocol", "routing", "runtime", "tls", "upstream"},
        "tcp": {"protocol", "runtime", "upstream"},
        "udp": {"protocol", "runtime", "upstream"},
        "routing": {"codec", "protocol", "runtime"},
        "upstream": {"codec", "protocol", "runtime"},
        "tls": {"protocol", "runtime"},
        "codec": set(),
        "runtime": {"protocol"},
        "protocol": set(),
    },
    "scheduler": {
        "orchestrate": {"allocate", "place"},
        "place": {"allocate"},
        "dispatch": {"allocate", "traffic"},
        "allocate": set(),
        "traffic": set(),
    },
    "daemon": {
        "node": {"keys", "membership", "peers"},
        "membership": {"keys", "peers"},
        "peers": {"keys"},
        "keys": set(),
        "listening": set(),
        "install": set(),
    },
    "agent": {
        "keepers": {"session"},
        "tasks": {"runtime"},
        "session": {"runtime"},
        "runtime": set(),
    },
    "api": {
        "handlers": {"control", "engine", "events", "streams"},
        "engine": {"streams"},
        "events": {"streams"},
        "listen": {"streams"},
        "control": set(),
        "streams": set(),
    },
    "stacks": {
        "plan": {"canonical", "convert"},
        "convert": {"canonical", "check", "read", "source"},
        "read": {"canonical", "check", "source"},
        "check": {"canonical", "source"},
        "canonical": {"source"},
        "source": set(),
    },
    "certificates": {"acme": {"asked"}, "book": {"asked"}, "asked": set()},
    "raft": {
        "member": {"core", "disk", "transport"},
        "transport": {"core", "disk"},
        "disk": {"core"},
        "core": set(),
    },
    "cli": {
        "commands": {"output", "progress", "spec", "template", "values"},
        "output": {"template", "values"},
        "progress": set(),
        "spec": {"values"},
        "template": set(),
        "values": set(),
    },
}
FLAT = {"cluster", "configs", "network", "secrets"}


def place(module: str) -> str:
    """`essaim.room.folder.file` -> `folder/`; a file at the room's top stands for itself."""
    parts = module.split(".")[2:]
    return f"{parts[0]}/" if len(parts) > 1 or is_folder(module) else ".".join(parts)


def is_folder(module: str) -> bool:
    return (ROOT / "/".join(module.split(".")[1:])).is_dir()


def places(room: str, imports: Mapping[str, set[str]]) -> dict[str, set[str]]:
    """Folder or top file of a room -> those of the same room that it imports."""
    prefix = f"essaim.{room}."
    found: dict[str, set[str]] = defaultdict(set)
    for module, imported in imports.items():
        if module.startswith(prefix):
            here = place(module)
            found[here] |= {place(other) for other in imported if other.startswith(prefix)} - {here}
    return dict(found)


@pytest.mark.parametrize("room", sorted(MAY_IMPORT))
def test_folders_and_top_files_of_a_room_do_not_lean_on_each_other(room: str) -> None:
    assert list(circles(places(room, graph()))) == []


@pytest.mark.parametrize("room", sorted(ARROWS))
def test_folders_import_exactly_the_folders_that_the_table_names(room: str) -> None:
    found = {
        here.rstrip("/"): {other.rstrip("/") for other in others if other.endswith("/")}
        for here, others in places(room, graph()).items()
        if here.endswith("/")
    }
    assert found == ARROWS[room]


def test_every_room_is_flat_or_in_the_table() -> None:
    for room in MAY_IMPORT:
        has_folders = any(path.parent != ROOT / room for path in modules(room))
        assert has_folders == (room in ARROWS), room
        assert has_folders != (room in FLAT), room


def test_the_architecture_page_shows_the_same_arrows() -> None:
    page = (ROOT / "docs" / "architecture.md").read_text()
    for room, folders in ARROWS.items():
        shown = re.search(rf"^### `{room}/`\n(.*?)(?=^#|\Z)", page, re.MULTILINE | re.DOTALL)
        assert shown, f"docs/architecture.md has no part `### `{room}/``"
        rows = dict(re.findall(r"^\| `(\w+)/` \|[^|]*\|([^|]*)\|$", shown[1], re.MULTILINE))
        assert {folder: set(re.findall(r"`(\w+)/`", others)) for folder, others in rows.items()} == folders, room


def test_places_tells_folders_from_top_files() -> None:
    found = places("scheduler", graph())
    assert "orchestrate/" in found["leader"]
    assert "loop" in found["orchestrate/"]
    assert name_of(ROOT / "scheduler" / "leader.py") == "essaim.scheduler.leader"
