"""Numbers of CPUs as Docker's tools read them, in billionths: `0.5`, `1/2`, `1e-3`.

Docker's client takes numbers in other bases too, and negative ones and such that do not fit into 63 bits, which its
daemon then refuses or mistakes: they are refused here.

Pure: text in, numbers out.
"""

import re
from fractions import Fraction

NANO = 10**9
MOST = 2**63 - 1
SHOWN = 80

_DIGITS = r"[0-9]+(?:_[0-9]+)*"
_DECIMAL = re.compile(rf"\+?(?:{_DIGITS}(?:\.(?:{_DIGITS})?)?|\.{_DIGITS})(?:[eE][+-]?[0-9]{{1,2}})?")
_WHOLE = r"(?:0|[1-9][0-9]*(?:_[0-9]+)*)"
_RATIO = re.compile(rf"\+?{_WHOLE}/{_WHOLE}")
_MOST_CHARACTERS = 100


class BadCpus(ValueError):
    """The text is no number of CPUs; the message is docker's."""


def parse_cpus(text: str) -> int:
    """Billionths of a CPU. Raises BadCpus."""
    fits = len(text) <= _MOST_CHARACTERS and (_DECIMAL.fullmatch(text) or _RATIO.fullmatch(text))
    try:
        value = Fraction(text.replace("_", "")) if fits else None
    except ZeroDivisionError:
        value = None
    if value is None:
        raise BadCpus(f"failed to parse {text[:SHOWN]} as a rational number")
    nano = value * NANO
    if nano.denominator != 1:
        raise BadCpus("value is too precise")
    if nano > MOST:
        raise BadCpus(f"{text[:SHOWN]} is more CPUs than can be counted")
    return int(nano)
