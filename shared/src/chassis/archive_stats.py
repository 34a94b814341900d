"""Statistics of what has ended, from the archive: counts, attempts and exact quantiles, by step, task and state.

What the store alone has is given as rows and counted with it, in the same statement. What both have counts once.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import astuple, dataclass
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import JSONB

from chassis.archive_clauses import clause
from chassis.archive_pages import visible
from chassis.archive_schema import OPERATIONS
from chassis.filters import EVERYTHING, Expression

#: Most operations of one answer.
STATS_LIMIT: Final = 500_000
_IDS_AT_A_TIME: Final = 500
_NAMES: Final = ("task", "state", "end_time_us", "attempts", "wait_us", "total_us")
_PERCENTS: Final = (50, 95)


@dataclass(frozen=True, slots=True)
class Span:
    """What ended from `start_us` on and before `end_us`, in steps of `step_us` since the epoch."""

    start_us: int
    end_us: int
    step_us: int


@dataclass(frozen=True, slots=True)
class Ended:
    """What is counted of one operation. `wait_us` is None where no attempt has begun."""

    task: str
    state: int
    end_time_us: int
    attempts: int
    wait_us: int | None
    total_us: int


@dataclass(frozen=True, slots=True)
class Latencies:
    """Nearest-rank quantiles: each is the time of one of the operations."""

    mean_us: int
    p50_us: int
    p95_us: int
    max_us: int


@dataclass(frozen=True, slots=True)
class Stats:
    """Operations of one task that ended in one state within one step."""

    start_us: int
    task: str
    state: int
    count: int
    attempts: int
    wait: Latencies | None
    total: Latencies


class TooManyError(Exception):
    """More operations ended in that time than one answer counts."""


def read_stats(connection: sa.Connection, span: Span, expression: Expression, others: dict[str, Ended]) -> list[Stats]:
    """By step, task and state. `others` are wanted operations of the store, by id; those that are here count once.

    Raises TooManyError.
    """
    first = OPERATIONS.c.end_time_us >= span.start_us, OPERATIONS.c.end_time_us < span.end_us
    beyond = sa.select(sa.literal(1)).select_from(OPERATIONS).where(*first).limit(1).offset(STATS_LIMIT)
    if connection.scalar(beyond):
        raise TooManyError
    ids = list(others)
    for begin in range(0, len(ids), _IDS_AT_A_TIME):
        here = sa.select(OPERATIONS.c.id).where(OPERATIONS.c.id.in_(ids[begin : begin + _IDS_AT_A_TIME]))
        for operation_id in connection.scalars(here):
            del others[operation_id]
    rows = connection.execute(_statement(connection, span, expression, list(others.values())))
    return [_stats(row) for row in rows]


def stats_of(span: Span, ended: Sequence[Ended]) -> list[Stats]:
    """The same of what is given alone."""
    with sa.create_engine("sqlite://").connect() as connection:
        given = _given(connection, _NAMES, ended).subquery("ended")
        return [_stats(row) for row in connection.execute(_aggregated(given.c, span.step_us))]


def _statement(
    connection: sa.Connection, span: Span, expression: Expression, others: Sequence[Ended]
) -> sa.Select[Any]:
    columns = OPERATIONS.c
    archived = sa.select(*(columns[name] for name in _NAMES)).where(
        visible(columns), columns.end_time_us >= span.start_us, columns.end_time_us < span.end_us
    )
    if expression != EVERYTHING:
        archived = archived.where(clause(expression, columns))
    ended: Any = archived
    if others:
        ended = sa.union_all(archived, _given(connection, _NAMES, others))
    return _aggregated(ended.subquery("ended").c, span.step_us)


def _given(connection: sa.Connection, names: Sequence[str], others: Sequence[Ended]) -> sa.Select[Any]:
    """The rows as a relation: one parameter, however many there are."""
    rows = sa.literal(json.dumps([astuple(one) for one in others]), sa.Text())
    kinds = [sa.Text() if name == "task" else sa.BigInteger() for name in names]
    if connection.dialect.name == "postgresql":
        value = sa.func.jsonb_array_elements(sa.cast(rows, JSONB)).table_valued(sa.column("value", JSONB)).c.value
        fields: list[sa.ColumnElement[Any]] = [sa.cast(value[place].astext, kind) for place, kind in enumerate(kinds)]
    else:
        text = sa.func.json_each(rows).table_valued(sa.column("value", sa.Text())).c.value
        fields = [sa.func.json_extract(text, f"$[{place}]", type_=kind) for place, kind in enumerate(kinds)]
    return sa.select(*(field.label(name) for field, name in zip(fields, names, strict=True)))


def _aggregated(ended: Any, step_us: int) -> sa.Select[Any]:
    start = (ended.end_time_us - ended.end_time_us % step_us).label("start_us")
    group: Any = {"partition_by": (start, ended.task, ended.state)}
    ranked = sa.select(
        start,
        *(ended.task, ended.state, ended.attempts, ended.wait_us, ended.total_us),
        sa.func.row_number().over(**group, order_by=ended.total_us).label("total_rank"),
        # Those that never began come last and are not ranked.
        sa.func.row_number().over(**group, order_by=(ended.wait_us.is_(None), ended.wait_us)).label("wait_rank"),
        sa.func.count().over(**group).label("total_count"),
        sa.func.count(ended.wait_us).over(**group).label("wait_count"),
    ).subquery("ranked")
    columns = ranked.c
    key = (columns.start_us, columns.task, columns.state)
    counted: sa.Select[Any] = (
        sa.select(
            *key,
            sa.func.count().label("count"),
            sa.cast(sa.func.sum(columns.attempts), sa.BigInteger).label("attempts"),
            *_latencies(columns, "wait"),
            *_latencies(columns, "total"),
        )
        .group_by(*key)
        .order_by(*key)
    )
    return counted


def _latencies(columns: Any, name: str) -> list[sa.ColumnElement[Any]]:
    time, rank, count = columns[f"{name}_us"], columns[f"{name}_rank"], columns[f"{name}_count"]
    quantiles = [
        # The nearest rank: the count's percentage, rounded up.
        sa.func.max(sa.case((rank == (count * percent + 99) // 100, time))).label(f"{name}_p{percent}")
        for percent in _PERCENTS
    ]
    mean = sa.cast(sa.func.avg(time), sa.BigInteger).label(f"{name}_mean")
    return [mean, *quantiles, sa.func.max(time).label(f"{name}_max")]


def _stats(row: Any) -> Stats:
    start_us, task, state, count, attempts, *times = row
    wait, total = times[:4], times[4:]
    return Stats(
        start_us, task, state, count, attempts, None if wait[3] is None else Latencies(*wait), Latencies(*total)
    )
