from datetime import UTC, datetime, timedelta

import pytest
from dashboard_service import formatting


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (0, "0 ms"),
        (0.000_25, "250 µs"),
        (0.0042, "4.2 ms"),
        (0.85, "850 ms"),
        (2.44, "2.4 s"),
        (59.9, "59 s"),
        (200, "3 min 20 s"),
        (3_600, "1 h"),
        (3_900, "1 h 5 min"),
        (183_600, "2 d 3 h"),
        (-5, "0 ms"),
    ],
)
def test_a_duration_has_two_units_at_most(seconds, shown):
    """A duration reads as people say it, and clocks that disagree make none negative."""
    assert formatting.duration(timedelta(seconds=seconds)) == shown


def test_an_absent_value_is_empty():
    """What is not known is not shown as a number."""
    assert formatting.duration(None) == formatting.instant(None) == formatting.machine_time(None) == ""
    assert formatting.unix_ms(None) == 0
    assert formatting.from_ms(0) is None


@pytest.mark.parametrize(
    ("seconds", "step", "shown"),
    [
        (10.2123, 0.15, "10.2 s"),
        (10.2123, 0.05, "10.21 s"),
        (200.25, 0.4, "3 min 20.2 s"),
        (0.25, 0.1, "250 ms"),
        (35, 17, "35 s"),
        (5, 0, "5.000 s"),
    ],
)
def test_a_place_on_a_scale_differs_from_its_neighbours(seconds, step, shown):
    """Ticks that are a tenth of a second apart do not all read the same."""
    assert formatting.position(timedelta(seconds=seconds), timedelta(seconds=step)) == shown


@pytest.mark.parametrize(
    ("count", "shown"), [(0, "0 B"), (512, "512 B"), (1_434, "1.4 KiB"), (24_117_248, "23 MiB"), (5 << 40, "5.0 TiB")]
)
def test_a_size_is_in_binary_units(count, shown):
    """Memory and payloads are counted in powers of 1,024."""
    assert formatting.size(count) == shown


@pytest.mark.parametrize(
    ("per_second", "shown"), [(0, "0/s"), (1_250, "1,250/s"), (12.4, "12/s"), (0.42, "0.4/s"), (0.05, "3.0/min")]
)
def test_a_rate_is_in_the_unit_that_keeps_it_readable(per_second, shown):
    """Slow queues do not all read 0.0 per second."""
    assert formatting.rate(per_second) == shown


def test_an_instant_is_utc_to_the_millisecond():
    """The server shows UTC; the browser turns the machine-readable form into local time."""
    at = datetime(2026, 7, 1, 12, 0, 5, 42_000, tzinfo=UTC)

    assert formatting.instant(at) == "2026-07-01 12:00:05.042 UTC"
    assert formatting.machine_time(at) == "2026-07-01T12:00:05.042Z"
    assert formatting.from_ms(formatting.unix_ms(at)) == at
