"""Flags as the docker CLI reads them: `--name value`, `--name=value`, `-n value`, `-nvalue`, clusters of short ones,
`--switch` and `--switch=false`, `--` to end them.

Click's own parser knows no `--switch=false`, no typed lists and other words for mistakes, so commands are parsed here
and click keeps the command tree, the help's entry points and shell completion.

Pure: argument lists to values. Mistakes raise FlagError.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from essaim.cluster.cpus import parse_cpus
from essaim.cluster.sizes import parse_limit, parse_size

from .nearest import did_you_mean
from .values import devices, durations, mounts, pairs, ports, references, sizes
from .values.quotes import quoted


class FlagError(Exception):
    """The flags are wrong; docker exits with 125 then."""


@dataclass(frozen=True, slots=True)
class Kind:
    """`label` is what the help calls the value; a kind that `repeats` collects its values in a list."""

    label: str
    parse: Callable[[str], Any]
    repeats: bool = False
    is_switch: bool = False
    explode: bool = False
    """One value may give several items (a range of ports, comma-separated names)."""


def text(value: str) -> str:
    return value


STRING = Kind("string", text)
SWITCH = Kind("", sizes.parse_bool, is_switch=True)
UINT = Kind("uint", sizes.parse_uint)
INT = Kind("int", sizes.parse_int)
FLOAT = Kind("float", sizes.parse_float)
BYTES = Kind("bytes", parse_size)
LIMIT = Kind("bytes", parse_limit)
CPUS = Kind("decimal", parse_cpus)
POSITIVE = Kind("duration", durations.parse_positive)
LIST = Kind("list", text, repeats=True)
NAMES = Kind("strings", pairs.fields, repeats=True, explode=True)
LABELS = Kind("list", pairs.check_label, repeats=True)
PAIRS = Kind("list", pairs.check_pair, repeats=True)
ENV = Kind("list", pairs.check_env, repeats=True)
HOSTS = Kind("list", pairs.check_host, repeats=True)
ADDRESSES = Kind("list", pairs.check_ip, repeats=True)
DOMAINS = Kind("list", pairs.check_dns_search, repeats=True)
PORTS = Kind("port", ports.parse_publish, repeats=True, explode=True)
MOUNTS = Kind("mount", mounts.parse_mount, repeats=True)
REFERENCES = Kind("reference", references.parse_reference, repeats=True)
NETWORKS = Kind("network", references.parse_network, repeats=True)
RESOURCES = Kind("list", references.parse_generic_resource, repeats=True)
ULIMITS = Kind("ulimit", references.parse_ulimit, repeats=True)
DEVICES = Kind("device", devices.parse_device, repeats=True)
GPUS = Kind("gpu-request", devices.parse_gpus, repeats=True)
CREDENTIALS = Kind("credential-spec", references.parse_credentials, repeats=True)
TARGETS = Kind("port", ports.parse_target, repeats=True)
PREFERENCES = Kind("pref", references.parse_preference, repeats=True)


def parse_filter(value: str) -> tuple[str, str]:
    name, separator, content = value.partition("=")
    if not separator:
        raise ValueError("bad format of filter (expected name=value)")
    return name.strip().lower(), content.strip()


FILTERS = Kind("filter", parse_filter, repeats=True)


@dataclass(frozen=True, slots=True)
class Flag:
    """One flag. `default` is what `Flags` gives when it is absent; `choices` serve completion."""

    name: str
    kind: Kind
    help: str
    short: str = ""
    default: Any = None
    shown_default: str = ""
    choices: tuple[str, ...] = ()

    @property
    def title(self) -> str:
        return f"-{self.short}, --{self.name}" if self.short else f"--{self.name}"

    def read(self, raw: str) -> Any:
        try:
            return self.kind.parse(raw)
        except ValueError as error:
            raise FlagError(f'invalid argument {quoted(raw)} for "{self.title}" flag: {error}') from None


ZERO: dict[str, Any] = {
    "string": "",
    "": False,
    "uint": 0,
    "int": 0,
    "float": 0.0,
    "bytes": 0,
    "decimal": 0,
    "duration": 0,
}


@dataclass(frozen=True, slots=True)
class Flags:
    """The values of one command line. Asking for a flag that the command lacks is a KeyError."""

    flags: Mapping[str, Flag]
    values: Mapping[str, Any] = field(default_factory=dict)

    def given(self, *names: str) -> bool:
        """Whether any of them was on the command line."""
        return any(name in self.values for name in names)

    def _get(self, name: str) -> Any:
        flag = self.flags[name]
        if name in self.values:
            return self.values[name]
        if flag.default is not None:
            return flag.default
        return [] if flag.kind.repeats else ZERO.get(flag.kind.label)

    def text(self, name: str) -> str:
        return str(self._get(name))

    def number(self, name: str) -> int:
        return int(self._get(name))

    def ratio(self, name: str) -> float:
        return float(self._get(name))

    def on(self, name: str) -> bool:
        """A switch."""
        return bool(self._get(name))

    def items(self, name: str) -> list[Any]:
        return list(self._get(name))

    def filters(self, name: str = "filter") -> dict[str, list[str]]:
        """Filter values by name."""
        found: dict[str, list[str]] = {}
        for key, value in self.items(name):
            found.setdefault(key, []).append(value)
        return found


HELP = Flag("help", SWITCH, "Show this text", "h")


@dataclass(slots=True)
class Parsed:
    """`unfinished` is the flag whose value is missing at the end (for completion)."""

    flags: Flags
    args: list[str]
    wants_help: bool = False
    values: dict[str, Any] = field(default_factory=dict)


def parse(flags: Sequence[Flag], args: Iterable[str], *, interspersed: bool = True, lenient: bool = False) -> Parsed:
    """Read a command line. Not `interspersed`, the first plain argument ends the flags. `lenient` forgives
    everything, for completion of half a line."""
    return Parser(flags, interspersed=interspersed, lenient=lenient).run(list(args))


class Parser:
    """One pass over the arguments."""

    def __init__(self, flags: Sequence[Flag], *, interspersed: bool, lenient: bool) -> None:
        self._flags = {flag.name: flag for flag in flags}
        self._short = {flag.short: flag for flag in (*flags, HELP) if flag.short}
        if any(flag.short == "h" for flag in flags):
            self._short = {flag.short: flag for flag in flags if flag.short}
        self._interspersed = interspersed
        self._lenient = lenient
        self._values: dict[str, Any] = {}
        self._rest: list[str] = []
        self._wants_help = False

    def run(self, args: list[str]) -> Parsed:
        while args:
            arg = args.pop(0)
            if arg == "--":
                self._rest += args
                break
            if len(arg) < 2 or not arg.startswith("-"):
                self._rest.append(arg)
                if not self._interspersed:
                    self._rest += args
                    break
                continue
            try:
                self._long(arg, args) if arg.startswith("--") else self._cluster(arg, args)
            except FlagError:
                if not self._lenient:
                    raise
            if self._wants_help:
                break
        return Parsed(Flags(self._flags, self._values), self._rest, self._wants_help, self._values)

    def _long(self, arg: str, args: list[str]) -> None:
        name, equals, value = arg[2:].partition("=")
        if name == "help":
            self._wants_help = True
            return
        flag = self._flags.get(name)
        if flag is None:
            hint = did_you_mean(f"--{name}", (f"--{known}" for known in self._flags if len(known) > 1))
            raise FlagError(f"unknown flag: --{name}" + (f". {hint}" if hint else ""))
        if equals:
            self._store(flag, value)
        elif flag.kind.is_switch:
            self._store(flag, "true")
        elif args:
            self._store(flag, args.pop(0))
        else:
            raise FlagError(f"flag needs an argument: --{name}")

    def _cluster(self, arg: str, args: list[str]) -> None:
        letters = arg[1:]
        while letters:
            letter, letters = letters[0], letters[1:]
            flag = self._short.get(letter)
            if flag is None:
                raise FlagError(f"unknown shorthand flag: '{letter}' in {arg}")
            if flag is HELP:
                self._wants_help = True
                return
            if flag.kind.is_switch and not letters.startswith("="):
                self._store(flag, "true")
                continue
            if letters:
                self._store(flag, letters.removeprefix("="))
            elif args:
                self._store(flag, args.pop(0))
            else:
                raise FlagError(f"flag needs an argument: '{letter}' in {arg}")
            return

    def _store(self, flag: Flag, raw: str) -> None:
        value = flag.read(raw)
        if not flag.kind.repeats:
            self._values[flag.name] = value
            return
        found = self._values.setdefault(flag.name, [])
        found.extend(value) if flag.kind.explode else found.append(value)
