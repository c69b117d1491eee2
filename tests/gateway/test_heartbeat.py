"""Which workers hang, decided twice: by `HangDetector`, tick by tick, and by a second version that looks at the whole
past."""

from hypothesis import given
from hypothesis import strategies as st

from essaim.gateway.runtime.heartbeat import LONGEST, PERIOD, SILENT, HangDetector, Reading

TICK = PERIOD


def ticks(
    pulse: HangDetector[str], count: int, beat: int = 1, delayed: float = 0.0, elapsed: float = TICK
) -> list[str]:
    """Ticks at which the one worker says the same; `delayed` more seconds at each. Returns who was found to hang."""
    found = []
    for number in range(count):
        found += pulse.tick(elapsed, {"w": Reading(beat, delayed * number)})
    return found


def test_pulse_worker_that_beats_never_hangs() -> None:
    pulse = HangDetector[str]()
    assert [pulse.tick(TICK, {"w": Reading(number, 0.0)}) for number in range(1000)] == [[]] * 1000


def test_pulse_worker_busy_for_a_second_does_not_hang_and_a_silent_one_does_within_two() -> None:
    pulse = HangDetector[str]()
    assert ticks(pulse, 1 + round((1.0 + PERIOD) / TICK)) == []
    assert ticks(pulse, round(0.75 / TICK)) == ["w"]


def test_pulse_supervisor_that_was_stopped_for_a_minute_holds_little_against_anybody() -> None:
    pulse = HangDetector[str]()
    ticks(pulse, 3)
    assert pulse.tick(60.0, {"w": Reading(1, 0.0)}) == []
    assert pulse.tick(TICK, {"w": Reading(2, 0.0)}) == []


def test_pulse_worker_without_a_processor_is_excused_but_not_for_ever() -> None:
    pulse = HangDetector[str]()
    assert ticks(pulse, round(LONGEST / TICK) - 1, delayed=TICK) == []
    assert ticks(pulse, 3, delayed=TICK) == ["w"]


def test_pulse_worker_that_wraps_round_its_counter_beats() -> None:
    pulse = HangDetector[str]()
    ticks(pulse, 5, beat=(1 << 32) - 1)
    assert ticks(pulse, 5, beat=0) == []


History = list[tuple[float, dict[str, tuple[int, float]]]]

histories: st.SearchStrategy[History] = st.lists(
    st.tuples(
        st.sampled_from([0.125, 0.25, 0.375, 5.0]),
        st.dictionaries(
            st.sampled_from("abc"),
            st.tuples(st.sampled_from([0, 0, 0, 0, 0, 1]), st.sampled_from([0.0, 0.0, 0.125, 0.5])),
        ),
    ),
    max_size=60,
)


def naive(past: list[tuple[float, dict[str, Reading]]], judged: dict[str, int]) -> set[str]:
    """Who hangs at the last tick; `judged`: at which tick each was last found to. Looks at the whole past each time."""
    hung = set()
    for key in past[-1][1]:
        silent = still = 0.0
        number = len(past) - 1
        while number > 0 and key in past[number - 1][1] and judged.get(key, -1) < number - 1:
            (elapsed, here), (_, before) = past[number], past[number - 1]
            if here[key].beat != before[key].beat:
                break
            step = min(elapsed, 2 * PERIOD)
            silent += max(0.0, step - max(0.0, here[key].delayed - before[key].delayed))
            still += step
            number -= 1
        if silent >= SILENT or still >= LONGEST:
            hung.add(key)
    return hung


@given(histories)
def test_pulse_agrees_with_a_second_version_that_looks_at_the_whole_past(history: History) -> None:
    pulse, past, judged = HangDetector[str](), [], {}
    beats: dict[str, int] = {}
    delays: dict[str, float] = {}
    for number, (elapsed, steps) in enumerate(history):
        readings = {}
        for key, (beat, delay) in steps.items():
            beats[key] = beats.get(key, 0) + beat
            delays[key] = delays.get(key, 0.0) + delay
            readings[key] = Reading(beats[key], delays[key])
        past.append((elapsed, readings))
        expected = naive(past, judged)
        assert set(pulse.tick(elapsed, readings)) == expected
        judged |= dict.fromkeys(expected, number)
