"""Log lines of the services, made readable: structlog's JSON in, one coloured line out."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any, cast

from rich.text import Text

_COLOURS = {"metrics": "cyan", "notify": "magenta", "reports": "green", "dashboard": "blue"}
_LEVELS = {"debug": "dim", "info": "green", "warning": "yellow", "error": "bold red", "critical": "bold red"}
# Shown in places of their own, or told by the prefix.
_PLACED = {"time", "level", "event", "service", "process", "exception"}
PREFIX_WIDTH = 18


def rendered(name: str, line: str) -> Text:
    """A line of the process `name`; what is no JSON object comes as it is after the prefix."""
    fields = _fields_of(line)
    text = Text(f"{name:<{PREFIX_WIDTH}} ", style=colour_of(name), no_wrap=True)
    if fields is None:
        return text.append(line, style="default")
    level = str(fields.get("level", "info"))
    text.append(_clock(fields.get("time")), style="dim")
    text.append(f"{level:<8}", style=_LEVELS.get(level, ""))
    text.append(str(fields.get("event", "")), style="bold default")
    for key, value in fields.items():
        if key not in _PLACED:
            text.append(f" {key}=", style="dim").append(_shown(value), style="default")
    for shown in _traceback(fields.get("exception")):
        text.append(f"\n{'':<{PREFIX_WIDTH}} {shown}", style="red")
    return text


def is_record(line: str) -> bool:
    """Whether it is a JSON object."""
    return _fields_of(line) is not None


def colour_of(name: str) -> str:
    """The service's colour, brighter for its workers."""
    service, _, role = name.partition(" ")
    colour = _COLOURS.get(service, "yellow")
    return f"bright_{colour}" if role.startswith("worker") else colour


def _fields_of(line: str) -> Mapping[str, Any] | None:
    if not line.startswith("{"):
        return None
    try:
        fields = json.loads(line)
    except ValueError:
        return None
    return cast("Mapping[str, Any]", fields) if isinstance(fields, dict) else None


def _clock(value: object) -> str:
    try:
        return datetime.fromisoformat(str(value)).astimezone().strftime("%H:%M:%S.%f")[:-3] + " "
    except ValueError:
        return ""


def _shown(value: object) -> str:
    if isinstance(value, str):
        return value if value and not any(mark in value for mark in ' "\n=') else json.dumps(value, ensure_ascii=False)
    return json.dumps(value, ensure_ascii=False, default=str)


def _traceback(exception: object) -> list[str]:
    """The innermost frames and the message of structlog's dict_tracebacks, or a formatted traceback's lines."""
    if isinstance(exception, str):
        return exception.splitlines()
    if not isinstance(exception, list):
        return []
    lines = []
    for part in exception:
        frames = part.get("frames", [])[-3:]
        lines += [f"  {frame.get('filename')}:{frame.get('lineno')} in {frame.get('name')}" for frame in frames]
        lines.append(f"{part.get('exc_type')}: {part.get('exc_value')}")
    return lines
