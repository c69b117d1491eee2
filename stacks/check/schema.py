"""Checks the shape of a file against the Compose Specification's JSON schema, on nodes.

The schema is compiled once into one `Variant` per JSON type, because all alternatives in it differ by type: so a
wrong value is compared with the one alternative that was meant, and the message can say what is allowed there
(a general validator answers "is not valid under any of the given schemas", and takes ten times as long).

Pure: the schema is package data, read once at import of `load`.
"""

import json
import re
from dataclasses import dataclass, field
from functools import cache
from importlib import resources
from typing import Any

from essaim.stacks.source.errors import type_name
from essaim.stacks.source.tree import Node, Path, Problems

KINDS: dict[str, tuple[type, ...]] = {
    "object": (dict,),
    "array": (list,),
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
    "null": (type(None),),
}
DIGITS = re.compile(r"-?[0-9]{1,18}")
ANYTHING = tuple(KINDS)

TEXT_OR_NUMBER = {"type": ["string", "number"]}
ADDITIONS: dict[str, dict[str, Any]] = {
    # Stack file 3.x, and what essaim allows beyond both schemas.
    "service": {
        "cgroupns_mode": {"type": "string"},
        "stop_grace_period": TEXT_OR_NUMBER,
        "dns_opt": {"$ref": "#/definitions/string_or_list"},
        "pids_limit": {"type": ["integer", "string"]},
        "user": {"type": ["string", "integer"]},
        "hostname": {"type": ["string", "integer"]},
    },
    "network": {"ingress": {"type": ["boolean", "string"]}, "scope": {"type": "string"}},
    "volume": {"x-cluster-spec": {"type": "object"}},
}


@dataclass(slots=True)
class Variant:
    """What one JSON type must look like in one place. Empty: anything of that type."""

    properties: dict[str, "Rule"] = field(default_factory=dict)
    patterns: list[tuple[re.Pattern[str], "Rule"]] = field(default_factory=list)
    closed: bool = False
    required: tuple[str, ...] = ()
    items: "Rule | None" = None
    unique: bool = False
    enum: tuple[str, ...] = ()
    minimum: float | None = None
    maximum: float | None = None
    pattern: re.Pattern[str] | None = None


@dataclass(slots=True)
class Rule:
    """Allowed Python types of a value, each with what it must look like."""

    variants: dict[type, Variant] = field(default_factory=dict)

    def describe(self) -> str:
        names = list(dict.fromkeys(type_name[kind] for kind in self.variants if kind is not type(None)))
        return " or ".join(names) or "nothing"


class _Compiler:
    def __init__(self, schema: dict[str, Any]) -> None:
        self.schema = schema
        self.known: dict[str, Rule] = {}

    def rule(self, schema: dict[str, Any]) -> Rule:
        reference = schema.get("$ref")
        if reference is None:
            return self.fill(Rule(), schema)
        if reference not in self.known:
            self.known[reference] = Rule()  # entered first: a definition may refer to itself
            self.fill(self.known[reference], self.schema["definitions"][reference.rpartition("/")[2]])
        return self.known[reference]

    def fill(self, rule: Rule, schema: dict[str, Any]) -> Rule:
        for alternative in schema.get("oneOf", schema.get("anyOf", ())):
            for kind, variant in self.rule(alternative).variants.items():
                rule.variants.setdefault(kind, variant)
        if not rule.variants:
            kinds = schema.get("type", ANYTHING)
            variant = self.variant(schema)
            for name in [kinds] if isinstance(kinds, str) else kinds:
                for kind in KINDS[name]:
                    rule.variants.setdefault(kind, variant)
        return rule

    def variant(self, schema: dict[str, Any]) -> Variant:
        patterns = [(re.compile(key), self.rule(value)) for key, value in schema.get("patternProperties", {}).items()]
        return Variant(
            properties={key: self.rule(value) for key, value in schema.get("properties", {}).items()},
            patterns=patterns,
            closed=schema.get("additionalProperties") is False,
            required=tuple(schema.get("required", ())),
            items=self.rule(schema["items"]) if "items" in schema else None,
            unique=schema.get("uniqueItems", False),
            enum=tuple(schema.get("enum", ())),
            minimum=schema.get("minimum"),
            maximum=schema.get("maximum"),
            pattern=re.compile(schema["pattern"]) if "pattern" in schema else None,
        )


def compose_schema() -> dict[str, Any]:
    """The schema as it is published."""
    found: dict[str, Any] = json.loads(resources.files(__package__).joinpath("schemas/compose-spec.json").read_text())
    return found


