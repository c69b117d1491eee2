"""Every label of the gateway's own tables with values that look like quantities and are none: a warning, never a
default without a word. What takes any text is listed here by name; a label that comes to the tables and takes such a
value without being listed makes these tests fail.
"""

from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from essaim.api.control.spec_labels import check_labels
from essaim.cluster.durations import seconds
from essaim.cluster.errors import InvalidArgument
from essaim.cluster.service import Empty, ServiceMode, ServiceSpec
from essaim.cluster.sizes import parse_size
from essaim.gateway.protocol.options import (
    ELSEWHERE,
    HEALTH_LABELS,
    LABELS,
    HealthOptions,
    ServiceOptions,
    read_options,
    unreadable,
)
from essaim.gateway.routing.middlewares.build import make_middleware
from essaim.gateway.routing.middlewares.vocabulary import OPTIONS, SERVICE, service_verdict

NO_QUANTITIES = ["", "soon", "1m30x", "10 s", "1e3s", "-1s", "5kk", "1 000", "\u0665s", "nan", "0x10", "1s,2s", "--5"]
CHECK = "traefik.http.services.web.loadbalancer.healthcheck."
TEXTS = {
    "essaim.healthcheck.body", "essaim.healthcheck.path", "essaim.healthcheck.host", "essaim.healthcheck.hostname",
    "essaim.healthcheck.method", "essaim.sticky.cookie", "essaim.trusted", "essaim.healthcheck.headers",
}  # fmt: skip
"""Labels of which one or the other of these values is as good as any."""
EMPTY_IS_SAID = {
    "essaim.proxyprotocol.accept", CHECK + "followredirects", "redirectscheme.port",
}  # fmt: skip
"""Where an empty value has a meaning: of booleans it is false, of a port the scheme's own, as Traefik has both."""
TEXTS_OF_OTHERS = {"placement.strategy", "rebalance", "schedule", "schedule.concurrency", "schedule.timezone"}

Reader = Callable[[str], Any]
OWN: dict[str, tuple[str, Reader]] = {
    **{f"essaim.{name}": found for name, found in LABELS.items()},
    **{f"essaim.healthcheck.{name}": found for name, found in HEALTH_LABELS.items()},
}
TRAEFIK = {f"{CHECK}{name.removeprefix('healthcheck.')}" for name in SERVICE if name.startswith("healthcheck.")}


def is_duration(reader: Reader) -> bool:
    try:
        return reader("1m30s") == 90.0 and isinstance(reader("1m30s"), float)
    except ValueError:
        return False


DURATIONS = sorted(label for label, (_, reader) in OWN.items() if is_duration(reader))


@pytest.mark.parametrize("label", sorted(set(OWN) - TEXTS))
@pytest.mark.parametrize("value", NO_QUANTITIES)
def test_label_of_ours_with_a_value_that_is_no_quantity_is_a_warning_and_refused_by_the_api(
    label: str, value: str
) -> None:
    if not value and label in EMPTY_IS_SAID:
        return
    _, warnings = read_options({label: value})
    assert [said for said in warnings if label in said], f"{label}={value!r} was taken without a word"
    assert [said for said in unreadable({label: value}) if label in said]


@pytest.mark.parametrize("label", sorted(TEXTS))
def test_label_listed_as_text_takes_one_of_the_values(label: str) -> None:
    assert [value for value in NO_QUANTITIES if not read_options({label: value})[1]]


def test_every_time_of_the_options_has_a_label_and_each_is_read_as_a_duration() -> None:
    times = {
        field.name
        for struct in (ServiceOptions, HealthOptions)
        for field in msgspec.structs.fields(struct)
        if field.type is float and field.name != "access_sample"
    }
    assert {OWN[label][0] for label in DURATIONS} == times


@given(st.sampled_from(DURATIONS), st.text(alphabet="0123456789.+-hmsnu\u00b5 d", max_size=8))
def test_duration_of_a_label_of_ours_is_exact_or_a_warning(label: str, value: str) -> None:
    field, _ = OWN[label]
    options, warnings = read_options({label: value})
    target = options.health if label.startswith("essaim.healthcheck.") else options
    try:
        length = seconds(value)
    except ValueError:
        assert len(warnings) == 1
        return
    assert warnings or getattr(target, field) == length
    assert not warnings or " must be " in warnings[0]  # a bound of this label's own


@pytest.mark.parametrize("label", sorted(TRAEFIK))
@pytest.mark.parametrize("value", NO_QUANTITIES)
def test_label_of_traefik_s_check_with_a_value_that_is_no_quantity_is_a_warning(label: str, value: str) -> None:
    name = label.removeprefix(CHECK)
    if f"essaim.healthcheck.{name}" in TEXTS or (not value and label in EMPTY_IS_SAID):
        return
    said = read_options({label: value})[1]
    own = service_verdict(f"loadbalancer.healthcheck.{name}", value)
    assert said or own, f"{label}={value!r} was taken without a word"


@pytest.mark.parametrize("name", sorted(ELSEWHERE.keys() - TEXTS_OF_OTHERS))
@pytest.mark.parametrize("value", NO_QUANTITIES)
def test_label_that_another_room_reads_is_refused_by_the_api_and_a_warning_where_it_is_there(
    name: str, value: str
) -> None:
    spec = ServiceSpec(
        name="x",
        mode=ServiceMode(global_job=Empty()),
        labels={"essaim.schedule": "@daily", f"essaim.{name}": value},
    )
    with pytest.raises(InvalidArgument, match=f"essaim.{name}"):
        check_labels(spec)
    assert len(read_options({f"essaim.{name}": value})[1]) == 1


