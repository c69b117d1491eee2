"""`make_venv` (./demo, ./test, ./install): what kept pip from its work is said in the last lines."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A checkout with one locked package."""
    (tmp_path / "tools").mkdir()
    (tmp_path / "tools/venv.sh").write_text((ROOT / "tools/venv.sh").read_text())
    (tmp_path / "pyproject.toml").write_text("")
    (tmp_path / "lock").write_text(f"msgspec==0.0.1 --hash=sha256:{'0' * 64}\n")
    return tmp_path


def make(folder: Path, index: str, **more: str) -> str:
    """What it says of an environment that cannot be made."""
    own = {"PIP_CONFIG_FILE": os.devnull, "PIP_INDEX_URL": index, "PIP_RETRIES": "1", "PIP_NO_INDEX": "0", **more}
    for name in ("PIP_EXTRA_INDEX_URL", "PIP_FIND_LINKS"):
        own.setdefault(name, "")
    done = subprocess.run(
        ["sh", "-c", ". tools/venv.sh; make_venv .venv lock"],
        cwd=folder, env={**os.environ, **own}, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert not (folder / ".venv/.stamp").exists()
    return done.stderr


def test_make_venv_without_a_network_blames_the_network(folder: Path) -> None:
    said = make(folder, "http://user:secret@127.0.0.1:9/simple")
    assert "their index, http://127.0.0.1:9/simple, does not answer" in said
    assert "Check this machine's network" in said
    assert "secret" not in said
    assert "msgspec" not in said


def test_make_venv_of_a_package_that_the_index_lacks_quotes_pip(folder: Path) -> None:
    (folder / "simple/msgspec").mkdir(parents=True)
    (folder / "simple/msgspec/index.html").write_text("<html></html>")
    said = make(folder, f"file://{folder}/simple")
    assert "No matching distribution found for msgspec==0.0.1" in said
    assert said.splitlines()[-1] == "The Python packages of lock could not be installed; pip's reason is above."


def test_demo_in_an_environment_without_its_commands_says_what_to_do(tmp_path: Path) -> None:
    python = tmp_path / "bin/python"
    python.parent.mkdir()
    python.symlink_to(sys.executable)
    own = {**os.environ, "TMPDIR": str(tmp_path)}
    command = [python, ROOT / "examples/demo.py", "--once"]
    done = subprocess.run(command, env=own, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (1, "")
    assert f"demo: {tmp_path}/bin/essaimd is missing. Remove the folder {tmp_path}" in done.stdout
    assert [path.name for path in tmp_path.iterdir()] == ["bin"]
