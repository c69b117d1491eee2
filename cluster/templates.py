"""Swarm's placeholders: the language of a task's environment, mounts and host name, and of templated files.

The part of Go's template language that Swarm's documentation shows: fields (`{{.Task.Slot}}`), `index` into labels,
and in templated secrets and configs also `{{secret "x"}}`, `{{config "x"}}` and `{{env "X"}}`. Rejected: a whole
template engine; a language in which a service's specification can loop is not wanted on a node.

A node fills in with `expand`; `check` tries the same with the values of no task, so that whoever takes a specification
refuses what no node could fill in. A text is read whole before anything is evaluated, as in Go: of two mistakes the
one that is seen by reading is told.

Pure: no I/O, no clock.
"""

import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

Functions = Mapping[str, Callable[[str], str]]

SHAPE: dict[str, Any] = {
    "Service": {"ID": "serviceid", "Name": "servicename", "Labels": {}},
    "Node": {"ID": "nodeid", "Hostname": "hostname", "Platform": {"Architecture": "architecture", "OS": "os"}},
    "Task": {"ID": "taskid", "Name": "taskname", "Slot": "1"},
}
"""What placeholders may refer to, with values of no task."""
FILE_FUNCTIONS: Functions = {"env": lambda name: "", "secret": lambda name: "", "config": lambda name: ""}
"""What a templated secret or config may also ask for; `check` needs no answers."""

_WORD = re.compile(
    r'(?P<text>"(?:[^"\\\n]|\\.)*"|`[^`]*`)|(?P<name>(?:\.\w+)+|[^\W\d]\w*)|(?P<dot>\.)'
    r"|(?P<other>'(?:[^'\\\n]|\\.)+'|\$\w*|[+-]?\d[\w.+-]*)"
)
_SPACE = re.compile(r"\s*")
_END = re.compile(r"(\s-)?\}\}")
_COMMENT = re.compile(r"/\*.*?\*/(?=\}\}|\s-\}\})", re.DOTALL)
_TERMINATORS = frozenset(" \t\r\n.,|:()")
_OPERATORS = frozenset("|:=,()+-'")
_IN_GO = frozenset(
    {
        *("and", "call", "html", "index", "slice", "js", "len", "not", "or", "print", "printf", "println", "urlquery"),
        *("eq", "ge", "gt", "le", "lt", "ne", "join", "if", "else", "end", "range", "with", "define", "template"),
        *("block", "break", "continue", "nil", "true", "false"),
    }
)
_TYPES = {
    "": "*template.Context",
    ".Service": "struct { ID string; Name string; Labels map[string]string }",
    ".Node": "struct { ID string; Hostname string; Platform template.Platform }",
    ".Node.Platform": "template.Platform",
    ".Task": "struct { ID string; Name string; Slot string }",
}


class TemplateError(Exception):
    """The message names the placeholder and what is possible. `go` is what Docker says of it: "" where Go's language
    has it and only this part of it does not."""

    def __init__(self, message: str, go: str = "") -> None:
        super().__init__(message)
        self.go = go


@dataclass(frozen=True, slots=True)
class _Placeholder:
    text: str
    shown: str
    words: tuple[str, ...]
    starts: tuple[int, ...]

    def refused(self, why: str, go: str = "", at: int = 0) -> TemplateError:
        """`go` with the place where Go sees it: line, and bytes into it."""
        if not go:
            return TemplateError(f"the placeholder {self.shown} {why}")
        before = self.text[:at]
        line = before.count("\n") + 1
        column = len(before.rpartition("\n")[2].encode())
        where = f"template: expansion:{line}:{column}"
        return TemplateError(f"the placeholder {self.shown} {why}", f'{where}: executing "expansion" at {go}')


def expand(text: str, values: Mapping[str, Any], functions: Functions | None = None) -> str:
    """Replace every placeholder. Raises TemplateError."""
    if "{{" not in text:
        return text
    known = functions or {}
    parts = _parse(text, known)
    return "".join(part if isinstance(part, str) else _evaluate(part, values, known) for part in parts)


def check(text: str, functions: Functions | None = None) -> None:
    """Raises TemplateError where no node could fill the text in."""
    expand(text, SHAPE, functions)


def _parse(text: str, functions: Collection[str]) -> list[str | _Placeholder]:
    parts: list[str | _Placeholder] = []
    at, trims = 0, False
    while (start := text.find("{{", at)) >= 0:
        literal = text[at:start].lstrip() if trims else text[at:start]
        inside = start + 2
        if text[inside : inside + 1] == "-" and text[inside + 1 : inside + 2].isspace():
            literal, inside = literal.rstrip(), inside + 1
        space = _SPACE.match(text, inside)
        comment = _COMMENT.match(text, space.end() if space else inside)
        parts.append(literal)
        if comment:
            words: list[tuple[int, str]] = []
            inside = comment.end()
        else:
            words, inside = _words(text, start, inside, functions)
        end = _END.match(text, inside)
        assert end is not None
        at, trims = end.end(), bool(end[1])
        if words:
            starts, found = zip(*words, strict=True)
            parts.append(_Placeholder(text, text[start:at], found, starts))
        elif not comment:
            raise _malformed(text, start, inside, "is empty", "missing value for command", text[start:at])
    parts.append(text[at:].lstrip() if trims else text[at:])
    return parts


