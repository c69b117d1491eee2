"""Active checks: verdicts, the schedule, and the checks themselves."""

import asyncio

import pytest

from essaim.gateway.health.check import check
from essaim.gateway.health.monitor import Monitor
from essaim.gateway.health.verdict import Verdict
from essaim.gateway.protocol.options import HealthOptions
from tests.ports import free_port

from .conftest import Backends, until


def test_verdict_turns_after_fall_failures_and_rise_successes() -> None:
    verdict, options = Verdict(), HealthOptions(fall=3, rise=2)
    outcomes = ["x", "x", None, "x", "x", "x", None, "x", None, None]
    seen = []
    for outcome in outcomes:
        verdict.observe(outcome, options)
        seen.append(verdict.up)
    assert seen == [True, True, True, True, True, False, False, False, False, True]


def test_verdict_explains_itself_while_in_doubt() -> None:
    verdict = Verdict()
    verdict.observe("connection refused", HealthOptions(fall=2))
    assert verdict.doubted
    assert verdict.reason == "1 of 2 checks failed (connection refused)"


async def test_monitor_reports_turns_and_forgets_removed_targets() -> None:
    turns: list[tuple[str, bool, str]] = []
    failing = {"a"}

    async def checker(options: HealthOptions, address: str, port: int) -> str | None:
        return "broken" if address in failing else None

    monitor = Monitor(lambda *turn: turns.append(turn), checker)
    monitor.start()
    options = HealthOptions(interval=0.01, fall=2)
    for name in ("a", "b"):
        monitor.put(f"k{name}", name, 1, options)
    await until(lambda: sorted(turns) == [("ka", False, "broken"), ("kb", True, "check passed")])
    failing.clear()
    await until(lambda: turns[2:] == [("ka", True, "check passed")])
    monitor.drop("ka")
    assert (monitor.verdict("ka"), monitor.verdict("kb") is None) == (None, False)
    await monitor.stop()


async def test_monitor_doubt_from_traffic_checks_at_once() -> None:
    checked: list[str] = []

    async def checker(options: HealthOptions, address: str, port: int) -> str | None:
        checked.append(address)
        return None

    monitor = Monitor(lambda *turn: None, checker)
    monitor.start()
    monitor.put("k", "a", 1, HealthOptions(interval=3600))
    await until(lambda: checked == ["a"])
    monitor.doubt("k")
    await until(lambda: checked == ["a", "a"])
    await monitor.stop()


@pytest.mark.parametrize(
    ("answer", "options", "reason"),
    [
        (b"HTTP/1.1 200 OK\r\n\r\nfine", HealthOptions(kind="http"), None),
        (b"HTTP/1.1 503 No\r\n\r\n", HealthOptions(kind="http"), "status 503, expected 200-399"),
        (b"HTTP/1.1 200 OK\r\n\r\n", HealthOptions(kind="http", status=(204, 204)), "status 200, expected 204"),
        (b"HTTP/1.1 200 OK\r\n\r\nfine", HealthOptions(kind="http", body="fine"), None),
        (b"HTTP/1.1 200 OK\r\n\r\nbad", HealthOptions(kind="http", body="fine"), "the answer's body does not contain"),
        (b"SSH-2.0\r\n\r\n", HealthOptions(kind="http"), "the answer is not HTTP"),
        (b"", HealthOptions(kind="http"), "the answer is not HTTP"),
        (b"", HealthOptions(), None),
    ],
)
async def test_check_outcomes(backends: Backends, answer: bytes, options: HealthOptions, reason: str | None) -> None:
    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if options.kind == "http":
            await reader.readuntil(b"\r\n\r\n")
            writer.write(answer)
        writer.close()

    found = await check(options, "127.0.0.1", await backends.serve(handler))
    assert found == reason or (reason is not None and found is not None and found.startswith(reason))


async def test_check_silent_server_and_closed_port_fail_with_a_reason(backends: Backends) -> None:
    quiet = asyncio.Event()

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await quiet.wait()
        writer.close()

    port = await backends.serve(handler)
    assert await check(HealthOptions(kind="http", timeout=0.1), "127.0.0.1", port) == "no answer within 0.1 s"
    quiet.set()
    assert await check(HealthOptions(), "127.0.0.1", free_port()) == "connection refused"
