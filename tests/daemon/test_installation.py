"""What an installation consists of, as operations."""

import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from essaim.daemon.install.installation import (
    COMMANDS,
    COMPLETIONS,
    LINKS,
    STATE,
    UNIT,
    Host,
    InTheWay,
    Link,
    Remove,
    Run,
    Write,
    installing,
    uninstalling,
)

SCRIPTS = Path("/opt/essaim/current/bin")


def test_installing_anew_links_writes_and_starts() -> None:
    found = installing(Host(SCRIPTS, has_systemd=True, completions={"bash": "# bash"}))
    assert Link(LINKS / "essaimd", SCRIPTS / "essaimd") in found
    assert Write(COMPLETIONS["bash"], "# bash") in found
    assert [one.argv[1] for one in found if isinstance(one, Run)] == ["daemon-reload", "enable", "start"]
    unit = next(one.text for one in found if isinstance(one, Write) and one.path == UNIT)
    assert f"ExecStart={SCRIPTS}/essaimd $ESSAIMD_OPTIONS\n" in unit
    assert "KillMode=process\n" in unit


def test_installing_again_restarts_and_keeps_what_a_person_wrote() -> None:
    links = {name: SCRIPTS / name for name in COMMANDS}
    found = installing(Host(SCRIPTS, has_systemd=True, is_installed=True, links=links))
    assert not [one for one in found if isinstance(one, Link)]
    assert found[-1] == Run(["systemctl", "restart", "essaimd"])
    assert [one.keep for one in found if isinstance(one, Write)] == [True, False]


def test_command_of_somebody_else_is_not_replaced() -> None:
    with pytest.raises(InTheWay, match="/usr/local/bin/essaim is there already and leads to /opt/other/bin/essaim"):
        installing(Host(SCRIPTS, has_systemd=True, links={"essaim": Path("/opt/other/bin/essaim")}))


@given(st.booleans(), st.booleans(), st.sets(st.sampled_from(sorted(COMPLETIONS))))
def test_uninstalling_removes_all_that_installing_makes(systemd: bool, linked: bool, shells: set[str]) -> None:
    links = {name: SCRIPTS / name for name in COMMANDS} if linked else {}
    made = installing(Host(SCRIPTS, systemd, linked, links, dict.fromkeys(shells, "#")))
    after = Host(SCRIPTS, systemd, True, {name: SCRIPTS / name for name in COMMANDS})
    removed = {one.path for one in uninstalling(after, [Path("/opt/essaim")]) if isinstance(one, Remove)}
    assert {one.path for one in made if isinstance(one, Write | Link)} <= removed
    assert removed >= {*STATE, Path("/opt/essaim"), *(LINKS / name for name in COMMANDS)}


def test_uninstalling_leaves_links_of_others() -> None:
    links = {"essaim": Path("/opt/other/bin/essaim")}
    removed = [one.path for one in uninstalling(Host(SCRIPTS, False, links=links), []) if isinstance(one, Remove)]
    assert LINKS / "essaim" not in removed


@pytest.mark.root
def test_unit_is_one_that_systemd_takes(tmp_path: Path) -> None:
    (tmp_path / "essaimd").write_text("#!/bin/sh\n")
    (tmp_path / "essaimd").chmod(0o755)
    found = installing(Host(tmp_path, has_systemd=False, links={name: tmp_path / name for name in COMMANDS}))
    unit = next(one.text for one in found if isinstance(one, Write) and one.path == UNIT)
    (tmp_path / "essaimd.service").write_text(unit)
    command = ["systemd-analyze", "verify", str(tmp_path / "essaimd.service")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert "essaimd.service:" not in done.stderr, done.stderr
    assert done.returncode == 0, done.stderr
