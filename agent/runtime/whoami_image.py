"""Builds the image `essaim/whoami:latest` on a Docker Engine, without a registry and within seconds.

    python -m essaim.agent.runtime.whoami_image [--engine unix:///var/run/docker.sock]

The root file system holds this machine's Python, the modules that whoami.py loads, the shared libraries of both, and
whoami.py itself: 20 to 40 MB, most of it the interpreter. It goes as a tar archive to `POST /images/create?fromSrc=-`.
"""

import argparse
import asyncio
import io
import json
import os
import subprocess
import sys
import tarfile
from collections.abc import AsyncGenerator, Iterable
from pathlib import Path

from essaim.agent.runtime.docker.engine import Engine, EngineError, json_lines
from essaim.cluster.engine_address import DEFAULT_ENGINE

from . import whoami
from .interface import Rejected, RuntimeUnavailable

TAG = "latest"
REPOSITORY = "essaim/whoami"
PROGRAM = "/whoami.py"
BUILD_WITHIN = 60.0
PIECE = 1 << 18
# Loaded only when a name is resolved (asyncio does that in a thread), or text is decoded.
LATER = [
    "concurrent.futures.thread",
    "encodings.idna",
    "encodings.latin_1",
    "encodings.ascii",
    "encodings.utf_8",
    "stringprep",
    "unicodedata",
]
_LISTER = f"""
import importlib, os, sys
sys.path.insert(0, sys.argv[1])
importlib.import_module("whoami")
for name in {LATER!r}: importlib.import_module(name)
for module in list(sys.modules.values()):
    path = getattr(module, "__file__", None)
    if path and not path.startswith(sys.argv[1]): print(path)
"""


def root_file_system() -> bytes:
    """The tar archive. Blocks; starts Python and ldd."""
    python = Path(_python())
    source = Path(whoami.__file__)
    listed = subprocess.run(
        [python, "-I", "-S", "-c", _LISTER, source.parent], capture_output=True, text=True, check=True
    )
    modules = [Path(line) for line in listed.stdout.splitlines()]
    programs = [python, *(path for path in modules if path.suffix == ".so")]
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for folder in ("etc", "proc", "sys", "dev", "run", "tmp"):
            _folder(archive, folder)
        _file(archive, "etc/passwd", b"root:x:0:0:root:/:/bin/false\n")
        for path in sorted({*programs, *modules, *_libraries(programs)}):
            _file(archive, str(path), path.read_bytes(), path.stat().st_mode & 0o777)
        _file(archive, PROGRAM, source.read_bytes())
    return buffer.getvalue()


class NotBuilt(Exception):
    """The message says why, and is fit for a user."""


def build(url: str = "") -> None:
    """Make the image on the Engine at `url` (default: DOCKER_HOST, or the usual socket). Raises NotBuilt. Blocks."""
    try:
        asyncio.run(_build_at(url or os.environ.get("DOCKER_HOST") or DEFAULT_ENGINE))
    except (Rejected, EngineError, RuntimeUnavailable, ValueError) as error:
        raise NotBuilt(f"the image {REPOSITORY}:{TAG} could not be built: {error}") from error


async def build_image(engine: Engine) -> None:
    """Make the image on the Engine. Raises Rejected, EngineError, RuntimeUnavailable."""
    archive = await asyncio.to_thread(root_file_system)
    command = json.dumps([_python(), "-I", "-S", PROGRAM])
    params = [("fromSrc", "-"), ("repo", REPOSITORY), ("tag", TAG)]
    params += [("changes", f"CMD {command}"), ("changes", "EXPOSE 80")]
    async with engine.stream(
        "POST",
        "/images/create",
        params=params,
        data=_pieces(archive),
        headers={"Content-Type": "application/x-tar"},
        timeout=BUILD_WITHIN,
    ) as response:
        async for line in json_lines(response):
            if "error" in line:
                raise Rejected(str(line["error"]))


def _python() -> str:
    return os.path.realpath(sys.executable)


async def _pieces(data: bytes) -> AsyncGenerator[bytes, None]:
    for start in range(0, len(data), PIECE):
        yield data[start : start + PIECE]


def _libraries(programs: Iterable[Path]) -> set[Path]:
    """What the loader needs for the programs, the loader included, by the paths it looks under."""
    listed = subprocess.run(["ldd", *programs], capture_output=True, text=True, check=False).stdout
    words = [word for line in listed.splitlines() if line.startswith("\t") for word in line.split()]
    return {Path(word) for word in words if word.startswith("/")}


def _folder(archive: tarfile.TarFile, name: str) -> None:
    info = tarfile.TarInfo(name)
    info.type, info.mode = tarfile.DIRTYPE, 0o1777 if name == "tmp" else 0o755
    archive.addfile(info)


def _file(archive: tarfile.TarFile, name: str, data: bytes, mode: int = 0o644) -> None:
    info = tarfile.TarInfo(name.lstrip("/"))
    info.size, info.mode = len(data), mode
    archive.addfile(info, io.BytesIO(data))


async def _build_at(url: str) -> None:
    async with Engine(url) as engine:
        await build_image(engine)


def main() -> None:
    parser = argparse.ArgumentParser(description="Build essaim/whoami:latest on a Docker Engine")
    parser.add_argument("--engine", default="", help=f"URL of the Engine (default: DOCKER_HOST, or {DEFAULT_ENGINE})")
    try:
        build(parser.parse_args().engine)
    except NotBuilt as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
