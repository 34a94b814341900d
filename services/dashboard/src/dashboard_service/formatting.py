"""How values read on a page. Pure; static/js/format.js says the same for what the browser counts itself."""

import math
from datetime import UTC, datetime, timedelta

_MINUTE = 60
_HOUR = 60 * _MINUTE
_DAY = 24 * _HOUR
_KIBIBYTE = 1024
_TEN = 10


def duration(value: timedelta | None) -> str:
    """Two units at most: `850 ms`, `2.4 s`, `3 min 20 s`, `1 h 5 min`, `2 d 3 h`; empty for None."""
    if value is None:
        return ""
    seconds = max(0.0, value.total_seconds())
    if seconds < 1:
        return _milliseconds(seconds * 1000)
    if seconds < _MINUTE:
        return f"{seconds:.1f} s" if seconds < _TEN else f"{int(seconds)} s"
    for size, name, smaller, smaller_name in (
        (_DAY, "d", _HOUR, "h"),
        (_HOUR, "h", _MINUTE, "min"),
        (_MINUTE, "min", 1, "s"),
    ):
        if seconds >= size:
            whole, rest = divmod(int(seconds), size)
            part = rest // smaller
            return f"{whole} {name} {part} {smaller_name}" if part else f"{whole} {name}"
    raise AssertionError(seconds)


def _milliseconds(value: float) -> str:
    if value == 0:
        return "0 ms"
    if value < 1:
        return f"{value * 1000:.0f} µs"
    return f"{value:.1f} ms" if value < _TEN else f"{value:.0f} ms"


def position(value: timedelta, step: timedelta) -> str:
    """A place on a scale, exact enough to tell it from a neighbour that is a step away: `10.21 s`, `3 min 20.2 s`."""
    seconds = value.total_seconds()
    if seconds < 1 or step.total_seconds() >= _TEN:
        return duration(value)
    decimals = max(0, min(3, math.ceil(-math.log10(max(step.total_seconds(), 1e-6)))))
    minutes, rest = divmod(seconds, _MINUTE)
    return f"{int(minutes)} min {rest:.{decimals}f} s" if minutes else f"{rest:.{decimals}f} s"


def between(start: datetime | None, end: datetime | None) -> timedelta | None:
    """From start to end; None unless both are known."""
    return None if start is None or end is None else end - start


def size(count: int) -> str:
    """Bytes in binary units: `512 B`, `1.4 KiB`, `23 MiB`."""
    value = float(count)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if value < _KIBIBYTE:
            return f"{value:.0f} {unit}" if unit == "B" or value >= _TEN else f"{value:.1f} {unit}"
        value /= _KIBIBYTE
    return f"{value:.1f} TiB"


def rate(per_second: float) -> str:
    """A rate in the unit that keeps it readable: `12/s`, `0.4/s`, `3/min`."""
    if per_second <= 0:
        return "0/s"
    if per_second >= _TEN:
        return f"{per_second:,.0f}/s"
    if per_second >= 0.1:  # noqa: PLR2004
        return f"{per_second:.1f}/s"
    return f"{per_second * _MINUTE:.1f}/min"


def count(number: int) -> str:
    """A whole number with its thousands apart."""
    return f"{number:,}"


def instant(value: datetime | None) -> str:
    """UTC to the millisecond, as a page without scripts shows it; empty for None."""
    return f"{value.astimezone(UTC):%Y-%m-%d %H:%M:%S}.{value.microsecond // 1000:03d} UTC" if value else ""


def machine_time(value: datetime | None) -> str:
    """For the `datetime` attribute of a `time` element; empty for None."""
    return value.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z") if value else ""


def unix_ms(value: datetime | None) -> int:
    """Unix time in milliseconds; 0 for None."""
    return round(value.timestamp() * 1000) if value else 0


def from_ms(value: int) -> datetime | None:
    """The other way; None for 0."""
    return datetime.fromtimestamp(value / 1000, UTC) if value else None


def short_id(identifier: str) -> str:
    """The last eight characters: in a UUIDv7 the random ones, so rows of one moment still differ."""
    return identifier[-8:]


def sentence(identifier: str) -> str:
    """An UPPER_SNAKE or snake_case word as people read it: `Fanned out`."""
    return identifier.replace("_", " ").capitalize()
