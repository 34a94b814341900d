"""Series and their rollups, as the database keeps them."""

from collections.abc import Collection, Iterable
from itertools import groupby
from typing import Any

import sqlalchemy as sa
from chassis.errors import FieldViolation, InvalidArgument, NotFound

from metrics_service.columns import load_labels
from metrics_service.queries import MAX_ANSWER_POINTS, MAX_SERIES, Buckets, SeriesQuery
from metrics_service.rollups import Aggregation, Rollup
from metrics_service.schema import ROLLUPS, SERIES
from metrics_service.series import SeriesAnswer, SeriesKey, SeriesPoints, SeriesRecord


def list_series(engine: sa.Engine, prefix: str, after: tuple[str, bytes] | None, limit: int) -> list[SeriesRecord]:
    """Series whose metric begins with the prefix, by metric and fingerprint, after that position."""
    series = SERIES.c
    chosen = sa.select(SERIES).order_by(series.metric, series.fingerprint).limit(limit)
    if prefix:
        chosen = chosen.where(sa.func.substr(series.metric, 1, len(prefix)) == prefix)
    if after is not None:
        chosen = chosen.where(sa.tuple_(series.metric, series.fingerprint) > sa.tuple_(*after))
    with engine.connect() as connection:
        return [_record(row) for row in connection.execute(chosen)]


def query_series(engine: sa.Engine, query: SeriesQuery, buckets: Buckets) -> SeriesAnswer:
    """The selected series with their points in these buckets, by labels.

    Raises NotFound for a metric that was never seen, and InvalidArgument for an answer with too
    many points.
    """
    metric = query.selector.metric
    with engine.connect() as connection:
        known = records_of(connection, [metric]).get(metric)
        if not known:
            raise NotFound(
                f"no sample of metric {metric} has arrived", reason="SERIES_NOT_FOUND", metadata={"metric": metric}
            )
        selected = _in_range(_selected(query, known), buckets)
        points = _points(connection, query.aggregation, buckets, [r.key.fingerprint for r in selected[:MAX_SERIES]])
    answered = [
        SeriesPoints(record, points[record.key.fingerprint]) for record in selected if record.key.fingerprint in points
    ]
    return SeriesAnswer(answered, max(0, len(selected) - MAX_SERIES))


def records_of(connection: sa.Connection, metrics: Collection[str]) -> dict[str, list[SeriesRecord]]:
    """Every series of these metrics, by metric, sorted by labels."""
    chosen = sa.select(SERIES).where(SERIES.c.metric.in_(list(metrics)))
    records = sorted(
        map(_record, connection.execute(chosen)), key=lambda record: (record.key.metric, record.key.labels)
    )
    return {metric: list(group) for metric, group in groupby(records, lambda record: record.key.metric)}


def window_values(
    connection: sa.Connection, metric: str, aggregation: Aggregation, buckets: Buckets
) -> dict[bytes, float]:
    """One value for each series of the metric that has a sample in the buckets, by fingerprint."""
    table = ROLLUPS[buckets.resolution]
    rollups = table.c
    totals = (
        sa.select(
            rollups.fingerprint,
            sa.func.sum(rollups.count).label("count"),
            sa.func.sum(rollups.total).label("total"),
            sa.func.min(rollups.low).label("low"),
            sa.func.max(rollups.high).label("high"),
            sa.func.max(rollups.bucket).label("last_bucket"),
        )
        .join(SERIES, SERIES.c.fingerprint == rollups.fingerprint)
        .where(SERIES.c.metric == metric, rollups.bucket >= buckets.first, rollups.bucket < buckets.end)
        .group_by(rollups.fingerprint)
        .subquery()
    )
    same_bucket = sa.and_(rollups.fingerprint == totals.c.fingerprint, rollups.bucket == totals.c.last_bucket)
    columns = (totals.c.count, totals.c.total, totals.c.low, totals.c.high, rollups.last, rollups.last_time_us)
    chosen = sa.select(totals.c.fingerprint, *columns).join(table, same_bucket)
    return {row[0]: _rollup(row[1:]).value(aggregation) for row in connection.execute(chosen)}


def _selected(query: SeriesQuery, known: list[SeriesRecord]) -> list[SeriesRecord]:
    by_key = {record.key: record for record in known}
    return [by_key[key] for key in query.selector.choose(by_key)]


def _in_range(records: Iterable[SeriesRecord], buckets: Buckets) -> list[SeriesRecord]:
    width = buckets.resolution
    return [
        record
        for record in records
        if width.bucket(record.first_time_us) < buckets.end and width.bucket(record.last_time_us) >= buckets.first
    ]


def _points(
    connection: sa.Connection, aggregation: Aggregation, buckets: Buckets, fingerprints: list[bytes]
) -> dict[bytes, list[tuple[int, float]]]:
    rollups = ROLLUPS[buckets.resolution].c
    chosen = (
        sa.select(
            rollups.fingerprint,
            rollups.bucket,
            rollups.count,
            rollups.total,
            rollups.low,
            rollups.high,
            rollups.last,
            rollups.last_time_us,
        )
        .where(rollups.fingerprint.in_(fingerprints), rollups.bucket >= buckets.first, rollups.bucket < buckets.end)
        .order_by(rollups.fingerprint, rollups.bucket)
        .limit(MAX_ANSWER_POINTS + 1)
    )
    rows = connection.execute(chosen).all()
    if len(rows) > MAX_ANSWER_POINTS:
        raise _too_large(len(fingerprints))
    points: dict[bytes, list[tuple[int, float]]] = {}
    for row in rows:
        points.setdefault(row[0], []).append((row[1], _rollup(row[2:]).value(aggregation)))
    return points


def _too_large(series: int) -> InvalidArgument:
    description = (
        f"{series} series have more than {MAX_ANSWER_POINTS:,} points in this range: ask for a shorter range, "
        "a coarser resolution, or fewer series by matchers"
    )
    return InvalidArgument([FieldViolation("end_time", description)], reason="QUERY_TOO_LARGE")


def _rollup(row: tuple[Any, ...]) -> Rollup:
    count, total, low, high, last, last_time_us = row
    return Rollup(int(count), total, low, high, last, last_time_us)


def _record(row: sa.Row[Any]) -> SeriesRecord:
    return SeriesRecord(
        SeriesKey(row.metric, load_labels(row.labels)),
        row.unit,
        row.first_time_us,
        row.last_time_us,
        row.last_value,
        row.traceparent,
    )
