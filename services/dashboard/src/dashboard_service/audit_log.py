"""What was done through this dashboard: who, when, what, on what, and how it ended.

Guarantee: an action's entry is written before the action is, so nothing is done without a trace. An entry that still
says `begun` belongs to an action that runs, or to a process that died in it: whether it was done is not known.
"""

import json
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final, Literal

import sqlalchemy as sa
from chassis.database import open_database
from chassis.lineages import declare

ACTIONS: Final = (
    "operations.submit",
    "operations.cancel",
    "operations.cancel_matching",
    "dead_letters.replay",
    "dead_letters.replay_matching",
    "dead_letters.discard",
    "dead_letters.discard_matching",
    "queues.pause",
    "queues.resume",
    "queues.purge",
    "workers.drain",
    "workers.set_concurrency",
)

Outcome = Literal["begun", "done", "refused"]

METADATA: Final = sa.MetaData()
declare(METADATA, "dashboard", Path(__file__).with_name("revisions"))
_ENTRIES: Final = sa.Table(
    "audit_entries",
    METADATA,
    sa.Column("id", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True, autoincrement=True),
    sa.Column("time_us", sa.BigInteger, nullable=False, index=True),
    sa.Column("principal", sa.String(255), nullable=False),
    sa.Column("via", sa.String(15), nullable=False),
    sa.Column("action", sa.String(63), nullable=False),
    sa.Column("service", sa.String(63), nullable=False),
    sa.Column("target", sa.Text, nullable=False),
    sa.Column("detail", sa.Text, nullable=False),
    sa.Column("outcome", sa.String(15), nullable=False),
    sa.Column("count", sa.BigInteger),
    sa.Column("reason", sa.String(127), nullable=False),
    sa.Column("message", sa.Text, nullable=False),
    sa.Index("audit_entries_by_action", "action", "id"),
    sqlite_autoincrement=True,
)
_MAX_TARGET = 500
_MAX_MESSAGE = 1_000
_PRUNE_SECONDS = 3_600.0


@dataclass(frozen=True, slots=True)
class Action:
    """What somebody is about to do. `target` is a name, or the filter of all that match."""

    principal: str
    via: str
    action: str
    service: str
    target: str
    detail: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of the log; `count` is how many it touched, where that is known."""

    id: int
    time: datetime
    action: Action
    outcome: Outcome
    count: int | None
    reason: str
    message: str


class AuditLog:
    """The table of entries, opened at first use: no connection is made where a process forks. Threads may share it."""

    def __init__(self, url: str, keep: timedelta) -> None:
        self._url = url
        self._keep = keep
        self._engine: sa.Engine | None = None
        self._lock = threading.Lock()
        self._pruned = -_PRUNE_SECONDS

    def begin(self, action: Action) -> int:
        """Write the entry and return its id; raises SQLAlchemyError."""
        self._prune()
        row = {
            "time_us": _now_us(),
            "principal": action.principal[:255],
            "via": action.via,
            "action": action.action,
            "service": action.service[:63],
            "target": action.target[:_MAX_TARGET],
            "detail": json.dumps(dict(action.detail), ensure_ascii=False, default=str),
            "outcome": "begun",
            "reason": "",
            "message": "",
        }
        with self._opened().begin() as connection:
            inserted = connection.execute(sa.insert(_ENTRIES).values(row).returning(_ENTRIES.c.id))
            return int(inserted.scalar_one())

    def finish(
        self, entry_id: int, outcome: Outcome, count: int | None = None, reason: str = "", message: str = ""
    ) -> None:
        """Write how it ended; raises SQLAlchemyError."""
        values = {"outcome": outcome, "count": count, "reason": reason[:127], "message": message[:_MAX_MESSAGE]}
        with self._opened().begin() as connection:
            connection.execute(sa.update(_ENTRIES).where(_ENTRIES.c.id == entry_id).values(values))

    def page(self, size: int, *, action: str = "", service: str = "", before: int = 0) -> Sequence[Entry]:
        """The newest entries, or those older than the id `before`; none that is older than what is kept."""
        self._prune()
        wanted = [_ENTRIES.c.time_us >= self._oldest_us()]
        if action:
            wanted.append(_ENTRIES.c.action == action)
        if service:
            wanted.append(_ENTRIES.c.service == service)
        if before:
            wanted.append(_ENTRIES.c.id < before)
        query = sa.select(_ENTRIES).where(*wanted).order_by(_ENTRIES.c.id.desc()).limit(size)
        with self._opened().connect() as connection:
            return [_entry(row) for row in connection.execute(query)]

    def close(self) -> None:
        if self._engine is not None:
            self._engine.dispose()

    def _opened(self) -> sa.Engine:
        with self._lock:
            if self._engine is None:
                self._engine = open_database(self._url, METADATA)
            return self._engine

    def _oldest_us(self) -> int:
        return _now_us() - int(self._keep / timedelta(microseconds=1))

    def _prune(self) -> None:
        """Drop what is older than what is kept, at most once an hour."""
        now = time.monotonic()
        if now - self._pruned < _PRUNE_SECONDS:
            return
        self._pruned = now
        with self._opened().begin() as connection:
            connection.execute(sa.delete(_ENTRIES).where(_ENTRIES.c.time_us < self._oldest_us()))


def _now_us() -> int:
    return time.time_ns() // 1_000


def _entry(row: sa.Row[Any]) -> Entry:
    return Entry(
        id=row.id,
        time=datetime.fromtimestamp(row.time_us / 1e6, UTC),
        action=Action(row.principal, row.via, row.action, row.service, row.target, json.loads(row.detail)),
        outcome=row.outcome,
        count=row._mapping[_ENTRIES.c.count],  # noqa: SLF001 (a row has a method of that name)
        reason=row.reason,
        message=row.message,
    )
