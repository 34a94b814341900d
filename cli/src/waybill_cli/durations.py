"""Durations as options: `90s`, `15m`, `2h`, `1d`."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Any

import click

_UNITS = {"": "seconds", "s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


class DurationParam(click.ParamType[timedelta]):
    """A number and its unit; a bare number is seconds."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> timedelta:
        """Fails as wrong usage for anything else."""
        if isinstance(value, timedelta):
            return value
        match = re.fullmatch(r"(\d+(?:\.\d+)?)([smhd]?)", str(value).strip())
        if match is None:
            self.fail(f"{value!r}: expected a number with s, m, h or d, as 15m", param, ctx)
        return timedelta(**{_UNITS[match[2]]: float(match[1])})


DURATION = DurationParam()
