"""Image references as people read them: without docker.io/library, with a digest only where nothing else names it.

Pure: text to text.
"""

import re

DIGEST = re.compile(r"@[A-Za-z0-9_+.-]+:[0-9a-fA-F]{32,}$")
NAME = re.compile(
    r"(?P<name>(?:[A-Za-z0-9.-]+(?::\d+)?/)?[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*(?:/[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*)*)"
    r"(?P<tag>:[\w][\w.-]{0,127})?(?P<digest>@[A-Za-z0-9_+.-]+:[0-9a-fA-F]{32,})?"
)


def familiar(image: str) -> str:
    """`docker.io/library/redis:7@sha256:...` is `redis:7`. What has no tag stays as it is."""
    match = NAME.fullmatch(image)
    if match is None or not match["tag"]:
        return image
    return short_name(match["name"]) + str(match["tag"])


def is_pinned(image: str) -> bool:
    """It names a digest."""
    return bool(DIGEST.search(image))


def with_tag(image: str) -> str:
    """`docker.io/library/redis` is `redis:latest`; a tag or digest stays."""
    match = NAME.fullmatch(image)
    if match is None:
        return image
    name = short_name(match["name"])
    return (
        name + (match["tag"] or "") + (match["digest"] or "") if match["tag"] or match["digest"] else f"{name}:latest"
    )


def short_name(name: str) -> str:
    """Without the default registry and its library."""
    return name.removeprefix("docker.io/").removeprefix("index.docker.io/").removeprefix("library/")


def registry(image: str) -> str:
    """The registry's host; `docker.io` by default."""
    first, slash, _ = image.partition("/")
    return first if slash and ("." in first or ":" in first or first == "localhost") else "docker.io"
