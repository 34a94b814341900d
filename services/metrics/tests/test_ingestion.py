"""Batches in the database: added once, merged with what is there, whatever the order."""

import threading
from datetime import timedelta

import pytest
import sqlalchemy as sa
from metrics_service import ingestion
from metrics_service.ingestion import Applied, Batch
from metrics_service.instants import to_us
from metrics_service.rollups import Resolution, Rollup, coarsen, roll_up
from metrics_service.schema import APPLIED_BATCHES, ROLLUPS, SERIES
from metrics_service.series_store import list_series

SECOND = timedelta(seconds=1)


@pytest.fixture
def add(engine, noon):
    def apply(samples, batch_id="batch-1", dropped_late=0, traceparent="00-aa-bb-01"):
        return ingestion.apply(engine, Batch(batch_id, samples, dropped_late, traceparent), noon)

    return apply


def stored(engine, resolution):
    with engine.connect() as connection:
        return {
            (bytes(row.fingerprint), row.bucket): Rollup(
                row.count, row.total, row.low, row.high, row.last, row.last_time_us
            )
            for row in connection.execute(sa.select(ROLLUPS[resolution]))
        }


def expected(samples, resolution):
    return coarsen(roll_up(samples), resolution)


def test_samples_are_in_the_rollups_of_every_resolution(engine, add, noon, a_sample):
    samples = [a_sample(float(i), at=noon + 7 * i * SECOND, core=str(i % 2)) for i in range(20)]

    assert add(samples) == Applied(20, 0)

    for resolution in Resolution:
        assert stored(engine, resolution) == expected(samples, resolution)


def test_batches_are_merged_into_the_buckets_that_are_there(engine, add, noon, a_sample):
    """A late sample changes its bucket; last stays that of the latest event time."""
    first = [a_sample(5.0, at=noon + 5 * SECOND), a_sample(7.0, at=noon + 6 * SECOND)]
    late = [a_sample(1.0, at=noon), a_sample(9.0, at=noon + 5 * SECOND), a_sample(8.0, at=noon + 6 * SECOND)]

    add(first, "batch-1")
    add(late, "batch-2")

    for resolution in Resolution:
        assert stored(engine, resolution) == expected(first + late, resolution)
    (rollup,) = stored(engine, Resolution.TEN_SECONDS).values()
    assert rollup == Rollup(5, 30.0, 1.0, 9.0, 8.0, to_us(noon + 6 * SECOND))


def test_a_batch_that_is_delivered_twice_is_added_once(engine, add, a_sample):
    """The second attempt is told what the first one counted."""
    batch = [a_sample(5.0)]

    assert add(batch, dropped_late=3) == Applied(1, 3)
    assert add(batch, dropped_late=3) == Applied(1, 3, already=True)

    assert stored(engine, Resolution.TEN_SECONDS) == expected(batch, Resolution.TEN_SECONDS)


def test_a_batch_that_fails_half_way_leaves_nothing(engine, add, a_sample):
    """Its id least of all, or the next attempt would add nothing."""
    with engine.begin() as connection:
        ROLLUPS[Resolution.ONE_HOUR].drop(connection)
    with pytest.raises(sa.exc.DBAPIError):
        add([a_sample()])

    with engine.begin() as connection:
        assert connection.execute(sa.select(sa.func.count()).select_from(APPLIED_BATCHES)).scalar() == 0
        assert connection.execute(sa.select(sa.func.count()).select_from(SERIES)).scalar() == 0
        ROLLUPS[Resolution.ONE_HOUR].create(connection)
    assert add([a_sample()]) == Applied(1, 0)


def test_a_batch_of_nothing_but_late_samples_is_recorded_all_the_same(add):
    assert add([], dropped_late=2) == Applied(0, 2)
    assert add([], dropped_late=2) == Applied(0, 2, already=True)


def test_a_series_tells_its_first_and_last_sample_and_who_touched_it_last(engine, add, noon, a_sample):
    add([a_sample(5.0, at=noon, unit="By")], "batch-1", traceparent="00-11-11-01")
    add([a_sample(4.0, at=noon - 60 * SECOND)], "batch-2", traceparent="00-22-22-01")

    with engine.connect() as connection:
        row = connection.execute(sa.select(SERIES)).one()
    assert (row.first_time_us, row.last_time_us) == (to_us(noon - 60 * SECOND), to_us(noon))
    assert row.last_value == 5.0
    assert row.unit == "By"
    assert row.traceparent == "00-22-22-01"


def test_batches_of_several_workers_at_once_lose_nothing(engine, add, noon, a_sample):
    """Each of four threads adds 25 batches to the same series; half of them are also added by another one."""
    begin = threading.Barrier(4)

    def work(worker):
        begin.wait()
        for index in range(25):
            # Batches of workers 0 and 1 have the same ids, those of 2 and 3 too.
            samples = [a_sample(1.0, at=noon, core=str(core)) for core in range(5)]
            add(samples if worker % 2 else samples[::-1], f"batch-{worker // 2}-{index}")

    workers = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()

    assert {rollup.count for rollup in stored(engine, Resolution.ONE_HOUR).values()} == {50}


def test_the_number_of_statements_does_not_depend_on_the_number_of_samples(engine, add, noon, a_sample):
    """An export of many points is a handful of statements."""
    executed = []
    sa.event.listen(engine, "before_cursor_execute", lambda *args: executed.append(args[2]))

    add([a_sample(at=noon + i * SECOND, core=str(i % 50)) for i in range(1000)])

    assert len([statement for statement in executed if statement.startswith("INSERT")]) == 5


def test_labels_of_every_kind_of_text_come_back(engine, add, a_sample):
    """NUL included, which PostgreSQL has no text for."""
    add([a_sample(state='a"\\\0\n\u2028\U0001f600')])

    (record,) = list_series(engine, "", None, 10)
    assert record.key == a_sample(state='a"\\\0\n\u2028\U0001f600').series
