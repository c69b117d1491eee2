"""The functions of Go's templates, and those that the docker CLI adds.

Pure: values to values. Wrong arguments raise TemplateError.
"""

import html
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import quote_plus

from .json_text import dumps
from .printf import sprintf
from .syntax import TemplateError
from .values import inner, kind, show, truth


def text(value: Any, function: str) -> str:
    if not isinstance(value, str):
        raise TemplateError(f"wrong type for value of {function}; expected string; got {kind(value)}")
    return value


def join(items: Any, separator: str) -> str:
    if not isinstance(items, list | tuple):
        raise TemplateError(f"wrong type for value of join; expected []string; got {kind(items)}")
    return separator.join(str(item) for item in items)


def split(value: Any, separator: str) -> list[str]:
    return text(value, "split").split(separator) if separator else list(text(value, "split"))


def truncate(value: Any, length: int) -> str:
    return text(value, "truncate")[:length]


def pad(value: Any, before: int, after: int) -> str:
    body = text(value, "pad")
    return " " * before + body + " " * after if body else body


def index(value: Any, *keys: Any) -> Any:
    for key in keys:
        if isinstance(value, Mapping):
            value = value.get(key, "")
        elif isinstance(value, list | tuple | str) and isinstance(key, int):
            if not 0 <= key < len(value):
                raise TemplateError(f"error calling index: index out of range: {key}")
            value = ord(value[key]) if isinstance(value, str) else value[key]
        elif value is None:
            raise TemplateError("error calling index: index of untyped nil")
        else:
            raise TemplateError(f"error calling index: can't index item of type {kind(value)}")
    return value


def cut(value: Any, *bounds: int) -> Any:
    if not isinstance(value, list | tuple | str):
        raise TemplateError(f"error calling slice: can't slice item of type {kind(value)}")
    low, high = (*bounds, *((0, len(value))[len(bounds) :]))[:2]
    if not 0 <= low <= high <= len(value):
        raise TemplateError(f"error calling slice: index out of range: {high}")
    return value[low:high]


def length(value: Any) -> int:
    if not isinstance(value, str | list | tuple | Mapping):
        raise TemplateError(f"error calling len: len of type {kind(value)}")
    return len(value.encode()) if isinstance(value, str) else len(value)


def equal(first: Any, *others: Any) -> bool:
    if not others:
        raise TemplateError("error calling eq: missing argument for comparison")
    for other in others:
        if comparable(first) != comparable(other):
            raise TemplateError("error calling eq: incompatible types for comparison")
    return any(first == other for other in others)


def comparable(value: Any) -> str:
    if value is None:
        return "nil"
    return "number" if isinstance(value, int | float) and not isinstance(value, bool) else kind(value)


def ordered(test: Callable[[Any, Any], bool], name: str) -> Callable[[Any, Any], bool]:
    def compare(first: Any, second: Any) -> bool:
        if comparable(first) != comparable(second) or comparable(first) not in ("number", "string"):
            raise TemplateError(f"error calling {name}: incompatible types for comparison")
        return test(first, second)

    return compare


def title(value: Any) -> str:
    body = text(value, "title")
    return body[:1].upper() + body[1:]


FUNCTIONS: dict[str, Callable[..., Any]] = {
    "eq": equal,
    "ge": ordered(lambda a, b: a >= b, "ge"),
    "gt": ordered(lambda a, b: a > b, "gt"),
    "html": lambda value: html.escape(show(value)).replace("&quot;", "&#34;").replace("&#x27;", "&#39;"),
    "index": index,
    "join": join,
    "json": dumps,
    "le": ordered(lambda a, b: a <= b, "le"),
    "len": length,
    "lower": lambda value: text(value, "lower").lower(),
    "lt": ordered(lambda a, b: a < b, "lt"),
    "ne": lambda first, second: not equal(first, second),
    "not": lambda value: not truth(value),
    "pad": pad,
    "print": lambda *items: "".join(inner(item) for item in items),
    "printf": lambda layout, *items: sprintf(text(layout, "printf"), items),
    "println": lambda *items: " ".join(inner(item) for item in items) + "\n",
    "slice": cut,
    "split": split,
    "title": title,
    "truncate": truncate,
    "upper": lambda value: text(value, "upper").upper(),
    "urlquery": lambda value: quote_plus(show(value)),
}
