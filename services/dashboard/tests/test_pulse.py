from datetime import timedelta

from dashboard_service import pulse
from dashboard_service.pulse import Pulse

NOW = 1_800_000_000.5


def test_events_are_counted_in_their_second():
    """The series has one row a second, oldest first, zero where nothing happened."""
    beat = Pulse()
    for verb, seconds_ago in [
        ("accepted", 2),
        ("accepted", 2),
        ("succeeded", 1),
        ("failed", 1),
        ("expired", 0),
        ("lost", 0),
    ]:
        beat.count(verb, NOW - seconds_ago, NOW - 10)

    assert beat.series(NOW, 4) == [[0, 0, 0, 0], [2, 0, 0, 0], [0, 1, 1, 0], [0, 0, 1, 1]]


def test_totals_reach_back_as_far_as_asked():
    """A total counts the seconds of its window and no others."""
    beat = Pulse()
    beat.count("succeeded", NOW - 200, NOW)
    beat.count("succeeded", NOW - 5, NOW)

    assert (beat.total(pulse.SUCCEEDED, NOW, 60), beat.total(pulse.SUCCEEDED, NOW, 300)) == (1, 2)


def test_what_is_older_than_the_window_is_forgotten():
    """Memory is bounded by the window, not by how long the process runs."""
    beat = Pulse()
    for second in range(10 * pulse.KEPT_SECONDS):
        beat.count("accepted", NOW + second, 0)

    assert len(beat._seconds) == pulse.KEPT_SECONDS + 1


def test_quantiles_are_of_the_time_from_acceptance_to_the_final_state():
    """Only ends count; the 95th percentile of 100 values is the 95th."""
    beat = Pulse()
    for milliseconds in range(1, 101):
        beat.count("succeeded", NOW, NOW - milliseconds / 1000)
        beat.count("began", NOW, NOW - 500)

    assert round(beat.quantile(0.5) / timedelta(milliseconds=1)) == 50
    assert round(beat.quantile(0.95) / timedelta(milliseconds=1)) == 95


def test_before_the_first_end_there_is_no_quantile():
    """Nothing known is not zero."""
    assert Pulse().quantile(0.5) is None
