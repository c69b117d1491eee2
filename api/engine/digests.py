"""Pinning an image's digest for clients of an API before 1.30, which leave that to the manager (Portainer asks so).

Later clients ask for the digest themselves (`GET /distribution/...`), or post a tag on purpose. As in Swarm an image
that no registry knows is posted as it was named, with a warning.
"""

import asyncio
import json
from urllib.parse import quote

import msgspec

from essaim.api.node import LocalNode
from essaim.api.streams.exchange import EngineUnavailable
from essaim.cluster.service import ServiceSpec

from . import proxy

CLIENTS_PIN_FROM = (1, 30)
ASK_WITHIN = 10.0
"""Seconds for the registry's answer."""
UNKNOWN = (
    "image {image} could not be accessed on a registry to record its digest. Each node will access {image} "
    "independently, possibly leading to different nodes running different versions of the image."
)


async def pinned(node: LocalNode, spec: ServiceSpec, auth: str) -> tuple[ServiceSpec, list[str]]:
    """The specification with the digest that the registry has for its image now, and warnings."""
    template = spec.task_template
    container = template.container_spec if template else None
    image = (container.image if container else None) or ""
    if template is None or container is None or not image or "@" in image or node.engine_url is None:
        return spec, []
    digest = await _digest(node, image, auth)
    if not digest:
        return spec, [UNKNOWN.format(image=image)]
    container = msgspec.structs.replace(container, image=f"{with_tag(image)}@{digest}")
    return msgspec.structs.replace(spec, task_template=msgspec.structs.replace(template, container_spec=container)), []


def with_tag(image: str) -> str:
    """`reg:5000/a` is `reg:5000/a:latest`."""
    return image if ":" in image.rpartition("/")[2] else f"{image}:latest"


async def _digest(node: LocalNode, image: str, auth: str) -> str:
    """Empty when the Engine does not find it out."""
    headers = [("X-Registry-Auth", auth)] if auth else []
    path = f"/distribution/{quote(image, safe='/:')}/json"
    try:
        async with asyncio.timeout(ASK_WITHIN):
            head, body = await proxy.call(proxy.local(node), "GET", path, headers)
        found = json.loads(body) if head.status == 200 else {}
        return str(found["Descriptor"]["digest"])
    except (EngineUnavailable, OSError, TimeoutError, ValueError, KeyError, TypeError):
        return ""
