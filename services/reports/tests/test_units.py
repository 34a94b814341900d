"""Numbers, units and durations, as a report says them."""

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from reports_service.units import NBSP, duration, number, scale


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (0, "0"),
        (0.0, "0"),
        (-0.0, "0"),
        (7, "7"),
        (97.25, "97.2"),
        (9.999, "10"),
        (1.5, "1.5"),
        (123.4, "123"),
        (1234567, "1,234,567"),
        (0.01234, "0.0123"),
        (0.000012, "1.2e-05"),
        (-42.5, "-42.5"),
        (1e18, "1e+18"),
        (float("inf"), "∞"),
        (float("nan"), "not a number"),
    ],
)
def test_a_number_has_three_digits_that_count(value, said):
    """Small numbers keep three significant digits, large ones their thousands."""
    assert number(value) == said


@pytest.mark.parametrize(
    ("unit", "peak", "metric", "value", "said"),
    [
        ("1", 0.97, "system.cpu.utilization", 0.973, "97.3 %"),
        ("1", 0.97, "queue_fill_ratio", 0.5, "50 %"),
        ("1", 12, "system.thread_count", 12, "12"),
        ("", 0.5, "some.ratio", 0.5, "0.5"),
        ("%", 80, "cpu.percent", 80, "80 %"),
        ("By", 1.3e9, "process.memory.usage", 1.3e9, "1.21 GiB"),
        ("By", 0, "process.memory.usage", 0, "0 B"),
        ("By/s", 2_097_152, "net", 1_048_576, "1 MiB/s"),
        ("s", 0.25, "latency", 0.25, "250 ms"),
        ("s", 0.0000025, "latency", 0.0000025, "2.5 µs"),
        ("ms", 2_500, "latency", 2_500, "2.5 s"),
        ("s", 7_200, "age", 7_200, "2 h"),
        ("s", 0, "age", 0, "0 s"),
        ("{request}/s", 12, "rps", 12, "12 request/s"),
        ("{message}", 4, "depth", 4, "4 message"),
        ("Cel", 61, "temperature", 61, "61 °C"),
        ("furlong", 3, "distance", 3, "3 furlong"),
    ],
)
def test_a_value_is_said_in_the_unit_that_reads_best(unit, peak, metric, value, said):
    """UCUM units become what people write; ratios become per cent, bytes binary multiples, times the fitting one."""
    assert scale(unit, peak, metric).format(value).replace(NBSP, " ") == said


def test_values_of_one_column_have_as_many_decimals():
    """A column lines up: the largest value decides."""
    shown = scale("1", 0.973, "cpu.utilization")

    assert [shown.aligned(value).replace(NBSP, " ") for value in (0.973, 0.05, 0)] == ["97.3 %", "5.0 %", "0.0 %"]


@pytest.mark.parametrize(
    ("span", "said"),
    [
        (timedelta(0), "0 s"),
        (timedelta(milliseconds=400), "0.4 s"),
        (timedelta(seconds=59.6), "1 min"),
        (timedelta(minutes=12, seconds=40), "12 min 40 s"),
        (timedelta(hours=2, minutes=5, seconds=7), "2 h 5 min"),
        (timedelta(hours=1, seconds=5), "1 h"),
        (timedelta(days=3), "3 d"),
        (timedelta(days=3, hours=4, minutes=59), "3 d 4 h"),
    ],
)
def test_a_duration_is_said_by_its_two_largest_parts(span, said):
    """Nobody reads the seconds of a day."""
    assert duration(span).replace(NBSP, " ") == said


@given(st.floats(allow_nan=False, allow_infinity=False, min_value=-1e14, max_value=1e14))
def test_what_a_number_says_is_near_what_it_is(value):
    """Rounding loses less than one part in a hundred, and no more than 0.5 from a thousand on."""
    said = float(number(value).replace(",", ""))

    assert abs(said - value) <= max(abs(value) * 0.006, 1e-300)


@given(st.timedeltas(min_value=timedelta(0), max_value=timedelta(days=3_000)))
def test_every_duration_can_be_said(span):
    """No span is without words."""
    assert duration(span).strip()