@pytest.mark.parametrize("label", ["Essaim.Drain", "essaim.DRAIN", "ESSAIM.SCHEDULE", "essaim.Port.80.protocol"])
def test_label_that_another_room_reads_in_other_letters_is_a_warning(label: str) -> None:
    assert f"label {label} is not known" in read_options({label: "5s"})[1][0]


# Kind of middleware -> options without which it is none.
BASES: dict[str, dict[str, str]] = {
    "addprefix": {"prefix": "/a"},
    "basicauth": {"users": "u:{SHA}5en6G6MezRroT3XKqkdPOmY/BfQ="},
    "circuitbreaker": {"expression": "NetworkErrorRatio() > 0.3"},
    "forwardauth": {"address": "http://auth.example/"},
    "inflightreq": {"amount": "1"},
    "ipallowlist": {"sourcerange": "10.0.0.0/8"},
    "ipwhitelist": {"sourcerange": "10.0.0.0/8"},
    "ratelimit": {"average": "1"},
    "redirectregex": {"regex": "a", "replacement": "b"},
    "redirectscheme": {"scheme": "https"},
    "replacepath": {"path": "/a"},
    "replacepathregex": {"regex": "a", "replacement": "b"},
    "retry": {"attempts": "2"},
    "stripprefix": {"prefixes": "/a"},
    "stripprefixregex": {"regex": "a"},
}
QUANTITIES = {
    "buffering": {"maxrequestbodybytes"},
    "circuitbreaker": {"checkperiod", "fallbackduration", "recoveryduration", "responsecode"},
    "forwardauth": {"maxbodysize", "maxresponsebodysize"},
    "headers": {"accesscontrolmaxage", "stsseconds"},
    "inflightreq": {"amount", "sourcecriterion.ipstrategy.depth", "sourcecriterion.ipstrategy.ipv6subnet"},
    "ipallowlist": {"ipstrategy.depth", "ipstrategy.ipv6subnet", "rejectstatuscode"},
    "ipwhitelist": {"ipstrategy.depth", "ipstrategy.ipv6subnet", "rejectstatuscode"},
    "ratelimit": {
        "average", "burst", "period", "sourcecriterion.ipstrategy.depth", "sourcecriterion.ipstrategy.ipv6subnet",
    },
    "redirectscheme": {"port"},
    "retry": {"attempts", "initialinterval"},
}  # fmt: skip
NOT_QUANTITIES = {
    "addprefix": {"prefix"},
    "basicauth": {"users", "realm", "removeheader", "headerfield"},
    "chain": {"middlewares"},
    "circuitbreaker": {"expression"},
    "forwardauth": {
        "address", "trustforwardheader", "authresponseheaders", "authresponseheadersregex", "authrequestheaders",
        "addauthcookiestoresponse", "headerfield", "forwardbody", "preservelocationheader", "preserverequestmethod",
        "authsigninurl", "tls.ca", "tls.insecureskipverify",
    },
    "headers": set(OPTIONS["headers"]) - QUANTITIES["headers"],
    "inflightreq": {"sourcecriterion.requestheadername", "sourcecriterion.requesthost",
                    "sourcecriterion.ipstrategy.excludedips"},
    "ipallowlist": {"sourcerange", "ipstrategy.excludedips"},
    "ipwhitelist": {"sourcerange", "ipstrategy.excludedips"},
    "ratelimit": {"sourcecriterion.requestheadername", "sourcecriterion.requesthost",
                  "sourcecriterion.ipstrategy.excludedips"},
    "redirectregex": {"regex", "replacement", "permanent"},
    "redirectscheme": {"scheme", "permanent"},
    "replacepath": {"path"},
    "replacepathregex": {"regex", "replacement"},
    "stripprefix": {"prefixes", "forceslash"},
    "stripprefixregex": {"regex"},
}  # fmt: skip


def test_every_option_of_a_middleware_that_is_carried_out_is_listed_as_a_quantity_or_not() -> None:
    for kind, options in OPTIONS.items():
        carried_out = {name for name, reason in options.items() if not reason}
        listed = QUANTITIES.get(kind, set()) | NOT_QUANTITIES.get(kind, set())
        assert carried_out <= listed, kind
        assert not QUANTITIES.get(kind, set()) & NOT_QUANTITIES.get(kind, set()), kind


@pytest.mark.parametrize(
    ("kind", "option"), [(kind, option) for kind, options in QUANTITIES.items() for option in sorted(options)]
)
def test_middleware_with_a_quantity_that_cannot_be_read_is_none(kind: str, option: str) -> None:
    for value in NO_QUANTITIES:
        if not value and f"{kind}.{option}" in EMPTY_IS_SAID:
            continue
        with pytest.raises(ValueError, match=f"^{kind}: ") as refused:
            make_middleware(kind, {**BASES.get(kind, {}), option: value})
        assert str(refused.value).isprintable()


@pytest.mark.parametrize(
    ("value", "size"), [("512", 512), ("64k", 65536), ("1.5m", 1572864), ("2GiB", 2 << 30), ("10 kb", 10240)]
)
def test_limit_of_a_body_is_a_size_as_docker_writes_it(value: str, size: int) -> None:
    assert parse_size(value) == size
    assert read_options({"essaim.limit.body": value})[0].max_body == size
