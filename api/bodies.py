"""Request bodies: JSON into typed shapes, as leniently as an Engine reads it and no further.

- Keys match without regard to case (the Docker SDK relies on it), unknown keys are ignored, `null` counts as absent.
- Wrong types, numbers beyond 64 bits, deep nesting and anything that is not JSON give InvalidArgument with the place.

Pure: bytes in, values out.
"""

from collections.abc import Callable
from typing import Any, TypeVar

import msgspec
from msgspec import inspect

from essaim.cluster.errors import InvalidArgument

T = TypeVar("T")

MAX_BODY = 4 << 20
"""Bytes of one JSON body that are read at most: a config holds 1000 KiB, a third more in base64."""
MAX_DEPTH = 32
MIN_INT, MAX_INT = -(1 << 63), (1 << 63) - 1

Clean = Callable[[Any, int], Any]

_structs: dict[type, Clean] = {}


def decode(data: bytes, kind: type[T]) -> T:
    """The body as a `kind`; an empty body counts as `{}`. Raises InvalidArgument."""
    return convert(parse(data), kind)


def parse(data: bytes) -> Any:
    """Any JSON value. Raises InvalidArgument."""
    if not data.strip():
        return {}
    try:
        return msgspec.json.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InvalidArgument(f"invalid JSON: {error}") from error
    except RecursionError as error:
        raise InvalidArgument("invalid JSON: nested too deeply") from error


def convert(value: Any, kind: type[T]) -> T:
    """A parsed JSON value as a `kind`. Raises InvalidArgument."""
    cleaned = _compile(inspect.type_info(kind))(value, 0)
    try:
        return msgspec.convert(cleaned, kind, dec_hook=None)
    except msgspec.ValidationError as error:
        raise InvalidArgument(f"invalid request body: {error}") from error


def _compile(info: inspect.Type) -> Clean:
    """The function that brings a JSON value into the exact form of a type."""
    if isinstance(info, inspect.StructType):
        return _struct(info)
    if isinstance(info, inspect.UnionType):
        some = [t for t in info.types if not isinstance(t, inspect.NoneType)]
        return _compile(some[0]) if len(some) == 1 else _plain
    if isinstance(info, inspect.ListType):
        return _items(_compile(info.item_type))
    if isinstance(info, inspect.DictType):
        missing = "" if isinstance(info.value_type, inspect.StrType) else None
        return _values(_compile(info.value_type), missing)
    return _plain


def _struct(info: inspect.StructType) -> Clean:
    if info.cls not in _structs:
        fields: dict[str, tuple[str, Clean]] = {}

        def clean(value: Any, depth: int) -> Any:
            if not isinstance(value, dict):
                return value
            result = {}
            for key, item in value.items():
                found = fields.get(key.lower())
                if found and item is not None:
                    result[found[0]] = found[1](item, _deeper(depth))
            return result

        _structs[info.cls] = clean  # before its fields, since a shape may contain itself
        for field in info.fields:
            fields[field.encode_name.lower()] = (field.encode_name, _compile(field.type))
    return _structs[info.cls]


def _items(clean: Clean) -> Clean:
    def each(value: Any, depth: int) -> Any:
        return [clean(item, _deeper(depth)) for item in value] if isinstance(value, list) else value

    return each


def _values(clean: Clean, missing: Any) -> Clean:
    def each(value: Any, depth: int) -> Any:
        if not isinstance(value, dict):
            return value
        deeper = _deeper(depth)
        return {key: missing if item is None else clean(item, deeper) for key, item in value.items()}

    return each


def _plain(value: Any, depth: int) -> Any:
    """A value of a basic type, or of any: only its size and depth matter here."""
    if isinstance(value, int) and not MIN_INT <= value <= MAX_INT:
        raise InvalidArgument(f"invalid request body: the number {str(value)[:40]} does not fit into 64 bits")
    if isinstance(value, dict):
        for item in value.values():
            _plain(item, _deeper(depth))
    elif isinstance(value, list):
        for item in value:
            _plain(item, _deeper(depth))
    return value


def _deeper(depth: int) -> int:
    if depth >= MAX_DEPTH:
        raise InvalidArgument(f"invalid request body: nested deeper than {MAX_DEPTH} levels")
    return depth + 1
