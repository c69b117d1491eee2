"""Variables in values: `$VAR`, `${VAR}`, `:-` `-` `:?` `?` `:+` `+`, nested to any sensible depth, `$$` for a dollar.

Only strings that stand as values are substituted, never keys. What a variable brings in is not substituted again,
and stays a string: `${MODE}` with 0644 is not a number.

Pure: variables come in as a mapping.
"""

import re
from collections.abc import Mapping

from essaim.stacks.source.errors import Place
from essaim.stacks.source.tree import Node, Path, Problems

NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
OPERATORS = (":-", ":?", ":+", "-", "?", "+")
MAX_NESTING = 20
MAX_LENGTH = 1024 * 1024


class InterpolationError(Exception):
    """The text after `what` says what is wrong with the expression."""


class Interpolator:
    """Substitutes from `variables`; `unset` collects the names that had no value and no default, each with its first
    place where that is known."""

    def __init__(self, variables: Mapping[str, str]) -> None:
        self.variables = variables
        self.unset: dict[str, Place | None] = {}

    def substitute(self, text: str) -> str:
        """The text with its variables replaced. Raises InterpolationError."""
        if "$" not in text:
            return text
        result, position = self._scan(text, 0, 0)
        if position != len(text):
            raise InterpolationError(f'unexpected "}}" in "{text}"')
        return result

    def _scan(self, text: str, position: int, depth: int) -> tuple[str, int]:
        """Substitute up to the end, or inside braces (`depth` > 0) up to the closing one."""
        parts: list[str] = []
        while position < len(text):
            char = text[position]
            if char == "}" and depth:
                break
            if char != "$":
                end = position + 1
                while end < len(text) and text[end] not in "$}":
                    end += 1
                if not depth and end < len(text) and text[end] == "}":
                    end += 1
                parts.append(text[position:end])
                position = end
                continue
            part, position = self._dollar(text, position, depth)
            parts.append(part)
        return "".join(parts), position

    def _dollar(self, text: str, position: int, depth: int) -> tuple[str, int]:
        following = text[position + 1 : position + 2]
        if following == "$":
            return "$", position + 2
        if following == "{":
            return self._braces(text, position + 2, depth + 1)
        match = NAME.match(text, position + 1)
        if match is None:
            raise InterpolationError(f'"{text[position : position + 12]}" is no variable; write $$ for a dollar sign')
        return self._value(match[0]), match.end()

    def _braces(self, text: str, position: int, depth: int) -> tuple[str, int]:
        if depth > MAX_NESTING:
            raise InterpolationError(f"variables are nested deeper than {MAX_NESTING} levels")
        match = NAME.match(text, position)
        if match is None:
            raise InterpolationError(f'"${{{text[position : position + 12]}" has no variable name')
        name, position = match[0], match.end()
        if text[position : position + 1] == "}":
            return self._value(name), position + 1
        operator = next((o for o in OPERATORS if text.startswith(o, position)), None)
        if operator is None:
            if position >= len(text):
                raise InterpolationError(f'"${{{name}" has no closing brace')
            raise InterpolationError(
                f'"{text[position]}" after "${{{name}" is no operator; allowed: {" ".join(OPERATORS)}'
            )
        position += len(operator)
        taken = self._takes_word(name, operator)
        word, end = self._word(text, position, depth, taken)
        if text[end : end + 1] != "}":
            raise InterpolationError(f'"${{{name}{operator}" has no closing brace')
        if not taken:
            return ("" if operator in (":+", "+") else self.variables[name]), end + 1
        if operator in (":?", "?"):
            raise InterpolationError(f"the variable {name} is required{': ' + word if word else ' and has no value'}")
        return word, end + 1

    def _word(self, text: str, position: int, depth: int, taken: bool) -> tuple[str, int]:
        """The operator's right side. One that is not taken must not fail or be reported as unset."""
        if taken:
            return self._scan(text, position, depth)
        return _Skipping().skip(text, position, depth)

    def _takes_word(self, name: str, operator: str) -> bool:
        value = self.variables.get(name)
        present = bool(value) if operator[0] == ":" else value is not None
        return present if operator in (":+", "+") else not present

    def _value(self, name: str) -> str:
        value = self.variables.get(name)
        if value is None:
            self.unset.setdefault(name)
            return ""
        return value


class _Skipping(Interpolator):
    """Walks over an expression without evaluating it: every variable is empty and none is required."""

    def __init__(self) -> None:
        super().__init__({})

    def skip(self, text: str, position: int, depth: int) -> tuple[str, int]:
        return self._scan(text, position, depth)

    def _takes_word(self, name: str, operator: str) -> bool:
        return operator in (":-", "-")

    def _braces(self, text: str, position: int, depth: int) -> tuple[str, int]:
        # `:?` and `:+` do not take their word here, and have no value to fall back on.
        self.variables = _Everything()
        return super()._braces(text, position, depth)


class _Everything(dict[str, str]):
    def __missing__(self, key: str) -> str:
        return ""


def interpolate(node: Node, interpolator: Interpolator, problems: Problems, path: Path = None) -> Node:
    """The tree with all string values substituted; subtrees without variables are shared with the original."""
    value = node.value
    if type(value) is str:
        return _interpolate_text(node, interpolator, problems, path) if "$" in value else node
    if type(value) is dict:
        children = {key: interpolate(child, interpolator, problems, (path, key)) for key, child in value.items()}
        if all(children[key] is child for key, child in value.items()):
            return node
        return node.like(children)
    if type(value) is list:
        items = [interpolate(child, interpolator, problems, (path, index)) for index, child in enumerate(value)]
        return node if all(new is old for new, old in zip(items, value, strict=True)) else node.like(items)
    return node


def _interpolate_text(node: Node, interpolator: Interpolator, problems: Problems, path: Path) -> Node:
    try:
        text = interpolator.substitute(node.value)
    except InterpolationError as error:
        problems.add(node.place, path, f"cannot substitute variables: {error}")
        return node
    for name, place in interpolator.unset.items():
        interpolator.unset[name] = place or node.place
    if len(text) > MAX_LENGTH:
        problems.add(node.place, path, "the value is longer than 1 MiB after substitution")
        return node
    return node.like(text)
