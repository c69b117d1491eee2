"""Every `sh` block of README and the pages is run, in the order of its page, on a cluster of the page's own."""

import re
import shutil
from pathlib import Path

import pytest

from .blocks import Block, blocks
from .session import Session
from .test_commands_parse import NAMES

ROOT = Path(__file__).resolve().parents[2]
BEFORE = {
    "docs/certificates.md": [
        "openssl req -x509 -newkey rsa:2048 -nodes -keyout privkey.pem -out fullchain.pem -subj /CN=shop.example.org",
        "essaim service create --detach --name shop shop:1",
    ],
}
"""What a page takes to be there already."""
pytestmark = [pytest.mark.blocking_allowed, pytest.mark.timeout(120)]


def run_blocks(name: str) -> list[Block]:
    return [block for block in blocks(name, (ROOT / name).read_text()) if block.is_run or block.file]


PAGES = [name for name in NAMES if any(block.is_run for block in run_blocks(name))]


@pytest.mark.parametrize("name", PAGES)
async def test_page_commands_succeed_in_their_order(name: str, tmp_path: Path) -> None:
    found = run_blocks(name)
    text = "".join(block.text for block in found)
    if re.search(r"^(sudo )?docker ", text, re.MULTILINE) and shutil.which("docker") is None:
        pytest.skip("the page's commands need the docker client")
    hosts = 3 if "# on the third host" in text else 2 if "# on the second host" in text else 1
    session = Session(tmp_path, hosts)
    try:
        await session.start()
        if "essaim swarm init" not in text:
            session.run_part(found[0], 0, "essaim swarm init --advertise-addr 10.0.0.1")
        for command in BEFORE.get(name, []):
            session.run_part(found[0], 0, command)
        for block in found:
            if block.file:
                session.write(block)
            else:
                await session.run(block)
    finally:
        await session.stop()
