"""Lists: rows of named fields through `--format`, as tables, templates or JSON.

A row maps the names that templates use to text; a table's headers belong to the names. A source may be
`table` (the default one), `table TEMPLATE`, `json`, `raw` or a template.

Pure: rows to text.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from essaim.cli.template.evaluate import Template
from essaim.cli.template.json_text import dumps

from .tabs import align

Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Listing:
    """`columns` is the default table's template; `headers` name every field that a template may use."""

    columns: str
    headers: Mapping[str, str]
    raw: str = ""

    def render(self, rows: Sequence[Row], source: str = "", *, quiet: str = "") -> str:
        """The text of a list. `quiet` is the field that alone is wanted (`-q`)."""
        layout = source or "table"
        if quiet and layout == "table":
            return self._lines(f"{{{{.{quiet}}}}}", rows)
        if layout == "json":
            return self._lines("{{json .}}", rows)
        if layout == "raw" and self.raw:
            return self._lines(self.raw, rows)
        if layout == "table" or layout.startswith("table "):
            body = layout.removeprefix("table").strip() or self.columns
            return self._table(unescape(body), rows)
        return self._lines(unescape(layout), rows)

    def _lines(self, source: str, rows: Sequence[Row]) -> str:
        template = make(source)
        return "".join(render(template, row) + "\n" for row in rows)

    def _table(self, source: str, rows: Sequence[Row]) -> str:
        template = make(source, header=True)
        header = render(template, dict(self.headers))
        template = make(source)
        body = "".join("\n" + render(template, row) for row in rows)
        return align(header + body) + "\n"


def is_table(source: str) -> bool:
    return source in ("", "table") or source.startswith("table ")


def unescape(source: str) -> str:
    """In `--format`, \\t and \\n are written with a backslash."""
    return source.replace("\\t", "\t").replace("\\n", "\n")


def render(template: Template, row: Row) -> str:
    return template.render(row)


def as_json(value: Any) -> str:
    """Rows print their fields in the order of the names, with HTML's characters escaped; other values as they are."""
    if isinstance(value, Mapping) and not isinstance(value, Labels):
        return dumps({key: value[key] for key in sorted(value)}, escape_html=True)
    return dumps(value)


class Labels(dict[str, str]):
    """A map inside a row."""


def same(value: Any, *_: Any) -> Any:
    """In a header, functions leave the header's text alone."""
    return value


HEADER_FUNCTIONS: dict[str, Callable[..., Any]] = {
    "json": same,
    "title": same,
    "lower": same,
    "upper": same,
    "truncate": same,
    "split": lambda value, *_: value,
    "join": same,
    "println": lambda value, *_: str(value),
}


def make(source: str, *, header: bool = False) -> Template:
    functions = HEADER_FUNCTIONS if header else {"json": as_json}
    return Template(source, functions=functions)
