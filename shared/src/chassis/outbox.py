"""The outbox: events that a database transaction owes, written in that transaction, published after it.

Owing is idempotent: the id of an event is derived from what the attempt's effects are keyed by,
so a second attempt owes the same event, published or not, and adds nothing.
"""

from __future__ import annotations

import hashlib
import json
import time
import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Final, Protocol

import sqlalchemy as sa
from google.protobuf import any_pb2
from google.protobuf.message import Message

from chassis.database import insert_ignore
from chassis.lineages import declare
from chassis.redaction import shown

_NAMESPACE = uuid.UUID("6f1d2c5e-0f57-5b0c-9d5c-6b7b1f4a2e90")


class OwingAttempt(Protocol):
    """What owing needs to know of an attempt."""

    @property
    def operation_id(self) -> str: ...
    @property
    def effect_id(self) -> str: ...
    @property
    def traceparent(self) -> str: ...


@dataclass(frozen=True, slots=True)
class OwedEvent:
    """An event that has been owed; `traceparent` is the event's own, `parent` what it continues."""

    event_id: str
    operation_id: str
    type: str
    subject: str
    traceparent: str
    parent: str
    links: tuple[str, ...]
    data: any_pb2.Any
    create_time_us: int


def table(metadata: sa.MetaData) -> sa.Table:
    """The outbox of a service's database."""
    declare(metadata, "outbox", Path(__file__).parent / "revisions" / "outbox")
    return sa.Table(
        "outbox",
        metadata,
        sa.Column("sequence", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True),
        sa.Column("event_id", sa.String(36), nullable=False, unique=True),
        sa.Column("operation_id", sa.String(36), nullable=False),
        sa.Column("type", sa.String(255), nullable=False),
        sa.Column("subject", sa.Text, nullable=False),
        sa.Column("traceparent", sa.String(55), nullable=False),
        sa.Column("parent", sa.String(55), nullable=False),
        sa.Column("links", sa.Text, nullable=False),
        sa.Column("data", sa.LargeBinary, nullable=False),
        sa.Column("create_time_us", sa.BigInteger, nullable=False),
        sa.Column("publish_time_us", sa.BigInteger),
        _unpublished_index(),
    )


def _unpublished_index() -> sa.Index:
    pending_only = sa.text("publish_time_us IS NULL")
    return sa.Index("outbox_pending", "sequence", sqlite_where=pending_only, postgresql_where=pending_only)


METADATA: Final = sa.MetaData()
_OUTBOX = table(METADATA)


def owe(  # noqa: PLR0913 - an event's attributes, all named
    connection: sa.Connection,
    attempt: OwingAttempt,
    *,
    key: str,
    type: str,  # noqa: A002 - CloudEvents' name
    subject: str,
    data: Message,
    parent: str | None = None,
    links: Sequence[str] = (),
) -> str:
    """Owe an event in the service's own transaction; returns the event's id.

    `key` tells the events of one operation apart. `parent` is the traceparent to continue
    instead of the attempt's; `links` are further traceparents.
    """
    event_id = event_id_of(attempt.effect_id, key)
    continued = parent or attempt.traceparent
    packed = any_pb2.Any()
    # Whoever follows events may read them.
    packed.Pack(shown(data))
    row = {
        "event_id": event_id,
        "operation_id": attempt.operation_id,
        "type": type,
        "subject": subject,
        "traceparent": traceparent_of(event_id, continued),
        "parent": continued,
        "links": json.dumps(list(links)),
        "data": packed.SerializeToString(deterministic=True),
        "create_time_us": time.time_ns() // 1_000,
    }
    connection.execute(insert_ignore(_OUTBOX, row, ["event_id"]))
    return event_id


def event_id_of(effect_id: str, key: str) -> str:
    """The id of the event that effects of this id owe under this key."""
    return str(uuid.uuid5(_NAMESPACE, f"{effect_id}/{key}"))


def traceparent_of(event_id: str, parent: str) -> str:
    """The event's own trace context, its `publish` span, in the trace of `parent`; "" without a parent."""
    if not parent:
        return ""
    version, trace_id, _, flags = parent.split("-")
    span_id = hashlib.sha256(event_id.encode()).hexdigest()[:16]
    return f"{version}-{trace_id}-{span_id}-{flags}"


def pending(connection: sa.Connection, *, limit: int = 100, operation_id: str = "") -> list[OwedEvent]:
    """Events that are owed and not published, in the order in which they were owed."""
    rows = sa.select(_OUTBOX).where(_OUTBOX.c.publish_time_us.is_(None))
    if operation_id:
        rows = rows.where(_OUTBOX.c.operation_id == operation_id)
    return [_event(row) for row in connection.execute(rows.order_by(_OUTBOX.c.sequence).limit(limit))]


def published(connection: sa.Connection, event_ids: Iterable[str]) -> None:
    """Record that these are published; they stay, so that a later attempt does not owe them again."""
    rows = sa.update(_OUTBOX).where(_OUTBOX.c.event_id.in_(list(event_ids)))
    connection.execute(rows.values(publish_time_us=time.time_ns() // 1_000))


def forget(connection: sa.Connection, *, older_than: timedelta) -> int:
    """Delete what was published longer ago; returns how many."""
    limit_us = time.time_ns() // 1_000 - older_than // timedelta(microseconds=1)
    return connection.execute(sa.delete(_OUTBOX).where(_OUTBOX.c.publish_time_us < limit_us)).rowcount


def _event(row: sa.Row[tuple[object, ...]]) -> OwedEvent:
    stored = row._mapping  # noqa: SLF001 - a public name of SQLAlchemy's
    return OwedEvent(
        event_id=stored["event_id"],
        operation_id=stored["operation_id"],
        type=stored["type"],
        subject=stored["subject"],
        traceparent=stored["traceparent"],
        parent=stored["parent"],
        links=tuple(json.loads(stored["links"])),
        data=any_pb2.Any.FromString(stored["data"]),
        create_time_us=stored["create_time_us"],
    )