@cache
def compose_rule() -> Rule:
    """The rule of a whole Compose file."""
    schema = compose_schema()
    for definition, properties in ADDITIONS.items():
        schema["definitions"][definition]["properties"] |= properties
    for name in ("service", "network", "volume", "secret", "config", "deployment", "healthcheck"):
        definition = schema["definitions"][name]
        definition.setdefault("patternProperties", {})["^x-"] = {}
        definition["additionalProperties"] = False
    schema["definitions"]["ulimits"]["additionalProperties"] = False
    schema["definitions"]["blkio_limit"]["required"] = ["path", "rate"]
    schema["definitions"]["blkio_weight"]["required"] = ["path", "weight"]
    schema["properties"]["version"] = TEXT_OR_NUMBER
    schema["properties"]["networks"]["additionalProperties"] = False
    for part in ("services", "networks", "volumes", "secrets", "configs"):
        schema["properties"][part]["type"] = ["object", "null"]
    return _Compiler(schema).rule(schema)


def service_keys() -> tuple[str, ...]:
    """Every key that a service may have, in the schema's order."""
    services = compose_rule().variants[dict].properties["services"].variants[dict]
    return tuple(services.patterns[0][1].variants[dict].properties)


def check(node: Node, rule: Rule, problems: Problems, path: Path = None) -> None:
    """Report everything below `node` that the rule does not allow."""
    if node.tag == "!reset":
        return
    value = node.value
    kind = type(value)
    variant = rule.variants.get(kind)
    if variant is None:
        if kind is str and _reads_as(value, rule):
            return
        problems.add(node.place, path, f"must be {rule.describe()}, found {_found(value)}")
    elif kind is dict:
        _check_mapping(node, variant, problems, path)
    elif kind is list:
        _check_list(node, variant, problems, path)
    elif value is not None:
        _check_scalar(node, variant, problems, path)
        if kind is str and int in rule.variants and DIGITS.fullmatch(value):
            _check_scalar(node.like(int(value)), rule.variants[int], problems, path)


def _reads_as(text: str, rule: Rule) -> bool:
    """A string where only a number or a boolean may stand: a variable's value, which is always a string."""
    if bool in rule.variants and text in ("true", "false"):
        return True
    return int in rule.variants and DIGITS.fullmatch(text) is not None


def _found(value: Any) -> str:
    if isinstance(value, dict | list):
        return type_name[type(value)]
    text = f'"{value}"' if isinstance(value, str) else "null" if value is None else str(value).lower()
    return f"{text[:60]}..." if len(text) > 60 else text


def _check_mapping(node: Node, variant: Variant, problems: Problems, path: Path) -> None:
    properties = variant.properties
    for key, child in node.value.items():
        rule = properties.get(key)
        if rule is None:
            rule = next((rule for pattern, rule in variant.patterns if pattern.search(key)), None)
        if rule is not None:
            check(child, rule, problems, (path, key))
        elif variant.closed:
            place = child.key_place or child.place
            if properties:
                problems.add(place, (path, key), f'unknown key "{key}"', tuple(properties), key)
            else:
                problems.add(place, (path, key), f'"{key}" is not a valid name here', _patterns(variant))
    for key in variant.required:
        if key not in node.value:
            problems.add(node.place, path, f'"{key}" is missing')


def _patterns(variant: Variant) -> tuple[str, ...]:
    return tuple(pattern.pattern for pattern, _ in variant.patterns)


def _check_list(node: Node, variant: Variant, problems: Problems, path: Path) -> None:
    if variant.items is not None:
        for index, child in enumerate(node.value):
            check(child, variant.items, problems, (path, index))
    if variant.unique and len(node.value) > 1:
        seen: set[tuple[type, Any]] = set()
        for index, child in enumerate(node.value):
            if isinstance(child.value, dict | list):
                continue
            key = (type(child.value), child.value)
            if key in seen:
                problems.add(child.place, (path, index), f"{_found(child.value)} stands twice in the list")
            seen.add(key)


def _check_scalar(node: Node, variant: Variant, problems: Problems, path: Path) -> None:
    value = node.value
    if variant.enum and value not in variant.enum:
        problems.add(node.place, path, f"found {_found(value)}", variant.enum, str(value))
    if variant.pattern is not None and isinstance(value, str) and not variant.pattern.search(value):
        problems.add(node.place, path, f"{_found(value)} does not match {variant.pattern.pattern}")
    if isinstance(value, int | float):
        if variant.minimum is not None and value < variant.minimum:
            problems.add(node.place, path, f"must be at least {variant.minimum}, found {value}")
        if variant.maximum is not None and value > variant.maximum:
            problems.add(node.place, path, f"must be at most {variant.maximum}, found {value}")
