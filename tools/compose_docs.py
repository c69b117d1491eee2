"""Writes docs/compose.md from the table in stacks/check/support.py; `--check` only compares."""

import sys
from pathlib import Path

from essaim.stacks.check.support import document

TARGET = Path(__file__).parents[1] / "docs" / "compose.md"

if __name__ == "__main__":
    if "--check" in sys.argv:
        sys.exit(TARGET.read_text() != document())
    TARGET.write_text(document())
