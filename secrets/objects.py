"""What a secret or a config may be: names, sizes, and which changes are allowed.

Pure: specifications in, an error message or nothing out (the API adds the words around it).
"""

import re

from essaim.cluster.objects import ConfigSpec, SecretSpec

MAX_SECRET = 500 << 10
MAX_CONFIG = 1000 << 10
MAX_NAME = 64
NAME = re.compile(r"[a-zA-Z0-9]+(?:[a-zA-Z0-9\-_.]*[a-zA-Z0-9])?")

NAME_RULE = (
    "invalid name, only 64 [a-zA-Z0-9-_.] characters allowed, and the start and end character must be [a-zA-Z0-9]"
)
ONLY_LABELS = "only updates to Labels are allowed"


def name_error(name: str | None) -> str | None:
    """Why this cannot be a secret's or config's name."""
    if not name:
        return "name must be provided"
    return None if len(name) <= MAX_NAME and NAME.fullmatch(name) else NAME_RULE


def secret_error(spec: SecretSpec) -> str | None:
    """Why this secret cannot be created."""
    if error := name_error(spec.name):
        return error
    if spec.driver is not None and spec.driver.name:
        return "secret data must be empty when a driver provides it" if spec.data else None
    if not spec.data or len(spec.data) >= MAX_SECRET:
        return f"secret data must be larger than 0 and less than {MAX_SECRET} bytes"
    return None


def config_error(spec: ConfigSpec) -> str | None:
    """Why this config cannot be created."""
    if error := name_error(spec.name):
        return error
    if not spec.data or len(spec.data) >= MAX_CONFIG:
        return f"config data must be larger than 0 and less than {MAX_CONFIG} bytes"
    return None


def change_error(old: SecretSpec | ConfigSpec, new: SecretSpec | ConfigSpec) -> str | None:
    """Why `old` cannot become `new`: names and contents are fixed, data may be left out of the request."""
    same_name = new.name in (None, "", old.name)
    same_data = new.data is None or new.data == (old.data or b"")
    return None if same_name and same_data else ONLY_LABELS
