"""Rows of `essaim lb status` for what concerns the gateway as a whole."""

from essaim.cli.output.lbstatus import status_rows


def test_status_of_a_gateway_that_serves_nothing_says_so() -> None:
    (row,) = status_rows({"serves": False})
    assert (row["Verdict"], row["Reason"]) == (
        "idle", "this node's gateway serves nothing, as the node's label essaim.gateway says",
    )  # fmt: skip
    assert status_rows({"serves": True}) == status_rows({}) == status_rows({"serves": False}, "web") == []


def test_status_shows_warnings_of_the_gateway() -> None:
    (row,) = status_rows({"warnings": ["a gateway worker could not give up the daemon's user"]})
    assert (row["Verdict"], row["Reason"]) == ("warning", "a gateway worker could not give up the daemon's user")
