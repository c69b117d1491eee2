"""The stock `docker` command on a socket or address of ours."""

import asyncio
import os
import subprocess
from collections.abc import Mapping
from pathlib import Path

DEADLINE = 60.0
"""Seconds: a real process on a machine that others use too."""


async def docker(
    host: str,
    config: Path,
    *words: str,
    text: bytes | None = None,
    code: int | None = 0,
    context: str = "",
    env: Mapping[str, str] | None = None,
) -> str:
    """What it prints; fails on another exit code (None: any). `config` is a folder of its own; `context` is used in
    place of `host`."""
    where = ["--context", context] if context else ["--host", host]
    process = await asyncio.create_subprocess_exec(
        "docker", *where, *words,
        stdin=subprocess.DEVNULL if text is None else subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env={"PATH": os.environ["PATH"], "DOCKER_CONFIG": str(config), **(env or {})},
    )  # fmt: skip
    async with asyncio.timeout(DEADLINE):
        output, _ = await process.communicate(text)
    shown = output.decode(errors="replace")
    assert code is None or process.returncode == code, (words, process.returncode, shown)
    return shown
