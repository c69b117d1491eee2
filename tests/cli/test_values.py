"""Sizes, durations, ports, mounts and the other values of flags."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from essaim.cli.output.naturalsort import natural
from essaim.cli.output.portlist import ingress_ports
from essaim.cli.output.tabs import align
from essaim.cli.spec.ipam import ipam
from essaim.cli.template.json_text import dumps, indent, loads
from essaim.cli.values.durations import human_duration, parse_time, since_parameter, time_ago
from essaim.cli.values.images import familiar, registry, with_tag
from essaim.cli.values.mounts import parse_mount
from essaim.cli.values.pairs import fields, last_wins, parse_env_file, resolve_env
from essaim.cli.values.ports import parse_publish
from essaim.cli.values.quotes import quoted
from essaim.cli.values.references import capabilities, parse_reference, parse_ulimit
from essaim.cli.values.sizes import binary_size
from essaim.cluster.cpus import parse_cpus
from essaim.cluster.durations import format_duration
from essaim.cluster.durations import nanoseconds as parse_duration
from essaim.cluster.sizes import parse_size

NOW = datetime(2024, 1, 31, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "size"), [("64M", 2**26), ("1gb", 2**30), ("1.5k", 1536), ("10", 10), ("2 MiB", 2**21), ("3b", 3)]
)
def test_bytes_in_any_spelling_are_read(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "x", "1x", "-1m", "1..5m", "m"])
def test_bytes_that_are_none_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="invalid"):
        parse_size(text)


def test_sizes_print_four_digits() -> None:
    assert [binary_size(size) for size in (0, 512, 1536, 2**26, 8345124864)] == [
        "0B",
        "512B",
        "1.5KiB",
        "64MiB",
        "7.772GiB",
    ]


@given(st.integers(0, 10**12))
def test_cpus_written_as_decimal_read_back(nano: int) -> None:
    assert parse_cpus(f"{nano // 10**9}.{nano % 10**9:09d}") == nano


@given(st.integers(-(2**62), 2**62))
def test_duration_printed_reads_back(nanoseconds: int) -> None:
    assert parse_duration(format_duration(nanoseconds)) == nanoseconds


@pytest.mark.parametrize(
    ("nanoseconds", "text"),
    [
        (0, "0s"),
        (5 * 10**9, "5s"),
        (90 * 10**9, "1m30s"),
        (15 * 10**8, "1.5s"),
        (2 * 10**8, "200ms"),
        (1500, "1.5µs"),
        (7, "7ns"),
        (7776000 * 10**9, "2160h0m0s"),
    ],
)
def test_duration_prints_as_go_prints_it(nanoseconds: int, text: str) -> None:
    assert format_duration(nanoseconds) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.2, "Less than a second"), (1, "1 second"), (59, "59 seconds"), (60, "About a minute"), (125, "2 minutes"),
     (3600, "About an hour"), (7200, "2 hours"), (47 * 3600, "47 hours"), (72 * 3600, "3 days"),
     (21 * 86400, "3 weeks"), (90 * 86400, "3 months"), (800 * 86400, "2 years")],
)  # fmt: skip
def test_human_duration_uses_docker_s_words(seconds: float, text: str) -> None:
    assert human_duration(seconds) == text


def test_time_ago_of_a_time_with_parse_duration() -> None:
    assert time_ago("2024-01-31T11:55:00.123456789Z", NOW) == "4 minutes ago"
    assert time_ago("0001-01-01T00:00:00Z", NOW) == ""
    assert time_ago(None, NOW) == ""


@given(st.datetimes(datetime(1970, 1, 1), datetime(2100, 1, 1)))  # noqa: DTZ001
def test_parse_time_reads_what_python_prints(moment: datetime) -> None:
    assert parse_time(moment.isoformat() + "Z") == moment.replace(tzinfo=UTC)


def test_since_takes_durations_unix_times_and_dates() -> None:
    before = NOW - timedelta(minutes=42)
    assert since_parameter("42m", NOW) == f"{int(before.timestamp())}.000000000"
    assert since_parameter("1700000000.5", NOW) == "1700000000.5"
    assert since_parameter("2013-01-02T13:23:37Z", NOW) == "1357133017.000000000"
    with pytest.raises(ValueError, match="failed to parse"):
        since_parameter("yesterday", NOW)


@pytest.mark.parametrize(
    ("text", "ports"),
    [
        ("80", [("tcp", 80, None, None)]),
        ("8080:80", [("tcp", 80, 8080, None)]),
        ("8080:80/udp", [("udp", 80, 8080, None)]),
        ("8080-8082:80-82", [("tcp", 80, 8080, None), ("tcp", 81, 8081, None), ("tcp", 82, 8082, None)]),
        ("8080-8081:80", [("tcp", 80, 8080, None), ("tcp", 80, 8081, None)]),
        ("127.0.0.1:8080:80", [("tcp", 80, 8080, "127.0.0.1")]),
        ("[::1]:8080:80", [("tcp", 80, 8080, "::1")]),
        ("target=80,published=8080,mode=host,host_ip=10.0.0.1", [("tcp", 80, 8080, "10.0.0.1")]),
    ],
)
def test_publish_in_both_syntaxes(text: str, ports: list[tuple[str, int, int | None, str | None]]) -> None:
    found = [(port.protocol, port.target_port, port.published_port, port.host_ip) for port in parse_publish(text)]
    assert found == ports


@pytest.mark.parametrize("text", ["", "x", "80:", "1-2:3-5", "5-3", "70000", "80/icmp", "target=1,mode=x", "foo=1"])
def test_publish_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        parse_publish(text)


def test_publish_app_protocol_asks_for_http() -> None:
    (port,) = parse_publish("target=80,published=4000,app_protocol=http")
    assert port.app_protocol == "http"


@given(st.text(max_size=40))
def test_flag_values_of_any_text_are_read_or_refused(text: str) -> None:
    for parse in (
        parse_publish,
        parse_mount,
        parse_reference,
        parse_ulimit,
        parse_size,
        parse_cpus,
        parse_duration,
        fields,
    ):
        try:
            parse(text)
        except ValueError as error:
            explained = str(error)
            assert explained


def test_mount_with_options_of_another_type_is_refused() -> None:
    with pytest.raises(ValueError, match="cannot mix 'tmpfs-\\*' options with mount type 'volume'"):
        parse_mount("source=v,target=/v,tmpfs-size=1m")


def test_env_file_skips_comments_and_takes_bare_names_from_the_environment() -> None:
    text = "# comment\nA=1\n\nB\n  C=x y # kept\nD\n"
    assert parse_env_file(text, {"B": "2"}, "f") == ["A=1", "B=2", "C=x y # kept"]
    with pytest.raises(ValueError, match=r"invalid env file \(f\), line 1"):
        parse_env_file("a b=1", {}, "f")


def test_environment_last_setting_wins() -> None:
    assert last_wins(["A=1", "B=2", "A=3"]) == ["B=2", "A=3"]
    assert resolve_env(["X", "Y", "Z=1"], {"X": "9"}) == ["X=9", "Y", "Z=1"]


def test_capability_added_wins_over_dropped() -> None:
    assert capabilities(["net_admin", "CAP_CHOWN"], ["chown", "ALL"]) == (["CAP_CHOWN", "CAP_NET_ADMIN"], ["ALL"])


@pytest.mark.parametrize(
    ("image", "shown"),
    [
        ("docker.io/library/redis:7@sha256:" + "a" * 64, "redis:7"),
        ("redis", "redis"),
        ("redis@sha256:" + "a" * 64, "redis@sha256:" + "a" * 64),
        ("localhost:5000/a/b:1", "localhost:5000/a/b:1"),
        ("Not An Image", "Not An Image"),
    ],
)
def test_image_is_shown_without_what_everybody_knows(image: str, shown: str) -> None:
    assert familiar(image) == shown


def test_image_gets_a_tag_and_has_a_registry() -> None:
    assert with_tag("localhost:5000/x") == "localhost:5000/x:latest"
    assert [registry(image) for image in ("redis", "a/b", "a.b/c", "localhost/x", "h:5/x")] == [
        "docker.io",
        "docker.io",
        "a.b",
        "localhost",
        "h:5",
    ]


def test_ports_side_by_side_are_a_range() -> None:
    ports = [{"Protocol": "tcp", "PublishedPort": p, "TargetPort": t} for p, t in ((81, 1), (80, 0), (90, 5), (82, 9))]
    assert ingress_ports(ports) == "*:80-81->0-1/tcp, *:82->9/tcp, *:90->5/tcp"


def test_addresses_go_to_the_subnet_that_holds_them() -> None:
    made = ipam("default", ["10.0.0.0/24", "10.0.1.0/24"], ["10.0.1.128/25"], ["10.0.0.1"], {"a": "10.0.1.9"}, {})
    assert made["Config"] == [
        {"Subnet": "10.0.0.0/24", "Gateway": "10.0.0.1"},
        {"Subnet": "10.0.1.0/24", "IPRange": "10.0.1.128/25", "AuxiliaryAddresses": {"a": "10.0.1.9"}},
    ]
    with pytest.raises(ValueError, match="no matching subnet for gateway"):
        ipam("default", ["10.0.0.0/24"], [], ["10.9.0.1"], {}, {})
    with pytest.raises(ValueError, match="overlapping"):
        ipam("default", ["10.0.0.0/24", "10.0.0.0/25"], [], [], {}, {})


CELLS = st.lists(st.lists(st.text(alphabet="abcé…", max_size=14), min_size=1, max_size=4), min_size=1, max_size=5)


@given(CELLS)
def test_tabs_keep_the_text_and_line_columns_up(rows: list[list[str]]) -> None:
    width = max(map(len, rows))
    rows = [row + [""] * (width - len(row)) for row in rows]
    lines = align("\n".join("\t".join(row) for row in rows)).split("\n")
    start = 0
    for column in range(width):
        cells = [row[column] for row in rows]
        assert [line[start : start + len(cell)] for line, cell in zip(lines, cells, strict=True)] == cells
        start += max(10, max(map(len, cells)) + 3)


@given(st.recursive(st.none() | st.integers() | st.text(), lambda x: st.lists(x) | st.dictionaries(st.text(), x)))
def test_indent_equals_python_s_own(value: object) -> None:
    import json

    ours = indent(json.dumps(value, ensure_ascii=False))
    assert json.loads(ours) == value
    assert ours == json.dumps(value, ensure_ascii=False, indent=4)


def test_whole_floats_print_as_go_prints_them() -> None:
    assert indent('{"a":0.0,"b":-3.0,"c":1.25,"d":"0.0"}', step="") == '{\n"a": 0,\n"b": -3,\n"c": 1.25,\n"d": "0.0"\n}'
    assert dumps(loads('{"a":0.0,"c":1.25}')) == '{"a":0,"c":1.25}'


def test_natural_order_counts_numbers() -> None:
    assert sorted(["web.10", "web.2", "a", "web.1", "web"], key=natural) == ["a", "web", "web.1", "web.2", "web.10"]


@pytest.mark.parametrize(
    ("text", "shown"),
    [("a", '"a"'), ('a"\\', '"a\\"\\\\"'), ("\t\n\a", '"\\t\\n\\a"'), ("\x00\x7f", '"\\x00\\x7f"'), ("é", '"é"'),
     ("\u202e", '"\\u202e"'), ("\U000e0001", '"\\U000e0001"'), ("\udcff", '"\\xff"')],
)  # fmt: skip
def test_quoted_text_is_go_s(text: str, shown: str) -> None:
    assert quoted(text) == shown
