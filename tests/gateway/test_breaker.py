"""The circuit breaker's expressions and states, and the count of requests in flight."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from essaim.gateway.codec.message import Request
from essaim.gateway.routing.call import Answer, Call, Middleware
from essaim.gateway.routing.middlewares.breaker import Breaker, Window
from essaim.gateway.routing.middlewares.breaker_expression import parse_expression
from essaim.gateway.routing.middlewares.build import make_middleware
from essaim.gateway.routing.middlewares.in_flight import InFlight


class Fixed:
    """Measurements of the test's choice."""

    def __init__(self, errors: float = 0.0, codes: float = 0.0, latency: float = 0.0) -> None:
        self.errors, self.codes, self.latency = errors, codes, latency

    def network_error_ratio(self) -> float:
        return self.errors

    def response_code_ratio(self, low: int, high: int, by_low: int, by_high: int) -> float:
        return self.codes if (low, high, by_low, by_high) == (500, 600, 0, 600) else -1.0

    def latency_at_quantile_ms(self, quantile: float) -> float:
        return self.latency if quantile == 50.0 else -1.0


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("NetworkErrorRatio() > 0.30", True),
        ("networkerrorratio()>=0.5", True),
        ("0.5 < NetworkErrorRatio()", False),
        ("ResponseCodeRatio(500, 600, 0, 600) == 0.25", True),
        ("LatencyAtQuantileMS(50.0) != 80", False),
        ("!(LatencyAtQuantileMS(50.0) <= 100)", False),
        ("NetworkErrorRatio() > 0.9 || LatencyAtQuantileMS(50.0) > 10 && ResponseCodeRatio(500,600,0,600) > 0.2", True),
        ("(NetworkErrorRatio() > 0.3 || LatencyAtQuantileMS(50.0) > 10) && ResponseCodeRatio(500,600,0,600) > 0.9",
         False),
        ("! NetworkErrorRatio() > 0.9 && 1 > 0", True),
    ],
)  # fmt: skip
def test_expression_is_evaluated(text: str, expected: bool) -> None:
    assert parse_expression(text)(Fixed(0.5, 0.25, 80.0)) is expected


@pytest.mark.parametrize(
    "text",
    ["", "NetworkErrorRatio()", "NetworkErrorRatio > 1", "NetworkErrorRatio(1) > 1", "Foo() > 1", "1 >", "1 > 2 &&",
     "(1 > 2", "1 > 2)", "LatencyAtQuantileMS(101) > 1", "LatencyAtQuantileMS() > 1", "1 = 2",
     "ResponseCodeRatio(1,2) > 1",
     "__import__(1) > 2", "(" * 50 + "1 > 2" + ")" * 50, "1 && 2", "LatencyAtQuantileMS(NetworkErrorRatio()) > 1"],
)  # fmt: skip
def test_expression_that_cannot_be_read_says_why(text: str) -> None:
    with pytest.raises(ValueError, match=r"\S"):
        parse_expression(text)


OUTCOMES = st.lists(
    st.tuples(
        st.sampled_from([200, 204, 404, 499, 500, 502, 503, 504]),
        st.floats(0.0002, 60.0),
        st.floats(0, 3),
    ),
    min_size=1,
    max_size=60,
)


