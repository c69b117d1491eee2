"""The expressions of Traefik's circuit breaker: `NetworkErrorRatio() > 0.30 || LatencyAtQuantileMS(50.0) > 100`.

Three functions of the recent past, compared (`>`, `>=`, `<`, `<=`, `==`, `!=`) with a number on either side, joined
by `&&` and `||` (`&&` binds stronger), turned by `!`, grouped by parentheses.

A parser of its own, as a grammar of five rules is shorter than its description to a parser generator, and the text is
a user's: it must never reach `eval`.

Pure: text in, a function of measurements out.
"""

import operator
import re
from collections.abc import Callable
from typing import Protocol

from essaim.gateway.protocol.numbers import shown


class Measured(Protocol):
    """What an expression can ask. Ratios are 0 when there is nothing to divide by."""

    def network_error_ratio(self) -> float: ...

    def response_code_ratio(self, low: int, high: int, by_low: int, by_high: int) -> float: ...

    def latency_at_quantile_ms(self, quantile: float) -> float: ...


Value = Callable[[Measured], float]
Condition = Callable[[Measured], bool]

TOKEN = re.compile(r"\s*(&&|\|\||[<>=!]=|[<>!(),]|[A-Za-z]+|[0-9]{1,15}(?:\.[0-9]{1,15})?)")
COMPARISONS: dict[str, Callable[[float, float], bool]] = {
    ">": operator.gt, ">=": operator.ge, "<": operator.lt, "<=": operator.le, "==": operator.eq, "!=": operator.ne,
}  # fmt: skip
ARGUMENTS = {"networkerrorratio": 0, "responsecoderatio": 4, "latencyatquantilems": 1}
DEEPEST = 32
MOST_TOKENS = 300


def parse_expression(text: str) -> Condition:
    """Raises ValueError with what cannot be read."""
    parser = _Parser(_tokens(text))
    condition = parser.any_of()
    if parser.next:
        raise ValueError(f"{parser.next!r} is not expected there in {shown(text)}")
    return condition


def _tokens(text: str) -> list[str]:
    tokens, at = [], 0
    text = text.rstrip()
    while at < len(text):
        found = TOKEN.match(text, at)
        if found is None:
            raise ValueError(f"{shown(text[at:].strip())} cannot be read in {shown(text)}")
        tokens.append(found[1])
        if len(tokens) > MOST_TOKENS:
            raise ValueError(f"the expression has more than {MOST_TOKENS} parts")
        at = found.end()
    return tokens


class _Parser:
    """Recursive descent; one token is looked at in advance ("" at the end)."""

    def __init__(self, tokens: list[str]) -> None:
        self._tokens = tokens
        self._at = 0
        self._depth = 0

    @property
    def next(self) -> str:
        return self._tokens[self._at] if self._at < len(self._tokens) else ""

    def _take(self, wanted: str = "") -> str:
        token = self.next
        if not token or (wanted and token != wanted):
            raise ValueError(f"{wanted or 'more'} is expected " + (f"before {token!r}" if token else "at the end"))
        self._at += 1
        return token

    def any_of(self) -> Condition:
        parts = [self._all_of()]
        while self.next == "||":
            self._take()
            parts.append(self._all_of())
        return parts[0] if len(parts) == 1 else lambda measured: any(part(measured) for part in parts)

    def _all_of(self) -> Condition:
        parts = [self._one()]
        while self.next == "&&":
            self._take()
            parts.append(self._one())
        return parts[0] if len(parts) == 1 else lambda measured: all(part(measured) for part in parts)

    def _one(self) -> Condition:
        self._depth += 1
        if self._depth > DEEPEST:
            raise ValueError(f"the expression is nested more than {DEEPEST} deep")
        try:
            if self.next == "!":
                self._take()
                inner = self._one()
                return lambda measured: not inner(measured)
            if self.next == "(":
                self._take()
                condition = self.any_of()
                self._take(")")
                return condition
            return self._comparison()
        finally:
            self._depth -= 1

    def _comparison(self) -> Condition:
        left, sign = self._value(), self._take()
        compare = COMPARISONS.get(sign)
        if compare is None:
            raise ValueError(f"{sign!r} compares nothing; known are: {' '.join(COMPARISONS)}")
        right = self._value()
        return lambda measured: compare(left(measured), right(measured))

    def _value(self) -> Value:
        token = self._take()
        if token[0].isdigit():
            number = float(token)
            return lambda measured: number
        name = token.lower()
        if name not in ARGUMENTS:
            raise ValueError(f"{token!r} is no function; there are NetworkErrorRatio, ResponseCodeRatio and "
                             "LatencyAtQuantileMS")  # fmt: skip
        numbers = self._arguments()
        if len(numbers) != ARGUMENTS[name]:
            raise ValueError(f"{token} takes {ARGUMENTS[name]} numbers, not {len(numbers)}")
        return _function(name, numbers)

    def _arguments(self) -> list[float]:
        self._take("(")
        numbers: list[float] = []
        while self.next != ")":
            if numbers:
                self._take(",")
            token = self._take()
            if not token[0].isdigit():
                raise ValueError(f"{token!r} is not a number")
            numbers.append(float(token))
        self._take(")")
        return numbers


def _function(name: str, numbers: list[float]) -> Value:
    if name == "networkerrorratio":
        return lambda measured: measured.network_error_ratio()
    if name == "latencyatquantilems":
        (quantile,) = numbers
        if quantile > 100:
            raise ValueError("a quantile is a number from 0 to 100")
        return lambda measured: measured.latency_at_quantile_ms(quantile)
    low, high, by_low, by_high = (int(number) for number in numbers)
    return lambda measured: measured.response_code_ratio(low, high, by_low, by_high)
