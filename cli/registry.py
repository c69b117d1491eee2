"""What a registry is asked before a service is made: the image's digest and platforms, with the user's credentials.

Credentials come from docker's own client configuration (`$DOCKER_CONFIG/config.json`, `~/.docker/config.json`) and
its credential helpers, so that `docker login` serves both commands.
"""

import asyncio
import base64
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from essaim.api.client import ClientError, path_of
from essaim.cli.values.images import NAME, is_pinned, registry
from essaim.cluster.container import ContainerSpec
from essaim.cluster.service import Placement, Platform, ServiceSpec, TaskSpec

from .app import App

HUB = "https://index.docker.io/v1/"
HELPER_TIMEOUT = 10.0
AUTH_HEADER = "X-Registry-Auth"
ANSWER_WITHIN = 20.0
"""Seconds for a registry to tell a digest; without it the image is deployed as it is named."""


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
        return await ask_helper(app, str(helper), address)
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


async def ask_helper(app: App, name: str, address: str) -> dict[str, str]:
    """docker-credential-NAME get; nothing, with a word on it, where the helper does not do its part."""
    try:
        process = await asyncio.create_subprocess_exec(
            f"docker-credential-{name}",
            "get",
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
        )
    except OSError as error:
        app.warn(f"docker-credential-{name}, which keeps the credentials of {address}, cannot be run: {error.strerror}")
        return {}
    try:
        out, _ = await asyncio.wait_for(process.communicate(address.encode()), HELPER_TIMEOUT)
        found = json.loads(out)
    except TimeoutError:
        app.warn(f"docker-credential-{name} has not answered for {HELPER_TIMEOUT:g} s")
        return {}
    except ValueError:
        return {}  # it has none, which it says in words
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if found.get("Username") == "<token>":
        return {"identitytoken": found.get("Secret", ""), "serveraddress": address}
    return {"username": found.get("Username", ""), "password": found.get("Secret", ""), "serveraddress": address}


async def resolve_image(app: App, spec: ServiceSpec, headers: dict[str, str], *, quiet: bool = False) -> ServiceSpec:
    """The specification with the image pinned to its digest, when the registry answers; else a warning."""
    (found,) = await resolve_images(app, [spec], lambda _: headers, quiet=lambda _: quiet)
    return found


async def resolve_images(
    app: App,
    specs: Sequence[ServiceSpec],
    headers: Callable[[ServiceSpec], dict[str, str]],
    *,
    quiet: Callable[[ServiceSpec], bool],
) -> list[ServiceSpec]:
    """The specifications pinned. Registries are asked at the same time, for each image once: one that is slow or dead
    delays no other image."""
    asked: dict[str, asyncio.Task[Any]] = {}
    for spec in specs:
        if (image := unpinned(spec)) and image not in asked:
            asked[image] = asyncio.create_task(look_up(app, image, headers(spec)))
    await asyncio.gather(*asked.values())
    return [
        pinned(spec, image, asked[image].result(), app, quiet=quiet(spec)) if (image := unpinned(spec)) else spec
        for spec in specs
    ]


def unpinned(spec: ServiceSpec) -> str:
    """The image, with its tag, that a registry can be asked for; empty for an ID or a digest."""
    container = (spec.task_template or TaskSpec()).container_spec
    image = (container.image if container else None) or ""
    if not image or NAME.fullmatch(image) is None or is_pinned(image):
        return ""
    return image if ":" in image.rpartition("/")[2] else f"{image}:latest"


async def look_up(app: App, image: str, headers: dict[str, str]) -> Any:
    """What its registry says of an image: a descriptor, or the error."""
    client = await app.client()
    try:
        async with asyncio.timeout(ANSWER_WITHIN):
            return await client.get(path_of("distribution", image, "json"), headers=headers)
    except TimeoutError:
        return ClientError(f"the registry of {image} has not answered for {ANSWER_WITHIN:g} s")
    except ClientError as error:
        return error


def pinned(spec: ServiceSpec, image: str, found: Any, app: App, *, quiet: bool) -> ServiceSpec:
    task = spec.task_template or TaskSpec()
    container = task.container_spec or ContainerSpec()
    if isinstance(found, ClientError):
        # 501: there is no Engine that could ask a registry (the process runtime).
        if not quiet and getattr(found, "status", 0) != 501:
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
    named = replace(container, image=f"{image}@{digest}")
    return replace(spec, task_template=replace(task, container_spec=named, placement=placement))


def architecture(platform: dict[str, Any]) -> str:
    """Variants of arm do not matter to placement, as with docker."""
    name = str(platform.get("architecture") or "")
    return "" if name == "arm" else name
