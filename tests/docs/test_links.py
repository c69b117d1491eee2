"""Links between the pages lead to files and headings that are there."""

import re
from pathlib import Path

import pytest

from .test_commands_parse import NAMES, ROOT

LINK = re.compile(r"\[[^\]]+\]\((?P<target>[^)\s]+)\)")
HEADING = re.compile(r"^#+ (?P<title>.+)$", re.MULTILINE)


def anchors(page: Path) -> set[str]:
    """As GitHub makes them of headings."""
    titles = (match["title"].lower().replace("`", "") for match in HEADING.finditer(page.read_text()))
    return {re.sub(r"[^\w\- ]", "", title).strip().replace(" ", "-") for title in titles}


@pytest.mark.parametrize("name", [*NAMES, "CHANGELOG.md"])
def test_links_of_a_page_lead_somewhere(name: str) -> None:
    page = ROOT / name
    broken = []
    for match in LINK.finditer(page.read_text()):
        path, _, anchor = match["target"].partition("#")
        if "://" in path:
            continue
        target = (page.parent / path).resolve() if path else page
        if not target.exists() or (anchor and anchor not in anchors(target)):
            broken.append(match["target"])
    assert broken == []


def test_every_page_is_in_the_index() -> None:
    index = (ROOT / "docs/index.md").read_text()
    missing = [path.name for path in (ROOT / "docs").glob("*.md") if path.name not in index and path.name != "index.md"]
    assert missing == []


def test_glossary_has_under_25_entries_in_order() -> None:
    terms = re.findall(r"^\| ([a-z][^|]*) \|", (ROOT / "docs/glossary.md").read_text(), re.MULTILINE)[1:]
    assert 0 < len(terms) < 25
    assert terms == sorted(terms)
