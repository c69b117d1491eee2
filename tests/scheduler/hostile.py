"""Specifications that no API would take, as an older version or another member of the log might have stored them."""

from datetime import UTC, datetime
from typing import Any

from hypothesis import strategies as st
from msgspec import inspect

from essaim.cluster.service import ServiceSpec

TEXTS = [
    "",
    " ",
    "\0",
    "²",
    "٣٤",
    "-1",
    "9" * 400,
    "9" * 5000,
    "1e400",
    "nan",
    "x" * 20_000,
    "(" * 500,
    "a.b.c..",
    "../../etc/passwd",
    "\u202eabc",
    "{}{0}{x!r}",
    "%s%n",
    "10.0.0.0/99",
    "::ffff:1.2.3.4",
    "*/0 * * * *",
    "* * * * * * *",
    "20000000h",
    "http://[::1",
    "http://h:99999999999/",
    "Host(`" + "a" * 300 + "`)",
    "bogus==\n",
    "\U0001f4a9",
]
INTEGERS = [-(1 << 63), -1, 0, 1, 2, 1 << 18, 1 << 31, 1 << 53, (1 << 63) - 1]
FLOATS = [float("nan"), float("inf"), float("-inf"), -1.0, 0.0, 1e308]
LABELS = [
    "",
    "com.docker.stack.namespace",
    "essaim.drain",
    "essaim.placement.strategy",
    "essaim.port.80.protocol",
    "essaim.port.².protocol",
    "essaim.rebalance",
    "essaim.schedule",
    "essaim.schedule.concurrency",
    "essaim.schedule.deadline",
    "essaim.schedule.timezone",
    "essaim.tls.certificate",
    "essaim.tls.client.ca",
    "traefik.enable",
    "traefik.http.middlewares.m.forwardauth.address",
    "traefik.http.routers.r.rule",
    "traefik.http.routers.r.tls.certresolver",
    "traefik.http.routers.r.tls.domains[0].main",
    f"traefik.http.routers.r.tls.domains[{'9' * 5000}].sans",
    "traefik.http.services.s.loadbalancer.server.port",
    "traefik.tcp.routers.r.rule",
]
GOOD = ["auto", "* * * * *", "@daily", "80", "true", "le", "Host(`a.example`)", "http", "binpack", "30s"]
"""So that what stands beside them is read at all."""

texts = st.sampled_from(TEXTS)
labels = st.dictionaries(st.sampled_from(LABELS) | texts, texts | st.sampled_from(GOOD), max_size=6)


def _anything() -> st.SearchStrategy[Any]:
    leaves = texts | st.sampled_from(INTEGERS) | st.none()
    return st.recursive(leaves, lambda inner: st.lists(inner, max_size=2) | st.dictionaries(texts, inner, max_size=2))


def _of(info: inspect.Type, depth: int) -> st.SearchStrategy[Any]:
    if isinstance(info, inspect.UnionType):
        some = [t for t in info.types if not isinstance(t, inspect.NoneType)]
        return st.one_of(*(_of(t, depth) for t in some))
    if isinstance(info, inspect.StructType):
        return _struct(info, depth + 1)
    if isinstance(info, inspect.ListType):
        return st.lists(_of(info.item_type, depth), max_size=2)
    if isinstance(info, inspect.DictType):
        return st.dictionaries(texts, _of(info.value_type, depth), max_size=2)
    known: dict[type, st.SearchStrategy[Any]] = {
        inspect.StrType: texts,
        inspect.IntType: st.sampled_from(INTEGERS),
        inspect.FloatType: st.sampled_from(FLOATS),
        inspect.BoolType: st.booleans(),
        inspect.BytesType: st.just(b"\xff\0"),
        inspect.DateTimeType: st.sampled_from([datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)]),
    }
    return known.get(type(info), _anything())


def _struct(info: inspect.StructType, depth: int) -> st.SearchStrategy[Any]:
    """Some optional fields absent, so that what is there is reached."""
    required = {f.name: _of(f.type, depth) for f in info.fields if f.required}
    optional = {f.name: _of(f.type, depth) for f in info.fields if not f.required}
    chosen = (
        st.lists(st.sampled_from(sorted(optional)), unique=True, max_size=len(optional)) if optional else st.just([])
    )

    @st.composite
    def build(draw: st.DrawFn) -> Any:
        fields = {name: draw(value) for name, value in required.items()}
        fields |= {name: draw(optional[name]) for name in draw(chosen)}
        return info.cls(**fields)

    return build()


def hostile(kind: type) -> st.SearchStrategy[Any]:
    """Values of a shape that may have any value at all in any of its fields."""
    return _of(inspect.type_info(kind), 0)


specs: st.SearchStrategy[ServiceSpec] = hostile(ServiceSpec)
