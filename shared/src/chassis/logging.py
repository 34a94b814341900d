"""Logs: one JSON object a line, with the operation and the trace it belongs to (structlog).

A line is a dotted event name and fields: `log.info("attempt.failed", attempt=2)`.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal, TextIO

import structlog
from structlog.contextvars import bind_contextvars, bound_contextvars, clear_contextvars
from structlog.typing import EventDict, FilteringBoundLogger, Processor

from chassis.redaction import scrub
from chassis.telemetry import current_span

__all__ = ["bound", "clear", "configure", "get_logger"]

_QUIET = ("alembic", "grpc", "kombu", "amqp", "sqlalchemy", "asyncio", "urllib3")


def configure(
    service: str,
    process: str,
    *,
    level: str = "info",
    form: Literal["json", "console"] = "json",
    stream: TextIO | None = None,
) -> None:
    """Send structlog's and the standard library's records to one handler on standard error."""
    shared = _shared_processors(service, process)
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(_formatter(shared, form))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    for name in _QUIET:
        logging.getLogger(name).setLevel(max(logging.WARNING, root.level))


def get_logger(name: str = "waybill") -> FilteringBoundLogger:
    """A logger; get it at import, bind to it nowhere."""
    logger: FilteringBoundLogger = structlog.get_logger(name)
    return logger


@contextmanager
def bound(**fields: Any) -> Iterator[None]:
    """Put these fields on every line that this context writes; taken off again at the end."""
    with bound_contextvars(**fields):
        yield


def bind(**fields: Any) -> None:
    """Put these fields on every further line of this context, a task of asyncio or a thread."""
    bind_contextvars(**fields)


def clear() -> None:
    """Take every bound field off; done at the edge, before a context is used again."""
    clear_contextvars()


def _shared_processors(service: str, process: str) -> list[Processor]:
    def add_origin(_logger: object, _method: str, fields: EventDict) -> EventDict:
        fields.setdefault("service", service)
        fields.setdefault("process", process)
        span = None if "trace_id" in fields else current_span()
        if span is not None:
            fields["trace_id"] = span.trace_id.hex()
        return fields

    return [
        structlog.contextvars.merge_contextvars,
        add_origin,
        structlog.stdlib.add_log_level,
        structlog.stdlib.ExtraAdder(),
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="time"),
    ]


def _scrubbed(_logger: object, _method: str, line: Any) -> Any:
    """The whole line, tracebacks included, without what is guarded where it is written."""
    return scrub(line) if isinstance(line, str) else line


def _formatter(shared: list[Processor], form: Literal["json", "console"]) -> logging.Formatter:
    if form == "console":
        rendering: list[Processor] = [structlog.dev.ConsoleRenderer(colors=False)]
    else:
        rendering = [
            # Local variables are left out: they hold payloads and secrets.
            structlog.processors.ExceptionRenderer(structlog.tracebacks.ExceptionDictTransformer(show_locals=False)),
            structlog.processors.JSONRenderer(default=str, ensure_ascii=False),
        ]
    return structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=shared,
        processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *rendering, _scrubbed],
    )
