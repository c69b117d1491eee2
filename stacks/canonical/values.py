"""Small readers of canonical data for the conversion, and the words that several parts share.

Pure: no I/O.
"""

import re
from collections.abc import Mapping
from typing import Any

NAMESPACE_LABEL = "com.docker.stack.namespace"
DEPENDS_LABEL = "com.essaim.stack.depends_on"
"""Full names of the services that a service depends on, separated by commas; removal goes by it."""
IMAGE_LABEL = "com.docker.stack.image"

REFERENCE = re.compile(
    r"(?:(?P<domain>(?:[a-zA-Z0-9-]+(?:\.[a-zA-Z0-9-]+)*|\[[0-9a-fA-F:]+\])(?::[0-9]+)?)/)?"
    r"(?P<path>[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*(?:/[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*)*)"
    r"(?::(?P<tag>[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}))?(?:@(?P<digest>[a-z0-9]+(?:[.+_-][a-z0-9]+)*:[0-9a-fA-F]{32,}))?\Z"
)


class SpecError(ValueError):
    """Says what is wrong with the value below `keys` of a service."""

    def __init__(self, message: str, *keys: str | int) -> None:
        super().__init__(message)
        self.keys = keys


def value(data: Any, *keys: str) -> Any:
    """What stands below `keys` in plain data; None where something is missing."""
    for key in keys:
        if not isinstance(data, dict):
            return None
        data = data.get(key)
    return data


def labels(own: Mapping[str, str | None] | None, **more: str) -> dict[str, str]:
    """Labels with the stack's own; a label without a value is empty."""
    return {key: text or "" for key, text in (own or {}).items()} | more


def texts(own: Mapping[str, Any] | None) -> dict[str, str] | None:
    """Options as strings; None where there are none."""
    return {key: text or "" for key, text in own.items()} if own else None


def familiar_image(image: str) -> str:
    """The image as Docker's client names it: without `docker.io/library/`, with a tag or a digest.

    Raises ValueError where it is no valid reference. An image's ID (64 hexadecimal digits) stays as it is.
    """
    if re.fullmatch(r"(sha256:)?[0-9a-f]{64}", image):
        return image
    match = REFERENCE.match(image)
    if match is None or len(image) > 512:
        raise ValueError(image)
    domain, path = match["domain"], match["path"]
    if domain is not None and not re.search(r"[.:\[]", domain) and domain != "localhost":
        # Without a dot, a port or `localhost`, the first part belongs to the path.
        if domain != domain.lower():
            raise ValueError(image)
        domain, path = None, f"{domain}/{path}"
    if domain in (None, "docker.io", "index.docker.io"):
        domain, path = None, path.removeprefix("library/") if path.count("/") == 1 else path
    name = f"{domain}/{path}" if domain else path
    tag = f":{match['tag']}" if match["tag"] else "" if match["digest"] else ":latest"
    return name + tag + (f"@{match['digest']}" if match["digest"] else "")
