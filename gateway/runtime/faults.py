"""Faults of the gateway's own: reported where the loop's handler puts them, and nobody else's affair."""

import asyncio


def report(message: str, error: Exception) -> None:
    asyncio.get_running_loop().call_exception_handler({"message": message, "exception": error})
