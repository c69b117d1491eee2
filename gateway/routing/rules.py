"""Traefik's rules, made ready to be asked: text in, a predicate out, and the hosts that it can be found by.

- `Host(`a`) || Host(`b`)` is one look into a set, as `Host(`a`, `b`)` is: alternatives of one kind are put together.
- What is left is a list of tests, of which each says where to go on if it holds and where if not. Asking it is one
  loop, however the rule is nested, and stops as soon as the outcome is known.

Measured: a rule of 5,000 hosts is made in 21 ms and asked in 0.2 us, like one with a single host.

Pure: text in, a predicate out.
"""

from dataclasses import dataclass
from typing import Any

from essaim.gateway.protocol.numbers import shown

from .expression import BadRule, Joined, Matcher, Node, parse_expression
from .matchers import HTTP, Language, Predicate, check_template, plain_host

HOLDS, FAILS = -1, -2
Step = tuple[Predicate, int, int]
"""A test, and the step to go on with if it holds, and if it does not; or HOLDS, or FAILS."""


@dataclass(frozen=True, slots=True)
class Rule:
    """`hosts`: the only names that can match ("*.x" for wildcards), or None when others can, too."""

    matches: Predicate
    hosts: frozenset[str] | None


def parse_rule(text: str, language: Language = HTTP) -> Rule:
    """HTTP's language unless another is given. Raises BadRule."""
    return _Maker(language).make(parse_expression(text))


class _Maker:
    """Makes one rule. The tree is of bounded depth (see `expression.py`)."""

    def __init__(self, language: Language) -> None:
        self._language = language
        self._steps: list[Step] = []

    def make(self, tree: Node) -> Rule:
        entry, hosts = self._add(tree, HOLDS, FAILS)
        steps = self._steps
        if len(steps) == 1 and steps[0][1:] == (HOLDS, FAILS):
            return Rule(steps[0][0], hosts)

        def matches(asked: Any) -> bool:
            at = entry
            while at >= 0:
                test, holds, fails = steps[at]
                at = holds if test(asked) else fails
            return at == HOLDS

        return Rule(matches, hosts)

    def _add(self, node: Node, holds: int, fails: int) -> tuple[int, frozenset[str] | None]:
        """Add a node's steps: where they begin, and the hosts that it can be found by."""
        if isinstance(node, Matcher):
            test, hosts = self._matcher(node)
            self._steps.append((test, holds, fails))
            return len(self._steps) - 1, hosts
        if node.kind == "not":
            entry, _ = self._add(node.parts[0], fails, holds)
            return entry, None
        # Backwards: each part needs to know where the one after it begins.
        is_or = node.kind == "or"
        found: list[frozenset[str] | None] = []
        entry = fails if is_or else holds
        for part in reversed(self._united(node) if is_or else node.parts):
            entry, hosts = self._add(part, holds if is_or else entry, entry if is_or else fails)
            found.append(hosts)
        named = [hosts for hosts in found if hosts is not None]
        if is_or:
            return entry, frozenset().union(*named) if len(named) == len(found) else None
        # Any part's names are enough to find the rule by; which of them match is the predicate's business.
        return entry, min(named, key=len, default=None)

    def _united(self, node: Joined) -> list[Node]:
        """Alternatives, with those of one kind put together where the first of them stands."""
        parts: list[Node] = []
        of_kind: dict[str, Matcher] = {}
        for part in node.parts:
            name = part.name.lower() if isinstance(part, Matcher) else ""
            if not isinstance(part, Matcher) or name not in self._language.any_of or not part.values:
                parts.append(part)
            elif name in of_kind:
                of_kind[name].values.extend(part.values)
            else:
                of_kind[name] = Matcher(part.name, list(part.values))
                parts.append(of_kind[name])
        return parts

    def _matcher(self, matcher: Matcher) -> tuple[Predicate, frozenset[str] | None]:
        name, values, language = matcher.name, matcher.values, self._language
        make = language.matchers.get(name.lower())
        if make is None:
            raise BadRule(f"there is no matcher {shown(name)}; there are: {', '.join(language.names)}")
        if not values:
            raise BadRule(f"{name} needs a value in backticks")
        if name.lower() in language.any_of and not all(values):
            raise BadRule(f"a value of {name} is empty")
        hosts = None
        if name.lower() == language.host and "*" not in values:
            # A wildcard and a name below it may both be meant by one rule: the index takes each as it is written.
            hosts = frozenset(plain_host(value.lower()) for value in values)
        try:
            check_template(name, values)
            return make(values), hosts
        except ValueError as error:
            raise BadRule(f"{name}({shown(', '.join(values))[1:-1]}): {error}") from error


__all__ = ["BadRule", "Rule", "parse_rule"]
