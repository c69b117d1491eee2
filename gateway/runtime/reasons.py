"""Why a connection could not be made, in words."""

import os


def explain(error: OSError) -> str:
    """The system's words for a failed connection, as `connection refused`."""
    if isinstance(error, TimeoutError):
        return "connection timed out"
    return (os.strerror(error.errno) if error.errno else str(error) or type(error).__name__).lower()
