"""The templates, loaded once; a name that a template misspells is an error, not an empty string."""

from functools import cache
from typing import Any

import jinja2


@cache
def _environment() -> jinja2.Environment:
    return jinja2.Environment(
        loader=jinja2.PackageLoader("essaim.configs", "templates"),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,  # noqa: S701  # plain text configurations; what comes from users is cleaned in balanced.py
    )


def render(template: str, **values: Any) -> str:
    return _environment().get_template(template).render(**values)
