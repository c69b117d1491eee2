"""What the pages show: fenced blocks with their purpose, and commands in the text.

Pure: a page's text to blocks and words.

A fence names what its block is:
- `sh`: commands that are run, in order, on the page's cluster. A line `# on the second host` changes the host.
- `sh parse`: commands that no test can run (packages, other machines' services); each is parsed by the real parser.
- `console`: what a terminal shows; lines that begin with `$ ` are commands, and parsed.
- `yaml NAME`: a file that the commands below it use; without a name it is only read.
- others (none, `text`, `python`): no commands.
"""

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass

FENCE = re.compile(r"^ *```(?P<info>.*)$")
INLINE = re.compile(r"`((?:essaim|essaimd|essaim-install|\./install|\./demo)(?: [^`]*)?)`")
PROGRAMS = "sudo|essaimd?|essaim-install|docker|curl|apt|apt-get|pipx|uv|git|cat|echo"
LOOKS_LIKE_COMMANDS = re.compile(rf"^(\$ |\w+=\S+ )?(({PROGRAMS}) |\./(demo|test|install))")
SEPARATORS = {"|", "||", "&&", ";", "&"}
REDIRECTIONS = {">", ">>", "<", "<<<", "<<"}
ASSIGNMENT = re.compile(r"[A-Za-z_]\w*=.*", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Block:
    """A fenced block: `info` is what follows the fence, `line` where it begins."""

    page: str
    line: int
    info: str
    text: str

    @property
    def language(self) -> str:
        return self.info.split(" ")[0]

    @property
    def is_run(self) -> bool:
        return self.info == "sh"

    @property
    def file(self) -> str:
        """The name of the file that the block is the content of, if it is one."""
        words = self.info.split(" ")
        return words[1] if self.language in ("yaml", "ini") and len(words) == 2 else ""

    def commands(self) -> list[list[str]]:
        """Its commands as words. Raises ValueError for quotes that do not end."""
        if self.language == "console":
            text = "\n".join(line[2:] for line in self.text.splitlines() if line.startswith("$ "))
        else:
            text = self.text if self.language == "sh" else ""
        return [command for line in logical_lines(text) for command in simple_commands(line)]


def blocks(page: str, text: str) -> list[Block]:
    found: list[Block] = []
    begun: tuple[int, str] | None = None
    lines: list[str] = []
    for number, line in enumerate(text.splitlines(), 1):
        fence = FENCE.match(line)
        if fence is None:
            lines.append(line)
        elif begun is None:
            begun, lines = (number, fence["info"].strip()), []
        else:
            found.append(Block(page, begun[0], begun[1], "\n".join(lines) + "\n"))
            begun = None
    if begun is not None:
        raise ValueError(f"{page}:{begun[0]}: the block does not end")
    return found


def prose(text: str) -> Iterator[tuple[int, str]]:
    """(line, text) of what is outside of blocks; a span of code may go over the end of a line."""
    inside = False
    for number, line in enumerate(text.splitlines(), 1):
        if FENCE.match(line):
            inside = not inside
        elif not inside:
            yield number, line


def mentioned(text: str) -> list[str]:
    """Commands in the text between the blocks, such as `essaim node ls`."""
    whole = "\n".join(line for _, line in prose(text))
    paragraphs = re.split(r"\n\s*\n", whole)
    return [" ".join(found.split()) for paragraph in paragraphs for found in INLINE.findall(paragraph)]


def logical_lines(text: str) -> Iterator[str]:
    """Lines with their continuations; a quoted text may go over many lines."""
    pending = ""
    for line in text.splitlines():
        pending += line
        if pending.endswith("\\"):
            pending = pending[:-1] + " "
            continue
        try:
            shlex.split(pending, comments=True)
        except ValueError:
            pending += "\n"
            continue
        yield pending
        pending = ""
    if pending.strip():
        raise ValueError(f"a quote does not end: {pending}")


def simple_commands(line: str) -> Iterator[list[str]]:
    """The commands of a line, without assignments, `sudo` and redirections."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars="|&;<>")
    lexer.whitespace_split, lexer.commenters = True, "#"
    words: list[str] = []
    skip = False
    for word in lexer:
        if skip:
            skip = False
        elif word in SEPARATORS:
            yield from [stripped(words)] if words else []
            words = []
        elif word in REDIRECTIONS:
            skip = True
        else:
            words.append(word)
    if words:
        yield stripped(words)


def stripped(words: list[str]) -> list[str]:
    while words and (words[0] in ("sudo", "env", "exec") or ASSIGNMENT.fullmatch(words[0])):
        words = words[1:]
    return words
