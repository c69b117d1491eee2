"""How stacks mark what belongs to them.

Pure: names.
"""

NAMESPACE = "com.docker.stack.namespace"
IMAGE = "com.docker.stack.image"


def stack_filter(stack: str) -> dict[str, list[str]]:
    """The filter that finds the objects of a stack."""
    return {"label": [f"{NAMESPACE}={stack}"]}


def short_name(name: str, stack: str) -> str:
    """`web` of `shop_web`."""
    return name.removeprefix(f"{stack}_")
