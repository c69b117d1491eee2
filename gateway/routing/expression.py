"""The grammar of Traefik's rules: `Host(`a.example`) && (PathPrefix(`/api`) || !Method(`GET`))`, as a tree.

`!` binds tighter than `&&`, that tighter than `||`. What a matcher means is not known here.

Rules may be long (a service with thousands of hosts) and are a user's, so nothing here calls itself: open parentheses
are a list, and nested alternatives of one kind become one node. What is left of the nesting then is bounded.

Pure: text in, a tree out.
"""

import re
from dataclasses import dataclass, field
from typing import Literal

from essaim.gateway.protocol.numbers import shown

TOKEN = re.compile(r"\s*(?:(&&|\|\||!|\(|\)|,)|([A-Za-z]+)|`([^`]*)`|\"([^\"]*)\")")
LONGEST = 256 << 10
MOST_VALUES = 5000
DEEPEST = 64


class BadRule(ValueError):
    """The rule cannot be read; the message says where."""


@dataclass(frozen=True, slots=True)
class Matcher:
    name: str
    values: list[str]
    depth: int = 0


@dataclass(frozen=True, slots=True)
class Joined:
    """`not` has one part, `and` and `or` have more than one, none of the node's own kind."""

    kind: Literal["and", "or", "not"]
    parts: "list[Node]"
    depth: int


Node = Matcher | Joined
Tokens = list[tuple[str, str]]


def join(kind: Literal["and", "or", "not"], parts: list[Node]) -> Node:
    """A node of these parts; `not` turns back what is turned already. Raises BadRule where it is too deep."""
    first = parts[0]
    if kind == "not":
        if isinstance(first, Joined) and first.kind == "not":
            return first.parts[0]
    elif len(parts) == 1:
        return first
    else:
        flat: list[Node] = []
        for part in parts:
            flat += part.parts if isinstance(part, Joined) and part.kind == kind else [part]
        parts = flat
    depth = max(part.depth for part in parts) + 1
    if depth > DEEPEST:
        raise BadRule(f"the rule is nested more than {DEEPEST} deep; give the service several routers instead")
    return Joined(kind, parts, depth)


@dataclass(slots=True)
class _Open:
    """What is read between two parentheses: finished alternatives, the conditions of the one that is read, and
    whether the next condition is turned."""

    alternatives: list[Node] = field(default_factory=list)
    conditions: list[Node] = field(default_factory=list)
    turned: bool = False

    def take(self, node: Node) -> None:
        self.conditions.append(join("not", [node]) if self.turned else node)
        self.turned = False

    def next_alternative(self) -> None:
        self.alternatives.append(join("and", self.conditions))
        self.conditions = []

    def close(self) -> Node:
        self.next_alternative()
        return join("or", self.alternatives)


def parse_expression(text: str) -> Node:
    """Raises BadRule."""
    tokens = _tokens(text)
    levels = [_Open()]
    at = 0
    operand = True
    while at < len(tokens):
        token = tokens[at]
        level = levels[-1]
        if operand:
            if token == ("sign", "!"):
                level.turned = not level.turned
            elif token == ("sign", "("):
                levels.append(_Open())
            else:
                matcher, at = _matcher(tokens, at)
                level.take(matcher)
                operand = False
                continue
        elif token in (("sign", "&&"), ("sign", "||")):
            operand = True
            if token[1] == "||":
                level.next_alternative()
        elif token == ("sign", ")") and len(levels) > 1:
            levels.pop()
            levels[-1].take(level.close())
        else:
            raise BadRule(f"{shown(token[1])} is not expected there in the rule {shown(text)}")
        at += 1
    if operand:
        raise BadRule("the rule ends where a matcher is expected")
    if len(levels) > 1:
        raise BadRule("')' is missing in the rule")
    return levels[0].close()


def _matcher(tokens: Tokens, at: int) -> tuple[Matcher, int]:
    """The matcher that begins there, and where the next token is."""
    kind, name = tokens[at]
    if kind != "name":
        raise BadRule(f"a matcher is expected instead of {shown(name)}")
    if tokens[at + 1 : at + 2] != [("sign", "(")]:
        raise BadRule("'(' is missing in the rule")
    at += 2
    values: list[str] = []
    while at < len(tokens) and tokens[at][0] == "text":
        values.append(tokens[at][1])
        at += 1
        if tokens[at : at + 1] == [("sign", ",")]:
            at += 1
    if tokens[at : at + 1] != [("sign", ")")]:
        raise BadRule("')' is missing in the rule")
    return Matcher(name, values), at + 1


def _tokens(text: str) -> Tokens:
    if len(text) > LONGEST:
        raise BadRule(f"the rule is longer than {LONGEST >> 10} KiB; give the service several routers instead")
    found: Tokens = []
    position, end = 0, len(text.rstrip())
    values = 0
    while position < end:
        token = TOKEN.match(text, position)
        if token is None:
            rest = shown(text[position : position + 20].strip())
            raise BadRule(f"the rule {shown(text)} cannot be read from {rest} on")
        sign, name, quoted, double = token.groups()
        found.append(("sign", sign) if sign else ("name", name) if name else ("text", quoted or double or ""))
        values += found[-1][0] == "text"
        if values > MOST_VALUES:
            raise BadRule(f"the rule has more than {MOST_VALUES} values; give the service several routers instead")
        position = token.end()
    return found
