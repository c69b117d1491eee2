"""The help texts of commands and groups, laid out for 80 columns.

Pure: commands to text.
"""

import textwrap
from collections.abc import Sequence

from .flags import Flag

WIDTH = 80


def command_help(path: str, usage: str, summary: str, flags: Sequence[Flag]) -> str:
    """Usage, summary and flags of a leaf."""
    lines = [f"Usage:  {path} {usage}".rstrip(), "", summary]
    if flags:
        lines += ["", "Options:", *flag_lines(sorted(flags, key=lambda flag: flag.name))]
    return "\n".join(lines) + "\n"


def flag_lines(flags: Sequence[Flag]) -> list[str]:
    titles = [title(flag) for flag in flags]
    margin = min(max(len(item) for item in titles) + 3, 45)
    lines: list[str] = []
    for name, flag in zip(titles, flags, strict=True):
        words = textwrap.wrap(described(flag), WIDTH - margin) or [""]
        lines.append(name.ljust(margin) + words[0] if len(name) < margin else f"{name}   {words[0]}")
        lines += [" " * margin + word for word in words[1:]]
    return [line.rstrip() for line in lines]


def title(flag: Flag) -> str:
    short = f"-{flag.short}, " if flag.short else "    "
    return f"  {short}--{flag.name} {flag.kind.label}".rstrip()


def described(flag: Flag) -> str:
    text = flag.help
    if flag.choices:
        text += " (" + ", ".join(f'"{choice}"' for choice in flag.choices) + ")"
    return f"{text} (default {flag.shown_default})" if flag.shown_default else text


def group_help(path: str, summary: str, rows: Sequence[tuple[str, str]], options: Sequence[tuple[str, str]]) -> str:
    """Usage, summary, commands (name, summary) and global options (name, text) of a group."""
    margin = max((len(name) for name, _ in rows), default=0) + 3
    lines = [f"Usage:  {path} COMMAND", "", summary, "", "Commands:"]
    lines += [f"  {name.ljust(margin)}{text}" for name, text in rows]
    if options:
        lines += ["", "Global options:", *(f"  {name.ljust(26)}{text}" for name, text in options)]
    lines += ["", f"Run '{path} COMMAND --help' for more information on a command."]
    return "\n".join(lines)
