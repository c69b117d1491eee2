"""Images for the tests' services."""

from pathlib import Path

from tests.lab.images import Image, busybox_image, python_image

ROOT = Path(__file__).parents[2]


def whoami() -> Image:
    """What ./demo builds, from the same source."""
    source = ROOT / "agent" / "runtime" / "whoami.py"
    return python_image("essaim/whoami:latest", ["python3", "/whoami.py"], {"/whoami.py": source})


def redis() -> Image:
    """The name in the course's example of a secret; what counts there is the file, not the server."""
    return busybox_image("redis:alpine", ["sleep", "infinity"])