def _words(text: str, start: int, at: int, functions: Collection[str]) -> tuple[list[tuple[int, str]], int]:
    """The words up to the closing braces, and where these begin."""
    words: list[tuple[int, str]] = []
    while at < len(text):
        if _END.match(text, at):
            return words, at
        here = text[at]
        if here.isspace():
            at += 1
            continue
        found = _WORD.match(text, at)
        if found is None:
            if here in '"`':
                kind = "raw quoted string" if here == "`" else "quoted string"
                raise _malformed(text, start, at, "has a quote that is not closed", f"unterminated {kind}")
            if here not in _OPERATORS:
                raise _malformed(text, start, at, f'has a "{here}" in it', f'unexpected "{here}" in command')
            words.append((at, here))
            at += 1
            continue
        if found["dot"] and words and words[-1][0] + len(words[-1][1]) == at:
            raise _malformed(text, start, at, "has a stray dot in it", "unexpected <.> in operand")
        word, end = found[0], found.end()
        if found["name"]:
            after = text[end : end + 1]
            if after and after not in _TERMINATORS and not text.startswith("}}", end):
                code = f"bad character U+{ord(after):04X} '{after}'"
                raise _malformed(text, start, end, f'has a "{after}" where the name {word} should end', code)
            if not word.startswith(".") and word not in _IN_GO and word not in functions:
                raise _malformed(
                    text, start, at, f"asks for {word}, which is unknown; {_possible(functions)}",
                    f'function "{word}" not defined',
                )  # fmt: skip
        words.append((at, word))
        at = end
    raise _malformed(text, start, at, "is not closed with }}", "unclosed action")


def _malformed(text: str, start: int, at: int, why: str, go: str, shown: str = "") -> TemplateError:
    if not shown:
        end = text.find("}}", start)
        shown = text[start : end + 2] if end >= 0 else text[start : start + 60]
    return TemplateError(
        f"the placeholder {shown} {why}", f"template: expansion:{text.count(chr(10), 0, at) + 1}: {go}"
    )


def _possible(functions: Collection[str]) -> str:
    known = ["a field such as .Task.Slot", 'index .Service.Labels "name"', *(f'{name} "name"' for name in functions)]
    return f"possible are: {', '.join(known)}"


def _evaluate(placeholder: _Placeholder, values: Mapping[str, Any], functions: Functions) -> str:
    head, arguments = placeholder.words[0], placeholder.words[1:]
    if head.startswith(".") and len(head) > 1:
        found = _field(head, placeholder.starts[0], values, placeholder)
        if not arguments:
            return _text(found, placeholder)
        if not _OPERATORS & set(arguments):
            name = head.rpartition(".")[2]
            raise placeholder.refused(
                f"has more than the field {head}", f"<{head}>: {name} has arguments but cannot be invoked as function",
                _second(head, placeholder.starts[0]),
            )  # fmt: skip
    if head == "index" and len(arguments) == 2 and arguments[0].startswith("."):
        inside = _field(arguments[0], placeholder.starts[1], values, placeholder)
        if isinstance(inside, Mapping) and arguments[0].endswith(".Labels"):
            return _text(inside.get(_literal(arguments[1], placeholder), ""), placeholder)
    if head in functions and len(arguments) == 1:
        return functions[head](_literal(arguments[0], placeholder))
    if not arguments and head[0] in '"`':
        return _literal(head, placeholder)
    raise placeholder.refused(f"is not understood; {_possible(functions)}")


def _second(path: str, start: int) -> int:
    """Where Go says that a field stands: at the second name of several."""
    return start + max(path.find(".", 1), 0)


def _field(path: str, start: int, values: Mapping[str, Any], placeholder: _Placeholder) -> Any:
    here: Any = values
    walked = ""
    for name in path.split(".")[1:]:
        if not isinstance(here, Mapping) or (name not in here and not walked.endswith(".Labels")):
            possible = ", ".join(f"{walked}.{key}" for key in here) if isinstance(here, Mapping) else "nothing"
            raise placeholder.refused(
                f"names an unknown field; below {walked or '.'}: {possible}",
                f"<{path}>: can't evaluate field {name} in type {_TYPES.get(walked, 'string')}",
                _second(path, start),
            )
        here = here.get(name, "")
        walked += f".{name}"
    return here


def _literal(word: str, placeholder: _Placeholder) -> str:
    if word[0] == "`":
        return word[1:-1]
    if word[0] != '"':
        raise placeholder.refused(f'needs a name in quotes, such as "name", not {word}')
    return re.sub(r"\\(.)", r"\1", word[1:-1])


def _text(value: Any, placeholder: _Placeholder) -> str:
    if isinstance(value, Mapping):
        raise placeholder.refused(f"is a group of fields; name one of: {', '.join(value) or 'its labels'}")
    return str(value)
