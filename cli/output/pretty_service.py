"""`service inspect --pretty`.

Pure: a service to text.
"""

from collections.abc import Mapping
from typing import Any


def service_text(service: Mapping[str, Any], networks: Mapping[str, str]) -> str:
    return f"ID:\t\t{service['ID']}\n"
