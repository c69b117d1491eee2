"""Rows of `essaim lb status` for what concerns the gateway as a whole."""

from essaim.cli.output.lbstatus import status_rows, status_text


def test_status_of_a_gateway_that_serves_nothing_says_so() -> None:
    (row,) = status_rows({"serves": False})
    assert (row["Verdict"], row["Reason"]) == (
        "idle", "this node's gateway serves nothing, as the node's label essaim.gateway says",
    )  # fmt: skip
    assert status_rows({"serves": True}) == status_rows({}) == status_rows({"serves": False}, "web") == []


def test_status_shows_warnings_of_the_gateway() -> None:
    (row,) = status_rows({"warnings": ["a gateway worker could not give up the daemon's user"]})
    assert (row["Verdict"], row["Reason"]) == ("warning", "a gateway worker could not give up the daemon's user")


LONG = "router web is not served: " + "the service of this name has no port that the gateway knows; " * 6


def test_status_text_keeps_long_sentences_out_of_the_table() -> None:
    port = {
        "published": 80,
        "target": 8080,
        "protocol": "tcp",
        "endpoints": [{"address": "10.0.0.1", "port": 9, "verdict": "up"}],
    }
    rows = status_rows({"services": [{"name": "web", "ports": [port], "warnings": [LONG], "fault": "it is broken"}]})
    lines = status_text(rows, 80).splitlines()
    assert max(map(len, lines)) <= 80
    assert lines[0].startswith("SERVICE")
    assert "10.0.0.1:9" in lines[1]
    assert lines[2] == "web: faulty: it is broken"
    assert lines[3].startswith("web: warning: router web is not served")
    assert " ".join(line.strip() for line in lines[3:]) == f"web: warning: {LONG.strip()}"


def test_status_text_is_not_folded_for_programs_and_very_narrow_terminals() -> None:
    rows = status_rows({"warnings": [LONG]})
    for width in (None, 10):
        assert status_text(rows, width).splitlines()[-1] == f"warning: {LONG}"


def test_status_text_cuts_reasons_to_the_width_of_the_terminal() -> None:
    endpoint = {"task_name": "web.1.abc", "address": "10.0.0.1", "port": 9, "verdict": "down", "reason": LONG}
    port = {"published": 80, "target": 8080, "protocol": "tcp", "endpoints": [endpoint]}
    rows = status_rows({"services": [{"name": "web", "ports": [port]}]})
    assert max(map(len, status_text(rows, 120).splitlines())) == 120
    assert LONG in status_text(rows, None)
