"""The syntax of Go templates: source text to a tree.

Supported: text, comments, trim markers, pipelines, variables, field chains, parentheses, string, raw-string, character
and number literals, `if`/`else if`/`else`, `range` (with variables and `else`), `with`, `break`, `continue`.
Refused by name: `define`, `template`, `block`, which one line of `--format` has no use for.

Pure: text to data. A mistake raises TemplateError.
"""

import json
import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Any


class TemplateError(Exception):
    """The template is wrong, or does not fit the data; the message is fit for a user."""


@dataclass(frozen=True, slots=True)
class Literal:
    value: Any


@dataclass(frozen=True, slots=True)
class Name:
    """A function."""

    name: str


@dataclass(frozen=True, slots=True)
class Variable:
    """`$x`; the name of `$` is empty."""

    name: str


@dataclass(frozen=True, slots=True)
class Dot:
    pass


@dataclass(frozen=True, slots=True)
class Chain:
    """Fields of a term: `.A.B` is Chain(Dot(), ("A", "B"))."""

    base: "Term"
    fields: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Pipeline:
    """Commands, the result of each being the last argument of the next; `declare` are variables to set."""

    commands: tuple[tuple["Term", ...], ...]
    declare: tuple[str, ...] = ()
    is_assignment: bool = False


Term = Literal | Name | Variable | Dot | Chain | Pipeline


@dataclass(frozen=True, slots=True)
class Text:
    text: str


@dataclass(frozen=True, slots=True)
class Output:
    pipeline: Pipeline


@dataclass(frozen=True, slots=True)
class Branch:
    """`kind` is if, with or range."""

    kind: str
    pipeline: Pipeline
    body: tuple["Node", ...]
    otherwise: tuple["Node", ...]


@dataclass(frozen=True, slots=True)
class Jump:
    """`break` or `continue`."""

    kind: str


Node = Text | Output | Branch | Jump

