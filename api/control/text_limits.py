"""What no text of a specification may hold: a NUL byte, which ends every string that a kernel or a C library reads, so
that a task could only fail on its node, each time anew.

Pure: a specification in, nothing or an error out.
"""

from typing import Any

import msgspec

from .errors import invalid


def check_texts(spec: msgspec.Struct) -> None:
    """Raises InvalidArgument naming the field."""
    _walk(msgspec.to_builtins(spec, builtin_types=(bytes,)), "")


def _walk(value: Any, path: str) -> None:
    if isinstance(value, str):
        if "\0" in value:
            raise invalid(f"{path or 'the specification'} holds a NUL byte: leave it out")
    elif isinstance(value, dict):
        for key, item in value.items():
            if "\0" in key:
                raise invalid(f"a key of {path or 'the specification'} holds a NUL byte: leave it out")
            _walk(item, f"{path}.{key}" if path else key)
    elif isinstance(value, list):
        for item in value:
            _walk(item, path)
