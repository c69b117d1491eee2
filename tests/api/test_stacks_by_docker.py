"""`docker stack deploy` by the stock client, of files with the shapes that public projects use: through their life."""

import shutil
from pathlib import Path

import pytest

from tests.api import docker_cli
from tests.api.conftest import Served

pytestmark = pytest.mark.root
ROOT = Path(__file__).parents[2]
FILES = sorted([*(ROOT / "tests" / "stacks" / "corpus").glob("*.yml"), ROOT / "examples" / "web.yml"])
VARIABLES = {"B": "b", "A": "a", "PASSED_ON": "yes", "HOME": "/root"}
ENCRYPTED = 'driver_opts: {encrypted: ""}'
DETACHED = ("--detach=true",)
"""Only newer clients know it, and wait without it."""


async def deploy(served: Served, path: Path) -> str:
    host, folder = f"unix://{served.socket}", served.socket.parent / "cli"
    words = ["stack", "deploy", "--compose-file", str(path), "stk"]
    shown = await docker_cli.docker(host, folder, *words, *DETACHED, code=None, env=VARIABLES)
    return await docker_cli.docker(host, folder, *words, env=VARIABLES) if "unknown flag" in shown else shown


async def docker(served: Served, line: str, code: int | None = 0) -> str:
    return await docker_cli.docker(f"unix://{served.socket}", served.socket.parent / "cli", *line.split(), code=code)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
async def test_stack_file_is_deployed_again_and_removed(scheduled: Served, path: Path) -> None:
    # What the files call external.
    await scheduled.call("POST", "/networks/create", {"Name": "edge-net", "Driver": "overlay"}, 201)
    await scheduled.call("POST", "/secrets/create", {"Name": "outside", "Data": "aGk="}, 201)
    await scheduled.call("POST", "/configs/create", {"Name": "shared-plain", "Data": "aGk="}, 201)
    text = path.read_text()
    if ENCRYPTED in text:
        # Never in the clear without a word; the rest of the file goes through.
        assert "encrypted overlay networks are not supported" in await deploy(scheduled, path)
        path = shutil.copytree(path.parent, scheduled.socket.parent / "files") / path.name
        path.write_text(text.replace(ENCRYPTED, "driver_opts: {}"))
    shown = await deploy(scheduled, path)
    assert "Creating service stk_" in shown, shown
    manager = scheduled.node.manager
    assert manager is not None
    services = {s.spec.name: s for s in manager.store.services}
    assert services
    listed = await docker(scheduled, "stack services stk --format {{.Name}}")
    assert set(listed.split()) == set(services)
    again = await deploy(scheduled, path)
    assert "Updating service stk_" in again, again
    for name, service in services.items():
        new = manager.store.services.named(name or "")
        assert new is not None
        assert new.spec_version == service.spec_version, f"an unchanged redeploy started new tasks of {name}"
    await docker(scheduled, "stack ps stk")
    await docker(scheduled, "stack rm stk")
    assert list(manager.store.services) == []