TOKEN = re.compile(
    r"""(?P<space>\s+)
      | (?P<string>"(?:[^"\\\n]|\\.)*")
      | (?P<raw>`[^`]*`)
      | (?P<char>'(?:[^'\\\n]|\\.)+')
      | (?P<number>[+-]?(?:0[xX][0-9a-fA-F]+|\d+(?:\.\d+)?(?:[eE][+-]?\d+)?))
      | (?P<field>\.[A-Za-z_]\w*)
      | (?P<variable>\$\w*)
      | (?P<word>[A-Za-z_]\w*)
      | (?P<assign>:=|=)
      | (?P<punct>[.|(),])""",
    re.VERBOSE,
)
CONSTANTS = {"true": True, "false": False, "nil": None}
ACTION = re.compile(r"\{\{(-(?=\s))?(.*?)((?<=\s)-)?\}\}", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Token:
    kind: str
    text: str


def parse(source: str, functions: Collection[str]) -> tuple[Node, ...]:
    """The tree of a template that may call these functions. Raises TemplateError."""
    try:
        parser = Parser(list(pieces(source)), functions)
        body, closing = parser.block()
        if closing:
            raise TemplateError(f"unexpected {{{{{closing}}}}}")
    except TemplateError as error:
        raise TemplateError(f"template: :1: {error}") from None
    return body


def pieces(source: str) -> Iterator[str | list[Token]]:
    """Text and, as lists of tokens, actions in turn; trim markers and comments are gone."""
    position, trim = 0, False
    for match in ACTION.finditer(source):
        text = source[position : match.start()]
        text = text.lstrip() if trim else text
        yield text.rstrip() if match[1] else text
        inside = match[2].strip()
        if not (inside.startswith("/*") and inside.endswith("*/")):
            yield tokens(inside)
        trim, position = bool(match[3]), match.end()
    rest = source[position:]
    if "{{" in rest:
        raise TemplateError("unclosed action")
    yield rest.lstrip() if trim else rest


def tokens(text: str) -> list[Token]:
    """Tokens; a `space` is kept only where it tells `.A .B` from `.A.B`."""
    found: list[Token] = []
    position = 0
    while position < len(text):
        match = TOKEN.match(text, position)
        if match is None or match.lastgroup is None:
            raise TemplateError(f"unexpected {text[position]!r} in action")
        found.append(Token(match.lastgroup, match[0]))
        position = match.end()
    return found


def literal(token: Token) -> Any:
    try:
        match token.kind:
            case "string":
                return unquote(token.text)
            case "raw":
                return token.text[1:-1]
            case "char":
                return ord(unquote('"' + token.text[1:-1].replace('"', '\\"').replace("\\'", "'") + '"'))
            case _:
                return int(token.text, 0) if re.fullmatch(r"[+-]?(0[xX].*|\d+)", token.text) else float(token.text)
    except (ValueError, TypeError):
        raise TemplateError(f"bad literal {token.text}") from None


def unquote(text: str) -> str:
    """A Go string literal: JSON's escapes and \\x, \\a, \\v."""
    text = re.sub(r"\\x([0-9a-fA-F]{2})", r"\\u00\1", text)
    text = re.sub(r"\\([av])", lambda match: {"a": "\\u0007", "v": "\\u000b"}[match[1]], text)
    return str(json.loads(text, strict=False))


class Parser:
    """A recursive-descent parser over the pieces of a template."""

    def __init__(self, source: list[str | list[Token]], functions: Collection[str]) -> None:
        self._source = source
        self._functions = functions
        self._rest: list[Token] = []
        self._next = 0

    def block(self) -> tuple[tuple[Node, ...], str]:
        """Nodes up to `end` or `else`, and which of them (with what follows `else`) closed the block."""
        nodes: list[Node] = []
        while self._next < len(self._source):
            piece = self._source[self._next]
            self._next += 1
            if isinstance(piece, str):
                if piece:
                    nodes.append(Text(piece))
                continue
            word = piece[0].text if piece and piece[0].kind == "word" else ""
            if word in ("end", "else"):
                self._rest = strip(piece[1:])
                return tuple(nodes), word
            nodes.append(self._action(word, piece))
        return tuple(nodes), ""

    def _action(self, word: str, piece: list[Token]) -> Node:
        if not strip(piece):
            raise TemplateError("missing value for command")
        if word in ("if", "with", "range"):
            return self._branch(word, piece[1:])
        if word in ("break", "continue"):
            return Jump(word)
        if word in ("define", "template", "block"):
            raise TemplateError(f"{{{{{word}}}}} is not supported")
        return Output(self._pipeline(piece))

    def _pipeline(self, items: list[Token], *, in_range: bool = False) -> Pipeline:
        for item in items:
            if item.kind == "word" and item.text not in CONSTANTS and item.text not in self._functions:
                raise TemplateError(f'function "{item.text}" not defined')
        return pipeline(items, in_range=in_range)

    def _branch(self, kind: str, condition: list[Token]) -> Branch:
        test = self._pipeline(condition, in_range=kind == "range")
        body, closing = self.block()
        otherwise: tuple[Node, ...] = ()
        if closing == "else":
            rest = self._rest
            if rest and rest[0].text in ("if", "with"):
                return Branch(kind, test, body, (self._branch(rest[0].text, rest[1:]),))
            if rest:
                raise TemplateError(f"unexpected {rest[0].text!r} after else")
            otherwise, closing = self.block()
        if closing != "end":
            raise TemplateError(f"missing {{{{end}}}} of {{{{{kind}}}}}")
        return Branch(kind, test, body, otherwise)


def strip(items: list[Token]) -> list[Token]:
    return [item for item in items if item.kind != "space"]


def pipeline(items: list[Token], *, in_range: bool = False) -> Pipeline:
    declare, assignment, rest = declaration(items, in_range=in_range)
    terms = Terms(rest)
    found = terms.pipeline()
    if terms.left:
        raise TemplateError(f"unexpected {terms.left.text!r} in action")
    return Pipeline(found.commands, declare, assignment)


def declaration(items: list[Token], *, in_range: bool) -> tuple[tuple[str, ...], bool, list[Token]]:
    """(`$a`, `$b`) of `$a, $b := ...`, whether it is `=`, and the rest."""
    solid = strip(items)
    sign = next((place for place, item in enumerate(solid) if item.kind == "assign"), None)
    if sign is None:
        return (), False, items
    names = [item.text[1:] for item in solid[:sign] if item.kind == "variable"]
    shape = [item.kind if item.kind == "variable" else item.text for item in solid[:sign]]
    if shape != ["variable"] and not (in_range and shape == ["variable", ",", "variable"]):
        raise TemplateError("a variable is declared as $name := value")
    cut = next(place for place, item in enumerate(items) if item.kind == "assign")
    return tuple(names), solid[sign].text == "=", items[cut + 1 :]


class Terms:
    """Commands and operands out of a token list."""

    def __init__(self, items: list[Token]) -> None:
        self._items = items
        self._next = 0

    @property
    def left(self) -> Token | None:
        self._skip()
        return self._items[self._next] if self._next < len(self._items) else None

    def _skip(self) -> None:
        while self._next < len(self._items) and self._items[self._next].kind == "space":
            self._next += 1

    def pipeline(self) -> Pipeline:
        commands = [self.command()]
        while (token := self.left) and token.text == "|":
            self._next += 1
            commands.append(self.command())
        return Pipeline(tuple(commands))

    def command(self) -> tuple[Term, ...]:
        operands: list[Term] = []
        while (token := self.left) and not (token.kind == "punct" and token.text in "|),"):
            operands.append(self.operand(token))
        if not operands:
            raise TemplateError("missing value for command")
        return tuple(operands)

    def operand(self, token: Token) -> Term:
        self._next += 1
        base: Term
        if token.kind == "field":
            return self.chain(Dot(), (token.text[1:],))
        if token.text == "(" and token.kind == "punct":
            base = self.pipeline()
            closing = self.left
            if closing is None or closing.text != ")":
                raise TemplateError("unclosed left paren")
            self._next += 1
        elif token.text == "." and token.kind == "punct":
            base = Dot()
        elif token.kind == "variable":
            base = Variable(token.text[1:])
        elif token.kind == "word":
            return Literal(CONSTANTS[token.text]) if token.text in CONSTANTS else Name(token.text)
        elif token.kind in ("string", "raw", "char", "number"):
            return Literal(literal(token))
        else:
            raise TemplateError(f"unexpected {token.text!r} in operand")
        return self.chain(base, ())

    def chain(self, base: Term, fields: tuple[str, ...]) -> Term:
        """Fields that follow without a space."""
        while self._next < len(self._items) and self._items[self._next].kind == "field":
            fields += (self._items[self._next].text[1:],)
            self._next += 1
        return Chain(base, fields) if fields else base
