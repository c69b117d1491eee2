"""What tells a web page's request from a program's: the decision alone."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from essaim.api.browsers import body_refusal, page_refusal

NAMES = {"manager.example.org", "*.cluster.example.org", "2001:db8::5"}
LOCAL = "192.0.2.7"


def refused(host: str = "localhost:2376", origin: str | None = None, site: str | None = None) -> str:
    origins, sites = ([] if value is None else [value] for value in (origin, site))
    return page_refusal([host], origins, sites, names=NAMES, local=LOCAL)


@pytest.mark.parametrize(
    "host",
    [
        "localhost", "localhost:2376", "LocalHost.:1", "a.localhost", "api.moby.localhost", "127.0.0.1:2376",
        "127.9.9.9", "[::1]:2376", "192.0.2.7:2376", "Manager.example.org:2376", "manager.example.org.",
        "a.cluster.example.org", "[2001:db8::5]:2376", "[2001:0db8:0:0::5]",
    ],
)  # fmt: skip
def test_host_of_ours_passes(host: str) -> None:
    assert not refused(host)


@pytest.mark.parametrize(
    "host",
    [
        "rebound.example", "rebound.example:2376", "localhost.rebound.example", "127.0.0.1.rebound.example",
        "192.0.2.8", "a.b.cluster.example.org", "cluster.example.org",
        "0.0.0.0", "[::]", "", ":2376", "127.0.0.1@rebound.example", "notlocalhost", "[::1", "127.0.0.1, localhost",
        "manager.example.org.rebound.example", "localhost\x00.rebound.example", "2130706433", "127.1", "١٢٧.0.0.1",
    ],
)  # fmt: skip
def test_host_that_is_not_ours_is_refused_with_what_to_do(host: str) -> None:
    assert "--api-host" in refused(host)


def test_two_hosts_are_refused() -> None:
    assert page_refusal(["localhost", "localhost"], [], [], names=NAMES, local=LOCAL)


def test_no_host_at_all_is_no_browser() -> None:
    assert not page_refusal([], [], [], names=NAMES, local=LOCAL)


@pytest.mark.parametrize("site", ["cross-site", "same-site", "Cross-Site", "", "x", "none, cross-site"])
def test_page_of_another_site_is_refused(site: str) -> None:
    assert "Sec-Fetch-Site" in refused(site=site)
    assert "Sec-Fetch-Site" in refused(site=site, origin="http://localhost:2376")


@pytest.mark.parametrize("site", ["same-origin", "none", "None"])
def test_page_of_ours_or_what_a_user_typed_passes(site: str) -> None:
    assert not refused(site=site)
    assert not refused(site=site, origin="https://portainer.example.org:9443")


@pytest.mark.parametrize(
    "origin",
    [
        "https://rebound.example", "null", "", "http://localhost", "http://localhost:2375", "file://", "http://",
        "https://127.0.0.1:2376", "http://localhost:2376.rebound.example", "http://[::1", "http://localhost:99999999",
    ],
)  # fmt: skip
def test_origin_that_is_not_ours_is_refused(origin: str) -> None:
    assert "Origin" in refused(origin=origin)


@pytest.mark.parametrize(
    ("host", "origin"),
    [("localhost:2376", "http://localhost:2376"), ("localhost", "http://localhost"), ("[::1]", "https://[::1]:443")],
)
def test_origin_of_ours_passes(host: str, origin: str) -> None:
    assert not refused(host, origin)


@given(st.lists(st.text(max_size=30), max_size=2), st.lists(st.text(max_size=30)), st.lists(st.text(max_size=20)))
def test_whatever_the_headers_hold_there_is_an_answer_fit_for_a_terminal(
    host: list[str], origin: list[str], site: list[str]
) -> None:
    assert page_refusal(host, origin, site, names=NAMES, local=LOCAL).isprintable()
    assert body_refusal(origin, host).isprintable()


@pytest.mark.parametrize("kind", ["application/json", "application/json; charset=utf-8", "Application/JSON"])
def test_body_of_json_is_taken(kind: str) -> None:
    assert not body_refusal([kind], ["services", "create"])


@pytest.mark.parametrize(
    "kinds",
    [
        [], [""], ["text/plain"], ["application/x-www-form-urlencoded"], ["multipart/form-data; boundary=x"],
        ["text/plain; application/json"], ["application/json", "text/plain"], ["application/jsonp"],
    ],
)  # fmt: skip
@pytest.mark.parametrize("path", ["services/create", "exec/x/start", "containers/create", "build/prune", "x", ""])
def test_body_of_another_type_is_refused(kinds: list[str], path: str) -> None:
    assert "has to be sent as 'application/json'" in body_refusal(kinds, path.split("/"))


@pytest.mark.parametrize(
    "path", ["build", "images/load", "images/create", "containers/x/archive", "containers/x/attach/ws", "session"]
)
def test_archives_and_streams_are_taken_as_they_are(path: str) -> None:
    assert not body_refusal(["application/x-tar"], path.split("/"))
