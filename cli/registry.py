"""What a registry is asked before a service is made: the image's digest and platforms, with the user's credentials.

Credentials come from docker's own client configuration (`$DOCKER_CONFIG/config.json`, `~/.docker/config.json`) and
its credential helpers, so that `docker login` serves both commands.
"""

import asyncio
import base64
import json
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from essaim.api.client import ClientError, path_of
from essaim.cluster.service import Placement, Platform, ServiceSpec, TaskSpec

from .app import App
from .values.images import NAME, is_pinned, registry

HUB = "https://index.docker.io/v1/"
HELPER_TIMEOUT = 10.0
AUTH_HEADER = "X-Registry-Auth"


async def auth_headers(app: App, image: str, *, wanted: bool) -> dict[str, str]:
    """The header that hands credentials on, when they are wanted."""
    if not wanted:
        return {}
    found = await credentials(app, registry(image))
    encoded = base64.urlsafe_b64encode(json.dumps(found, separators=(",", ":")).encode()).decode()
    return {AUTH_HEADER: encoded}


async def credentials(app: App, host: str) -> dict[str, str]:
    """What docker knows for a registry; empty when it knows nothing."""
    settings = await asyncio.to_thread(load_settings, config_file(app))
    address = HUB if host == "docker.io" else host
    helper = (settings.get("credHelpers") or {}).get(address) or settings.get("credsStore")
    if helper:
        return await ask_helper(str(helper), address)
    entry: dict[str, str] = next(
        (value for key, value in (settings.get("auths") or {}).items() if key in (address, f"https://{host}", host)), {}
    )
    if encoded := entry.get("auth"):
        user, _, password = base64.b64decode(encoded).decode(errors="replace").partition(":")
        return {"username": user, "password": password, "serveraddress": address}
    if token := entry.get("identitytoken"):
        return {"identitytoken": token, "serveraddress": address}
    return {}


def config_file(app: App) -> Path:
    folder = app.environment.get("DOCKER_CONFIG")
    return (Path(folder) if folder else Path(app.environment.get("HOME", "/")) / ".docker") / "config.json"


def load_settings(path: Path) -> dict[str, Any]:
    """A missing or unreadable configuration is an empty one."""
    try:
        found = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


async def ask_helper(name: str, address: str) -> dict[str, str]:
    """docker-credential-NAME get."""
    try:
        process = await asyncio.create_subprocess_exec(
            f"docker-credential-{name}",
            "get",
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
        )
    except OSError:
        return {}
    try:
        out, _ = await asyncio.wait_for(process.communicate(address.encode()), HELPER_TIMEOUT)
        found = json.loads(out)
    except (TimeoutError, ValueError):
        return {}
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if found.get("Username") == "<token>":
        return {"identitytoken": found.get("Secret", ""), "serveraddress": address}
    return {"username": found.get("Username", ""), "password": found.get("Secret", ""), "serveraddress": address}


async def resolve_image(app: App, spec: ServiceSpec, headers: dict[str, str], *, quiet: bool = False) -> ServiceSpec:
    """The specification with the image pinned to its digest, when the registry answers; else a warning."""
    task = spec.task_template or TaskSpec()
    container = task.container_spec
    if container is None or not container.image or NAME.fullmatch(container.image) is None:
        return spec
    if is_pinned(container.image):
        return spec
    image = container.image if ":" in container.image.rpartition("/")[2] else f"{container.image}:latest"
    client = await app.client()
    try:
        found = await client.get(path_of("distribution", image, "json"), headers=headers)
    except ClientError as error:
        # 501: there is no Engine that could ask a registry (the process runtime).
        if not quiet and getattr(error, "status", 0) != 501:
            app.warn(
                f"image {container.image} could not be accessed on a registry to record",
                f"its digest. Each node will access {container.image} independently,",
                "possibly leading to different nodes running different",
                "versions of the image.\n",
            )
        return spec
    digest = ((found or {}).get("Descriptor") or {}).get("digest")
    if not digest:
        return spec
    platforms = [
        Platform(architecture=architecture(item), os=item.get("os") or "") for item in found.get("Platforms") or []
    ]
    placement = replace(task.placement or Placement(), platforms=platforms or None)
    pinned = replace(container, image=f"{image}@{digest}")
    return replace(spec, task_template=replace(task, container_spec=pinned, placement=placement))


def architecture(platform: dict[str, Any]) -> str:
    """Variants of arm do not matter to placement, as with docker."""
    name = str(platform.get("architecture") or "")
    return "" if name == "arm" else name
