"""What is past its retention is deleted, and nothing else."""

from datetime import timedelta

import pytest
import sqlalchemy as sa
from metrics_service import ingestion, pruning, rule_store
from metrics_service.evaluation import evaluate_rules
from metrics_service.ingestion import Batch
from metrics_service.pruning import prune
from metrics_service.rollups import Resolution
from metrics_service.schema import ALERTS, APPLIED_BATCHES, ROLLUPS, SERIES

DAY = timedelta(days=1)


@pytest.fixture
def evaluated(engine, an_attempt, noon):
    """Pruning keeps its time beside the last evaluation."""
    evaluate_rules(engine, an_attempt(), noon - 500 * DAY)


@pytest.fixture
def add(engine, a_sample):
    def apply(at, batch_id="", **labels):
        ingestion.apply(engine, Batch(batch_id or str(at), [a_sample(95.0, at=at, **labels)], 0, ""), at)

    return apply


@pytest.fixture
def count(engine):
    def rows(table):
        with engine.connect() as connection:
            return connection.execute(sa.select(sa.func.count()).select_from(table)).scalar()

    return rows


def test_each_resolution_has_a_retention_of_its_own(engine, evaluated, add, count, retention, noon):
    for ago in (timedelta(hours=23), timedelta(hours=25), 13 * DAY, 15 * DAY, 399 * DAY, 401 * DAY):
        add(noon - ago)

    assert prune(engine, retention, noon) > 0

    assert [count(ROLLUPS[resolution]) for resolution in Resolution] == [1, 3, 5]


def test_it_is_done_at_most_once_a_minute(engine, evaluated, add, count, retention, noon):
    prune(engine, retention, noon)
    add(noon - 2 * DAY)

    assert prune(engine, retention, noon + timedelta(seconds=59)) == 0
    assert count(ROLLUPS[Resolution.TEN_SECONDS]) == 1
    assert prune(engine, retention, noon + timedelta(seconds=60)) > 0
    assert count(ROLLUPS[Resolution.TEN_SECONDS]) == 0


def test_a_large_remainder_is_deleted_in_pieces(engine, evaluated, add, count, retention, noon, monkeypatch):
    """No transaction holds the write lock for long, whatever has piled up."""
    monkeypatch.setattr(pruning, "_ROWS_AT_A_TIME", 3)
    for number in range(20):
        add(noon - 2 * DAY + number * timedelta(seconds=10))
    deleted = []
    sa.event.listen(
        engine,
        "after_cursor_execute",
        lambda _c, cursor, statement, *_: (
            deleted.append(cursor.rowcount) if statement.startswith("DELETE FROM rollup_10") else None
        ),
    )

    prune(engine, retention, noon)

    assert count(ROLLUPS[Resolution.TEN_SECONDS]) == 0
    assert sum(deleted) == 20
    assert max(deleted) <= 4


def test_a_batch_id_is_kept_longer_than_its_request_can_be_repeated(engine, evaluated, add, count, retention, noon):
    add(noon - timedelta(hours=24), "kept")
    add(noon - timedelta(hours=24, seconds=1), "gone")

    prune(engine, retention, noon)

    with engine.connect() as connection:
        assert connection.execute(sa.select(APPLIED_BATCHES.c.batch_id)).scalars().all() == ["kept"]


def test_a_series_goes_with_the_last_of_its_rollups(engine, evaluated, add, count, retention, noon):
    add(noon - 401 * DAY, core="old")
    add(noon - 399 * DAY, core="young")

    prune(engine, retention, noon)

    with engine.connect() as connection:
        assert connection.execute(sa.select(SERIES.c.labels)).scalars().all() == ['[["core","young"]]']


def test_resolved_alerts_go_by_age_and_open_ones_stay(engine, add, retention, noon, a_rule, an_attempt):
    rule_store.create(engine, a_rule(rule_id="resolved"), noon)
    begin = noon - 402 * DAY
    add(begin)
    evaluate_rules(engine, an_attempt(), begin)
    rule_store.delete(engine, "resolved")
    rule_store.create(engine, a_rule(rule_id="open"), noon)
    evaluate_rules(engine, an_attempt(), begin + timedelta(seconds=5))

    prune(engine, retention, noon)

    with engine.connect() as connection:
        assert connection.execute(sa.select(ALERTS.c.rule_id)).scalars().all() == ["open"]
