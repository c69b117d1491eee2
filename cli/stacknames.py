"""How stacks mark what belongs to them.

Pure: names.
"""

import re

NAMESPACE = "com.docker.stack.namespace"
IMAGE = "com.docker.stack.image"


def stack_filter(stack: str) -> dict[str, list[str]]:
    """The filter that finds the objects of a stack."""
    return {"label": [f"{NAMESPACE}={stack}"]}


def short_name(name: str, stack: str) -> str:
    """`web` of `shop_web`."""
    return name.removeprefix(f"{stack}_")


def check_name(name: str) -> str:
    """A stack's name begins the names of its services. Raises ValueError."""
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]*", name):
        raise ValueError(
            f'invalid stack name: "{name}": letters, digits, - and _ are allowed, the first a letter or digit'
        )
    return name
