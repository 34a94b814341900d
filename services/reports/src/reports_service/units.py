"""Numbers, units and durations as people read them. Units come as UCUM: https://ucum.org/ucum."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from datetime import timedelta

# Joins a number to its unit, so that no line breaks between them.
NBSP = "\u00a0"

_RATIOS = ("utilization", "utilisation", "ratio", "fraction", "percent")
_BINARY = (("B", 1), ("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30), ("TiB", 1 << 40), ("PiB", 1 << 50))
_IN_SECONDS = {"ns": 1e-9, "us": 1e-6, "ms": 1e-3, "s": 1.0, "min": 60.0, "h": 3_600.0, "d": 86_400.0}
# Symbol, seconds in one, and the magnitude in seconds from which on it reads best.
_TIMES = (
    ("ns", 1e-9, 0.0),
    ("µs", 1e-6, 1e-6),
    ("ms", 1e-3, 1e-3),
    ("s", 1.0, 1.0),
    ("min", 60.0, 600.0),
    ("h", 3_600.0, 7_200.0),
    ("d", 86_400.0, 172_800.0),
)
_SYMBOLS = {"Cel": "°C", "[degF]": "°F", "Ohm": "Ω", "KiBy": "KiB", "MiBy": "MiB", "GiBy": "GiB", "bit": "bit"}
_SPANS = (("d", 86_400), ("h", 3_600), ("min", 60), ("s", 1))


@dataclass(frozen=True, slots=True)
class Scale:
    """How values that belong together are shown: multiplied by `factor`, followed by `symbol`."""

    factor: float = 1.0
    symbol: str = ""
    # Of the largest value, so that a column of them lines up.
    decimals: int = 0

    def format(self, value: float) -> str:
        """One value by itself: `97.3 %`, `1.21 GiB`, `12,480`."""
        return self._with_symbol(number(value * self.factor))

    def aligned(self, value: float) -> str:
        """One of a column: `9.00 %` above `27.31 %`."""
        return self._with_symbol(f"{value * self.factor:,.{self.decimals}f}")

    def _with_symbol(self, text: str) -> str:
        return f"{text}{NBSP if self.symbol else ''}{self.symbol}"


def scale(unit: str, peak: float, metric: str = "") -> Scale:
    """The scale at which values up to `peak` (absolute, in `unit`) read best.

    A dimensionless metric whose name says that it is a ratio is shown in percent.
    """
    found = _scale(unit, peak, metric)
    return replace(found, decimals=_decimals(peak * found.factor))


def _decimals(magnitude: float) -> int:
    """Three significant digits, at most six decimals."""
    return max(0, min(6, 2 - math.floor(math.log10(magnitude)))) if magnitude else 0


def _scale(unit: str, peak: float, metric: str) -> Scale:
    base, slash, per = unit.partition("/")
    rate = f"/{_annotation(per)}" if slash else ""
    if base in {"", "1"} and not rate:
        is_ratio = metric.rpartition(".")[2].rpartition("_")[2].lower() in _RATIOS
        return Scale(100.0, "%") if is_ratio and base == "1" else Scale()
    if base == "By":
        symbol, divisor = next((b for b in reversed(_BINARY) if peak >= b[1]), _BINARY[0])
        return Scale(1 / divisor, symbol + rate)
    if base in _IN_SECONDS:
        return _time_scale(_IN_SECONDS[base], peak, rate)
    return Scale(1.0, _SYMBOLS.get(base, _annotation(base)) + rate)


def _time_scale(in_seconds: float, peak: float, rate: str) -> Scale:
    seconds = peak * in_seconds
    if not seconds:
        return Scale(1.0, next(s for s, size, _ in _TIMES if size == in_seconds) + rate)
    symbol, size, _ = next(t for t in reversed(_TIMES) if seconds >= t[2])
    return Scale(in_seconds / size, symbol + rate)


def _annotation(unit: str) -> str:
    return unit[1:-1] if unit.startswith("{") and unit.endswith("}") else unit


def number(value: float) -> str:
    """At most two decimals from 1 on and three significant digits below it, thousands apart."""
    if not math.isfinite(value):
        return "∞" if value == math.inf else "-∞" if value == -math.inf else "not a number"
    magnitude = abs(value)
    if magnitude >= 1e15:  # noqa: PLR2004 - beyond, digits say less than the exponent
        return f"{value:.3g}"
    if magnitude >= 1:
        return _trimmed(f"{value:,.{_decimals(magnitude)}f}")
    return _trimmed(f"{value:.{_decimals(magnitude)}f}" if magnitude >= 1e-4 else f"{value:.3g}")  # noqa: PLR2004


def _trimmed(text: str) -> str:
    plain = text.rstrip("0").rstrip(".") if "." in text and "e" not in text else text
    return "0" if plain in {"-0", ""} else plain


def duration(span: timedelta) -> str:
    """The two largest parts: `12 min 40 s`, `2 h 5 min`, `3 d`; below a second, `0.4 s`."""
    seconds = span.total_seconds()
    if seconds < 1:
        return f"{number(max(seconds, 0.0))}{NBSP}s"
    left = round(seconds)
    parts: list[tuple[int, str]] = []
    for symbol, size in _SPANS:
        count, left = divmod(left, size)
        parts.append((count, symbol))
    first = next(i for i, (count, _) in enumerate(parts) if count)
    return " ".join(f"{count}{NBSP}{symbol}" for count, symbol in parts[first : first + 2] if count)
