"""Pages of the archive that look at a bounded number of rows, whatever the filter.

A page walks one index, in the order of the list: that of the most selective condition that the filter states for all it
matches. It looks at a window of it; what the filter says beyond is checked on the rows of the window alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import sqlalchemy as sa
from waybill.operations.v1 import operations_pb2 as ops

from chassis.archive_clauses import Columns, Condition, clause, columns_of, time_clause
from chassis.archive_schema import EMPTY, OPERATIONS, SUCCEEDED
from chassis.archive_schema import LABELS as LABEL_ROWS
from chassis.filters import EVERYTHING, LABELS, And, Comparison, Expression, Not, Or
from chassis.telemetry import now_us

#: Where the newest of a list stands, and where it goes on: the instant that it is ordered by, and the id.
Position = tuple[int, str]
#: Rows of an index that one read looks at where few of them are wanted; at first it looks at fewer.
WINDOW: Final = 5_000
FIRST_WINDOW: Final = 400

_ALL_STATES: Final = frozenset(ops.OperationState.values())
#: Those that the archive has.
_ENDED_BADLY: Final = frozenset(
    {ops.OPERATION_STATE_FAILED, ops.OPERATION_STATE_CANCELLED, ops.OPERATION_STATE_EXPIRED}
)
#: What the store's lists are ordered by, by the name of its index.
_ORDER: Final = {"ops": "create_time", "dead": "end_time"}


@dataclass(frozen=True, slots=True)
class Selection:
    """What is wanted of the archive: what a filter says and, of dead letters, their group and whether replayed."""

    expression: Expression = EVERYTHING
    #: Empty: any.
    group: str = ""
    not_replayed: bool = False

    @property
    def parts(self) -> tuple[Expression, ...]:
        """All of these hold."""
        return self.expression.parts if isinstance(self.expression, And) else (self.expression,)


@dataclass(frozen=True, slots=True)
class Stretch:
    """What one window of a list has, newest first. `end`: it tells all up to there; None: it tells all there is."""

    found: Sequence[sa.Row[Any]]
    end: Position | None


@dataclass(frozen=True, slots=True)
class _Walk:
    """An index by what is equal in it and, within that, by time and id."""

    at: sa.ColumnElement[int]
    id: sa.ColumnElement[str]
    where: Sequence[Condition]


def read_stretch(
    connection: sa.Connection,
    index: str,
    selection: Selection,
    *,
    after: Position | None,
    until: Position | None,
    limit: int,
) -> Stretch:
    """After `after`, up to `until` and including it: of at most WINDOW rows the first `limit` that are wanted."""
    walk = _walk_of(index, selection)
    walked = _between(walk, index, selection.parts, after, until)
    stretch = _look_at(connection, walk, walked, selection, limit, min(FIRST_WINDOW, WINDOW))
    if stretch.end is None or len(stretch.found) >= limit // 4:
        return stretch
    return _look_at(connection, walk, walked, selection, limit, WINDOW)


def _look_at(
    connection: sa.Connection,
    walk: _Walk,
    walked: sa.Select[int, str],
    selection: Selection,
    limit: int,
    window: int,
) -> Stretch:
    found = connection.execute(_wanted(walk, walked, selection, limit, window)).all()
    if len(found) == limit:
        return Stretch(found, (found[-1].at, found[-1].id))
    last = connection.execute(walked.with_only_columns(walk.at, walk.id).limit(1).offset(window - 1)).first()
    return Stretch(found, None if last is None else (last[0], last[1]))


def visible(columns: Columns) -> Condition:
    """Neither deleted nor past its retention."""
    return sa.and_(columns.deleted.is_(False), columns.keep_until_us > now_us())


def _wanted(walk: _Walk, walked: sa.Select[int, str], selection: Selection, limit: int, window: int) -> sa.Select[Any]:
    names = sorted({"deleted", "keep_until_us", "replayed_by", *columns_of(selection.expression)})
    columns = [OPERATIONS.c[name] for name in names]
    if walk.id is not OPERATIONS.c.id:
        walked = walked.join(OPERATIONS, OPERATIONS.c.id == walk.id)
    seen = walked.with_only_columns(walk.at.label("at"), walk.id.label("id"), *columns).limit(window).subquery("seen").c
    conditions = [visible(seen)]
    if selection.not_replayed:
        conditions.append(seen.replayed_by == EMPTY)
    if selection.expression != EVERYTHING:
        conditions.append(clause(selection.expression, seen))
    wanted = sa.select(seen.at, seen.id).where(*conditions).order_by(seen.at.desc(), seen.id.desc())
    found = wanted.limit(limit).subquery("found").c
    described = [OPERATIONS.c[name] for name in ("id", "operation", "replayed_by", "dead_letter_group")]
    rows = sa.select(found.at, *described).join(OPERATIONS, OPERATIONS.c.id == found.id)
    return rows.order_by(found.at.desc(), found.id.desc())


def _between(
    walk: _Walk, index: str, parts: Sequence[Expression], after: Position | None, until: Position | None
) -> sa.Select[int, str]:
    """The walk within both positions and within the times that the filter names."""
    rows = sa.select(walk.at, walk.id).where(*walk.where)
    position = sa.tuple_(walk.at, walk.id)
    if after is not None:
        rows = rows.where(position < sa.tuple_(*map(sa.literal, after)))
    if until is not None:
        rows = rows.where(position >= sa.tuple_(*map(sa.literal, until)))
    times = (part for part in parts if isinstance(part, Comparison) and part.field == _ORDER[index])
    rows = rows.where(*(time_clause(walk.at, part.operator, part.value) for part in times))
    return rows.order_by(walk.at.desc(), walk.id.desc())


def _walk_of(index: str, selection: Selection) -> _Walk:
    columns = OPERATIONS.c
    if index == "dead":
        group = [columns.dead_letter_group == selection.group] if selection.group else []
        return _Walk(columns.end_time_us, columns.id, [columns.dead_letter_group != EMPTY, *group])
    return next(_walks(selection.parts))


def _walks(parts: Sequence[Expression]) -> Iterator[_Walk]:
    """Those that lead past all that is wanted, in the order of how few operations they usually lead past."""
    equal = [part for part in parts if isinstance(part, Comparison) and part.operator == "=" and part.value]
    states = frozenset.intersection(_ALL_STATES, *map(_states, parts))
    yield from (_by_column(part) for part in equal if part.field in {"request_id", "parent"})
    yield from (_by_column(part) for part in equal if part.field == "trace_id")
    if ops.OPERATION_STATE_SUCCEEDED not in states:
        yield _by_states(states & _ENDED_BADLY)
    yield from (_by_label(part) for part in equal if part.field.startswith(LABELS))
    yield from (_by_column(part) for part in equal if part.field == "task")
    yield from (_by_column(part) for part in equal if part.field == "queue")
    yield _by(sa.true())


def _by(*where: Condition) -> _Walk:
    return _Walk(OPERATIONS.c.create_time_us, OPERATIONS.c.id, where)


def _by_column(part: Comparison) -> _Walk:
    column = OPERATIONS.c[part.field]
    return _by(column == part.value, column != EMPTY) if part.field in _PARTLY_INDEXED else _by(column == part.value)


def _by_states(states: frozenset[int]) -> _Walk:
    """Of what has not succeeded; without states, of what the archive never has."""
    if len(states) > 1:
        return _by(OPERATIONS.c.state != SUCCEEDED)
    return _by(OPERATIONS.c.state == min(states, default=ops.OPERATION_STATE_QUEUED))


def _by_label(part: Comparison) -> _Walk:
    columns = LABEL_ROWS.c
    labelled = [columns.key == part.field.removeprefix(LABELS), columns.value == part.value]
    return _Walk(columns.create_time_us, columns.operation_id, labelled)


_PARTLY_INDEXED: Final = frozenset({"request_id", "parent"})


def _states(expression: Expression) -> frozenset[int]:
    """The states that what it matches may be in."""
    match expression:
        case Comparison("state", _, value):
            return frozenset({int(value)})
        case Comparison("error", operator, value) if value or operator == ":*":
            return _ALL_STATES - {ops.OPERATION_STATE_SUCCEEDED}
        case Not(Comparison("state", _, value)):
            return _ALL_STATES - {int(value)}
        case And(parts):
            return frozenset.intersection(_ALL_STATES, *map(_states, parts))
        case Or(parts):
            return frozenset().union(*map(_states, parts))
    return _ALL_STATES
