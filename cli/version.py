"""The version of this package."""

from importlib.metadata import PackageNotFoundError, version


def installed() -> str:
    try:
        return version("essaim")
    except PackageNotFoundError:
        return "unknown"


VERSION = installed()
