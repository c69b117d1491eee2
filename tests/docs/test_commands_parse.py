"""Every command that README and the pages show is one that its program understands."""

from pathlib import Path

import pytest

from .blocks import LOOKS_LIKE_COMMANDS, Block, blocks, mentioned
from .parsing import Wrong, check, check_mention

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", ROOT / "DEVELOPERS.md", *sorted((ROOT / "docs").glob("*.md"))]
NAMES = [str(page.relative_to(ROOT)) for page in PAGES]
INFO = {"", "sh", "sh parse", "console", "text", "yaml", "python", "ini"}


def blocks_of(name: str) -> list[Block]:
    return blocks(name, (ROOT / name).read_text())


@pytest.mark.parametrize("name", NAMES)
def test_block_commands_are_parsed_by_their_programs(name: str) -> None:
    wrong = []
    for block in blocks_of(name):
        for words in block.commands():
            try:
                check(words)
            except Wrong as error:
                wrong.append(f"{name}:{block.line}: {error}")
    assert wrong == []


@pytest.mark.parametrize("name", NAMES)
def test_blocks_say_what_is_done_with_their_commands(name: str) -> None:
    for block in blocks_of(name):
        place = f"{name}:{block.line}"
        assert block.info in INFO or block.file, f"{place}: the fence says {block.info!r}, which no test knows"
        if block.language in ("", "text", "python", "yaml", "ini"):
            shown = [line for line in block.text.splitlines() if LOOKS_LIKE_COMMANDS.match(line)]
            assert shown == [], f"{place}: commands in a block that no test runs or parses: {shown}"


@pytest.mark.parametrize("name", NAMES)
def test_commands_in_sentences_exist_with_their_flags(name: str) -> None:
    wrong = []
    for text in mentioned((ROOT / name).read_text()):
        if text.endswith(" ..."):
            continue  # any command
        try:
            check_mention(text)
        except Wrong as error:
            wrong.append(str(error))
    assert wrong == []


def test_check_refuses_what_no_program_understands() -> None:
    for line in (
        ["essaim", "service", "crate", "x"], ["essaim", "service", "ls", "--frmat", "x"], ["essaim", "node", "rm"],
        ["essaimd", "--joyn", "x"], ["./install", "--jion", "x"], ["./demo", "--prot", "1"], ["./test", "tests/nope"],
        ["docker", "service", "ls", "--frmat"], ["frobnicate"], ["python", "-m", "essaim.nope"],
    ):  # fmt: skip
        with pytest.raises(Wrong):
            check(line)
    for mention in ("essaim service crate", "essaim node ls|remove-all", "essaim node ls --nope", "essaimd --nope"):
        with pytest.raises(Wrong):
            check_mention(mention)
