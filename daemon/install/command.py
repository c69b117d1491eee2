"""`essaim-install`: makes essaim a service of this host, brings it to this version, or takes it away again.

`./install` in a checkout makes the Python environment and then calls this; with pipx or uv it is called by hand:
`sudo env "PATH=$PATH" essaim-install`.
"""

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

import click

from .installation import COMMANDS, LINKS, UNIT, Host, InTheWay, Link, Operation, Remove, Run, Write, installing
from .installation import uninstalling as taking_away

SOCKET = Path("/run/essaim/essaim.sock")
UP_WITHIN = 30.0
"""Seconds for the daemon to answer after it was started."""
ENVIRONMENTS = Path("/opt/essaim")
NOT_A_MEMBER = "not part of a swarm"


class Failed(click.ClickException):
    """What could not be done, and what to do about it."""


def gather() -> Host:
    scripts = Path(sys.prefix) / "bin"
    if ENVIRONMENTS in scripts.parents:
        scripts = ENVIRONMENTS / "current" / "bin"
    links = {}
    for name in COMMANDS:
        path = LINKS / name
        if path.is_symlink():
            links[name] = path.readlink()
        elif path.exists() and scripts != LINKS:
            links[name] = path
    return Host(
        scripts=scripts,
        has_systemd=Path("/run/systemd/system").is_dir() and shutil.which("systemctl") is not None,
        is_installed=UNIT.exists(),
        links=links,
        completions={shell: completion(scripts, shell) for shell in ("bash", "zsh", "fish")},
    )


def completion(scripts: Path, shell: str) -> str:
    done = subprocess.run([scripts / "essaim", "completion", shell], capture_output=True, text=True, check=False)
    if done.returncode:
        raise Failed(f"{scripts / 'essaim'} does not run: {done.stderr.strip()}")
    return done.stdout


def carry_out(operations: list[Operation], *, dry_run: bool) -> None:
    for operation in operations:
        click.echo(f"  {operation}")
        if not dry_run:
            try:
                carry_out_one(operation)
            except OSError as error:
                raise Failed(f"cannot {operation}: {error.strerror or error}") from error


def carry_out_one(operation: Operation) -> None:
    match operation:
        case Write(path, text, keep):
            if keep and path.exists():
                return
            path.parent.mkdir(parents=True, exist_ok=True)
            fresh = path.with_name(path.name + ".new")
            fresh.write_text(text)
            fresh.chmod(0o644)
            fresh.rename(path)
        case Link(path, target):
            path.parent.mkdir(parents=True, exist_ok=True)
            fresh = path.with_name(path.name + ".new")
            fresh.unlink(missing_ok=True)
            fresh.symlink_to(target)
            fresh.rename(path)
        case Remove(path):
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)
        case Run(argv, must):
            done = subprocess.run(argv, capture_output=True, text=True, check=False)
            if done.returncode and must:
                raise Failed(f"`{' '.join(argv)}` failed: {(done.stderr or done.stdout).strip()}")


def wait_until_up() -> None:
    deadline = time.monotonic() + UP_WITHIN
    while time.monotonic() < deadline:
        with socket.socket(socket.AF_UNIX) as probe, contextlib.suppress(OSError):
            probe.connect(str(SOCKET))
            return
        time.sleep(0.1)
    raise Failed(f"essaimd was started and does not answer within {UP_WITHIN:.0f} s. See: journalctl -u essaimd -n 50")


def essaim(host: Host, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [str(host.scripts / "essaim"), "--host", f"unix://{SOCKET}", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=180)


def join(host: Host, address: str, token: str) -> None:
    if not host.has_systemd:
        raise Failed(f"this host is not run by systemd, so essaimd was not started: start it with --join {address}")
    wait_until_up()
    done = essaim(host, "swarm", "join", "--token", token, address)
    if done.returncode and "already part of a swarm" not in done.stderr:
        raise Failed(f"this node could not join {address}: {done.stderr.strip()}")
    click.echo(done.stdout.strip() or f"This node is part of a swarm already; it did not join {address}.")


def leave(host: Host, *, force: bool) -> None:
    """Before the daemon is taken away. Raises Failed where that would harm the cluster and was not forced."""
    if not SOCKET.exists():
        return
    done = essaim(host, "swarm", "leave", *(["--force"] if force else []))
    said = done.stderr.strip()
    if done.returncode and NOT_A_MEMBER not in said and "Cannot connect" not in said and not force:
        raise Failed(
            f"this node cannot leave its cluster: {said}\nDemote it first (`essaim node demote` on another manager), "
            "or add --force to take it away all the same"
        )


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--join", "address", default="", metavar="HOST:2377", help="Join the cluster of this manager.")
@click.option("--token", default="", envvar="ESSAIM_JOIN_TOKEN", help="The token to join with.")
@click.option("--upgrade", is_flag=True, help="Bring an installation to this version; tasks go on meanwhile.")
@click.option("--uninstall", is_flag=True, help="Leave the cluster and remove everything, the node's state included.")
@click.option("--force", is_flag=True, help="With --uninstall: also a manager that the cluster still counts on.")
@click.option("--dry-run", is_flag=True, help="Print what would be done.")
def main(address: str, token: str, upgrade: bool, uninstall: bool, force: bool, dry_run: bool) -> None:
    """Make essaim a service of this host."""
    if os.geteuid() != 0 and not dry_run:
        raise Failed("essaim is installed by root: run it with sudo")
    if bool(address) != bool(token) and not uninstall:
        raise Failed("--join and --token go together; `essaim swarm join-token worker` on a manager prints both")
    host = gather()
    if uninstall:
        if not dry_run:
            leave(host, force=force)
        environments = [ENVIRONMENTS] if ENVIRONMENTS in host.scripts.parents else []
        carry_out(taking_away(host, environments), dry_run=dry_run)
        click.echo("essaim is gone from this host." if environments else "essaim is no service of this host any more.")
        return
    if upgrade and not host.is_installed:
        raise Failed("essaim is not installed on this host: install it without --upgrade")
    try:
        carry_out(installing(host), dry_run=dry_run)
    except InTheWay as error:
        raise Failed(str(error)) from None
    if not dry_run:
        finish(host, address, token)


def finish(host: Host, address: str, token: str) -> None:
    if address:
        join(host, address, token)
    elif host.has_systemd:
        wait_until_up()
        click.echo("essaimd runs. Make a cluster with `essaim swarm init`, or join one with `essaim swarm join`.")
    else:
        click.echo("This host is not run by systemd: start `essaimd` as root by the means that it has.")