@given(OUTCOMES, st.sampled_from([0.0, 50.0, 90.0, 99.0, 100.0]))
def test_window_agrees_with_a_plain_list_of_the_last_ten_seconds(
    outcomes: list[tuple[int, float, float]], quantile: float
) -> None:
    window, now, plain = Window(), 100.0, []
    for status, seconds, pause in outcomes:
        now += pause
        window.add(status, seconds, now)
        plain.append((status, seconds, int(now)))
    recent = [(status, seconds) for status, seconds, at in plain if at > int(now) - 10]
    codes = [status for status, _ in recent]
    assert window.network_error_ratio() == sum(code in (502, 504) for code in codes) / len(codes)
    base = sum(200 <= code < 500 for code in codes)
    wanted = sum(500 <= code < 504 for code in codes) / base if base else 0.0
    assert window.response_code_ratio(500, 504, 200, 500) == wanted
    times = sorted(seconds * 1000 for _, seconds in recent)
    rank = max(0, -(-len(times) * int(quantile) // 100) - 1)
    assert times[rank] <= window.latency_at_quantile_ms(quantile) <= max(0.1, times[rank] * 1.126)


def breaker() -> Breaker:
    return Breaker(parse_expression("ResponseCodeRatio(500, 600, 0, 600) > 0.5"), 0.1, 10.0, 10.0)


def test_breaker_opens_answers_by_itself_recovers_and_closes() -> None:
    one = breaker()
    assert one.admits(0.0)
    one.saw(500, 0.01, 0.0)
    assert not one.admits(0.1)
    assert not one.admits(9.9)
    # Halfway through recovery about every other request goes through.
    through = sum(one.admits(15.0) for _ in range(100))
    assert through == 50
    one.saw(200, 0.01, 15.0)
    assert all(one.admits(20.0) for _ in range(10))


def test_breaker_opens_again_when_recovery_goes_badly() -> None:
    one = breaker()
    one.saw(500, 0.01, 0.0)
    assert any(one.admits(19.0) for _ in range(10))
    one.saw(500, 0.01, 19.0)
    assert not any(one.admits(28.9) for _ in range(10))


def test_breaker_asks_its_expression_only_once_a_check_period() -> None:
    one = breaker()
    one.saw(200, 0.01, 0.0)
    for _ in range(5):
        one.saw(500, 0.01, 0.05)
    assert one.admits(0.06)
    one.saw(500, 0.01, 0.11)
    assert not one.admits(0.12)


def test_breaker_late_answer_of_before_it_opened_says_nothing() -> None:
    one = breaker()
    one.saw(500, 0.01, 0.0)
    one.saw(500, 5.0, 9.0)
    # Open since 0 for 10 s, recovering until 20 s: not prolonged by the answer at 9 s.
    assert one.admits(20.0)
    assert all(one.admits(20.0) for _ in range(5))


@given(st.lists(st.tuples(st.booleans(), st.sampled_from([b"a", b"b", b"c"])), max_size=60), st.integers(1, 3))
def test_in_flight_agrees_with_a_plain_count(steps: list[tuple[bool, bytes]], amount: int) -> None:
    flights, plain = InFlight(amount), Counter[bytes]()
    for enter, source in steps:
        if enter:
            assert flights.enter(source) is (plain[source] < amount)
            plain[source] += plain[source] < amount
        elif plain[source]:
            flights.leave(source)
            plain[source] -= 1
    assert flights.sources == len(+plain)


def call(address: str = "192.0.2.7", fields: bytes = b"", now: float = 0.0, host: bytes = b"a") -> Call:
    request = Request(b"GET", b"/", 1)
    request.host = host
    return Call(request, b"/", b"", fields, address, b"a", now)


def admitted(middleware: Middleware, asked: Call) -> int:
    try:
        middleware(asked)
    except Answer as answer:
        return answer.status
    return 0


@pytest.mark.parametrize(
    ("options", "other"),
    [
        ({}, call("192.0.2.8")),
        ({"sourcecriterion.requestheadername": "X-Key"}, call(fields=b"X-Key: 2\r\n")),
        ({"sourcecriterion.requesthost": "true"}, call(host=b"b")),
    ],
)
def test_in_flight_middleware_counts_by_source_until_the_end(options: dict[str, str], other: Call) -> None:
    middleware = make_middleware("inflightreq", {"amount": "1"} | options)
    first = call()
    assert admitted(middleware, first) == 0
    assert admitted(middleware, call()) == 429
    assert admitted(middleware, other) == 0
    first.end(200, 0.1)
    first.end(200, 0.1)
    assert admitted(middleware, call()) == 0
    assert admitted(middleware, call()) == 429


def test_circuit_breaker_middleware_answers_with_its_code() -> None:
    options = {"expression": "NetworkErrorRatio() > 0.3", "responsecode": "529", "fallbackduration": "5s"}
    middleware = make_middleware("circuitbreaker", options)
    first = call(now=1.0)
    assert admitted(middleware, first) == 0
    first.end(502, 0.5)
    assert admitted(middleware, call(now=2.0)) == 529


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("circuitbreaker", {}),
        ("circuitbreaker", {"expression": "x"}),
        ("circuitbreaker", {"expression": "1 > 2", "responsecode": "99"}),
        ("inflightreq", {"amount": "0"}),
        ("inflightreq", {"amount": "1", "sourcecriterion.requestheadername": "A",
                         "sourcecriterion.requesthost": "true"}),
    ],
)  # fmt: skip
def test_middleware_with_bad_options_is_refused(kind: str, options: dict[str, str]) -> None:
    with pytest.raises(ValueError, match=r"\S"):
        make_middleware(kind, options)
