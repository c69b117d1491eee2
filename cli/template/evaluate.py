"""Evaluation of a parsed template over JSON data.

A field that the data lacks is an error unless its name is `known`, as with Go's typed structs: then it is nil.

Pure: a tree and data to text. What does not fit raises TemplateError.
"""

from collections.abc import Callable, Iterable, Mapping
from collections.abc import Set as AbstractSet
from typing import Any

from .functions import FUNCTIONS
from .syntax import (
    Branch,
    Chain,
    Dot,
    Jump,
    Literal,
    Name,
    Node,
    Output,
    Pipeline,
    TemplateError,
    Term,
    Text,
    Variable,
    parse,
)
from .values import kind, show, truth

NOTHING: frozenset[str] = frozenset()
LIMIT = 200_000
"""Nodes evaluated at most, so that no template runs away."""


class Break(Exception):
    """Leaves a range."""


class Continue(Exception):
    """Goes on with the next round of a range."""


class Template:
    """A template ready to be rendered many times. Raises TemplateError for bad syntax."""

    def __init__(
        self,
        source: str,
        *,
        known: AbstractSet[str] = NOTHING,
        functions: Mapping[str, Callable[..., Any]] | None = None,
    ) -> None:
        self._known = known
        self._functions = {**FUNCTIONS, **(functions or {})}
        self._tree = parse(source, {*self._functions, "and", "or"})

    def render(self, data: Any) -> str:
        """The text for one value of dot."""
        return Evaluation(self._functions, self._known, data).run(self._tree, data)


class Evaluation:
    """One rendering: variables in scopes, innermost last."""

    def __init__(self, functions: Mapping[str, Callable[..., Any]], known: AbstractSet[str], root: Any) -> None:
        self._functions = functions
        self._known = known
        self._scopes: list[dict[str, Any]] = [{"": root}]
        self._steps = 0

    def run(self, nodes: Iterable[Node], dot: Any) -> str:
        out: list[str] = []
        self._walk(nodes, dot, out)
        return "".join(out)

    def _walk(self, nodes: Iterable[Node], dot: Any, out: list[str]) -> None:
        for node in nodes:
            self._steps += 1
            if self._steps > LIMIT:
                raise TemplateError("the template takes too many steps")
            match node:
                case Text(text):
                    out.append(text)
                case Output(pipeline):
                    value = self.pipeline(pipeline, dot)
                    if not pipeline.declare:
                        out.append(show(value))
                case Jump(kind=word):
                    raise Break if word == "break" else Continue
                case Branch():
                    self._scopes.append({})
                    try:
                        self._branch(node, dot, out)
                    finally:
                        self._scopes.pop()

    def _branch(self, node: Branch, dot: Any, out: list[str]) -> None:
        if node.kind == "range":
            self._range(node, dot, out)
            return
        value = self.pipeline(node.pipeline, dot)
        if truth(value):
            self._walk(node.body, value if node.kind == "with" else dot, out)
        else:
            self._walk(node.otherwise, dot, out)

    def _range(self, node: Branch, dot: Any, out: list[str]) -> None:
        names = node.pipeline.declare
        value = self.pipeline(Pipeline(node.pipeline.commands), dot)
        rounds = items_of(value)
        for key, item in rounds:
            if len(names) == 2:
                self._scopes[-1] |= {names[0]: key, names[1]: item}
            elif names:
                self._scopes[-1][names[0]] = item
            try:
                self._walk(node.body, item, out)
            except Break:
                break
            except Continue:
                continue
        if not rounds:
            self._walk(node.otherwise, dot, out)

    def pipeline(self, pipeline: Pipeline, dot: Any) -> Any:
        value: tuple[Any, ...] = ()
        for command in pipeline.commands:
            value = (self._command(command, dot, value),)
        if pipeline.declare:
            self._set(pipeline.declare[0], value[0], is_assignment=pipeline.is_assignment)
        return value[0]

    def _set(self, name: str, value: Any, *, is_assignment: bool) -> None:
        scope = self._scopes[-1]
        if is_assignment:
            scope = next((one for one in reversed(self._scopes) if name in one), {})
            if not scope:
                undefined(name)
        scope[name] = value

    def _command(self, command: tuple[Term, ...], dot: Any, piped: tuple[Any, ...]) -> Any:
        head, rest = command[0], command[1:]
        if isinstance(head, Name):
            if head.name in ("and", "or"):
                return self._logic(head.name, rest, dot, piped)
            return self._call(head.name, [*(self.term(item, dot) for item in rest), *piped])
        if rest or piped:
            raise TemplateError("can't give argument to non-function")
        return self.term(head, dot)

    def _logic(self, name: str, rest: tuple[Term, ...], dot: Any, piped: tuple[Any, ...]) -> Any:
        """`and` and `or` stop at the argument that decides."""
        value: Any = None
        for item in (*rest, *(Literal(extra) for extra in piped)):
            value = self.term(item, dot)
            if truth(value) == (name == "or"):
                break
        return value

    def _call(self, name: str, arguments: list[Any]) -> Any:
        function = self._functions.get(name)
        if function is None:
            raise TemplateError(f'function "{name}" not defined')
        try:
            return function(*arguments)
        except TypeError as error:
            raise TemplateError(f"wrong arguments for {name}: {error}") from None

    def term(self, term: Term, dot: Any) -> Any:
        match term:
            case Literal(value):
                return value
            case Dot():
                return dot
            case Variable(name):
                for scope in reversed(self._scopes):
                    if name in scope:
                        return scope[name]
                return undefined(name)
            case Chain(base, fields):
                value = self.term(base, dot)
                for field in fields:
                    value = self._field(value, field)
                return value
            case Pipeline():
                return self.pipeline(term, dot)
            case Name(name):
                return self._call(name, [])

    def _field(self, value: Any, field: str) -> Any:
        if isinstance(value, Mapping):
            if field in value:
                found = value[field]
                return found() if callable(found) else found
            if field in self._known:
                return None
            raise TemplateError(f"can't evaluate field {field}: there is none of that name")
        if value is None:
            raise TemplateError(f"nil pointer evaluating field {field}")
        raise TemplateError(f"can't evaluate field {field} in type {kind(value)}")


def undefined(name: str) -> Any:
    raise TemplateError(f'undefined variable "${name}"')


def items_of(value: Any) -> list[tuple[Any, Any]]:
    """What a range walks over; maps in the order of their keys."""
    if value is None:
        return []
    if isinstance(value, Mapping):
        return [(key, value[key]) for key in sorted(value)]
    if isinstance(value, list | tuple):
        return list(enumerate(value))
    if isinstance(value, int) and not isinstance(value, bool):
        return [(number, number) for number in range(value)]
    raise TemplateError(f"range can't iterate over {kind(value)}")
