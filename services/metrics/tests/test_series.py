"""What makes two series the same one."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from metrics_service.series import MAX_LABELS, SeriesKey, is_name, label_faults

LABELS = st.dictionaries(st.text(min_size=1, max_size=5), st.text(max_size=5), max_size=4)


@given(LABELS, st.randoms(use_true_random=False))
def test_the_order_of_labels_does_not_matter(labels, random):
    """One metric with the same labels is one series, in whatever order they are given."""
    shuffled = list(labels.items())
    random.shuffle(shuffled)

    assert SeriesKey.of("cpu", dict(shuffled)) == SeriesKey.of("cpu", labels)
    assert SeriesKey.of("cpu", dict(shuffled)).fingerprint == SeriesKey.of("cpu", labels).fingerprint


@given(LABELS, LABELS)
def test_fingerprints_are_equal_exactly_where_the_series_are(one, other):
    first, second = SeriesKey.of("cpu", one), SeriesKey.of("cpu", other)

    assert (first == second) is (first.fingerprint == second.fingerprint)


def test_what_joins_to_the_same_text_is_not_the_same_series():
    """No choice of names and values imitates another series."""
    keys = [
        SeriesKey.of("a", {"b": "c,d"}),
        SeriesKey.of("a", {"b": "c", "d": ""}),
        SeriesKey.of("a", {"b": 'c"],["d'}),
        SeriesKey.of("ab", {"c": "d"}),
        SeriesKey.of("a", {"bc": "d"}),
    ]

    assert len({key.fingerprint for key in keys}) == len(keys)


def test_a_label_with_an_empty_value_is_no_label():
    assert SeriesKey.of("cpu", {"core": "", "host": "a"}) == SeriesKey.of("cpu", {"host": "a"})


def test_the_fingerprint_does_not_change_between_releases():
    """Stored rollups are found by it."""
    assert SeriesKey.of("cpu", {"core": "0"}).fingerprint.hex() == "5fd7f91f739d12f23f7373d053afed4b"


@pytest.mark.parametrize("name", ["cpu", "_x", "system.cpu.time", "http:requests/total-5", "a" * 255])
def test_names_of_metrics_and_labels(name):
    assert is_name(name)


@pytest.mark.parametrize("name", ["", "5xx", ".cpu", "cpu time", "größe", "a" * 256, "cpu\n"])
def test_what_is_no_name(name):
    assert not is_name(name)


def test_every_fault_of_a_set_of_labels_is_told():
    labels = {f"l{i}": "x" for i in range(MAX_LABELS)} | {"bad key": "x", "long": "y" * 1025}

    faults = list(label_faults(labels))

    assert faults == [
        "has 34 labels; at most 32",
        "'bad key' is no label name; expected 1 to 255 characters: a letter or _, then letters, digits and _ . : / -",
        "the value of 'long' has 1025 characters; at most 1024",
    ]
