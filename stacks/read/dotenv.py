"""Environment files (`.env`, `env_file`), by Compose's rules, and `format: raw`.

Compose's rules: `KEY=value`, `KEY: value`, an optional `export `; single quotes are literal but for `\\'`; double
quotes know escapes, and variables are substituted in them and in unquoted values; ` #` starts a comment outside
quotes; quoted values may span lines; a name alone takes its value from the environment. Raw lines are taken as they
stand, as `docker run --env-file` and `docker stack deploy` do.

Pure: text in, variables out.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from essaim.stacks.source.errors import Place, Problem, StackError

from .interpolation import InterpolationError, Interpolator

ENTRY = re.compile(
    r"(?:export[ \t]+)?(\w[\w.\-]*(?:\[[^\]\n]*\])?)[ \t]*"
    r"([=:]|(?=[ \t]*(?:#|\n|\Z)))[ \t]*"
)
ESCAPES = {"n": "\n", "r": "\r", "t": "\t", "\\": "\\", '"': '"', "a": "\a", "b": "\b", "f": "\f", "v": "\v"}
BLANK = re.compile(r"(?:[ \t\r]*(?:#[^\n]*)?\n)*[ \t\r]*(?:#[^\n]*\Z)?")
COMMENT = re.compile(r"\s#")
AFTER_QUOTE = re.compile(r"[ \t]*(?:#[^\n]*)?(?:\n|\Z)")


@dataclass(frozen=True, slots=True)
class EnvFile:
    """`values` in file order, `None` where a name has no value there nor in the environment. `differs` are the
    names whose raw reading is another value."""

    values: dict[str, str | None]
    differs: tuple[str, ...] = ()


def read_env(text: str, file: str, environment: Mapping[str, str]) -> EnvFile:
    """By Compose's rules. Variables are looked up in `environment` first, then in the earlier lines."""
    return _Reader(text.replace("\r\n", "\n").removeprefix("\ufeff"), file, environment).read()


def read_raw(text: str, file: str, environment: Mapping[str, str]) -> EnvFile:
    """`format: raw`: everything after the first `=` is the value."""
    values: dict[str, str | None] = {}
    for number, line in enumerate(text.removeprefix("\ufeff").split("\n"), start=1):
        line = line.removesuffix("\r").lstrip()
        if not line or line.startswith("#"):
            continue
        name, equals, value = line.partition("=")
        if not name.strip() or re.search(r"\s", name.rstrip()) or (equals and name != name.rstrip()):
            raise StackError([Problem(Place(file, number, 1), "", f'"{name}" is not the name of a variable')])
        values[name.strip()] = value if equals else environment.get(name.strip())
    return EnvFile(values)


class _Reader:
    def __init__(self, text: str, file: str, environment: Mapping[str, str]) -> None:
        self.text = text
        self.file = file
        self.environment = environment
        self.position = 0
        self.values: dict[str, str | None] = {}
        self.differs: dict[str, None] = {}

    def read(self) -> EnvFile:
        while True:
            blank = BLANK.match(self.text, self.position)
            self.position = blank.end() if blank else self.position
            if self.position >= len(self.text):
                return EnvFile(self.values, tuple(self.differs))
            self.entry()

    def entry(self) -> None:
        match = ENTRY.match(self.text, self.position)
        if match is None:
            line = self.text[self.position :].split("\n", 1)[0]
            raise self.error(f'"{line[:40]}" is not NAME=value')
        name, separator = match[1], match[2]
        self.position = match.end()
        if not separator:
            self.skip_line()
            self.values[name] = self.environment.get(name, self.values.get(name))
            return
        start = self.position
        value = self.value(name)
        raw = self.text[start : self.position].rstrip("\n")
        if raw != value:
            self.differs[name] = None
        self.values[name] = value

    def value(self, name: str) -> str:
        quote = self.text[self.position : self.position + 1]
        if quote == "'" or quote == '"':
            return self.quoted(quote, name)
        end = self.text.find("\n", self.position)
        end = len(self.text) if end < 0 else end
        raw = self.text[self.position : end]
        comment = COMMENT.search(" " + raw)
        self.position = min(end + 1, len(self.text))
        raw = raw[: comment.start()] if comment and comment.start() else "" if comment else raw
        return self.substitute(raw.strip(), name)

    def quoted(self, quote: str, name: str) -> str:
        """A value in quotes; the text after the closing one must be blank or a comment."""
        start = self.position
        position = start + 1
        while position < len(self.text) and self.text[position] != quote:
            position += 2 if self.text[position] == "\\" else 1
        if position >= len(self.text):
            raise self.error(f"the {quote} at {name} is never closed")
        body = self.text[start + 1 : position]
        rest = AFTER_QUOTE.match(self.text, position + 1)
        if rest is None:
            raise self.error(f"unexpected characters after the closing {quote} of {name}")
        self.position = rest.end()
        if quote == "'":
            return body.replace("\\'", "'")
        # An escaped dollar is a dollar: it is doubled, so that substitution leaves it.
        body = re.sub(r"\\(.)", lambda m: "$$" if m[1] == "$" else ESCAPES.get(m[1], m[0]), body, flags=re.DOTALL)
        return self.substitute(body, name)

    def substitute(self, text: str, name: str) -> str:
        if "$" not in text:
            return text
        known = {key: value for key, value in self.values.items() if value is not None}
        try:
            return Interpolator(known | dict(self.environment)).substitute(text)
        except InterpolationError as error:
            raise self.error(f"{name}: {error}") from None

    def skip_line(self) -> None:
        end = self.text.find("\n", self.position)
        self.position = len(self.text) if end < 0 else end + 1

    def error(self, message: str) -> StackError:
        line = self.text.count("\n", 0, self.position) + 1
        column = self.position - (self.text.rfind("\n", 0, self.position) + 1) + 1
        return StackError([Problem(Place(self.file, line, column), "", message)])
