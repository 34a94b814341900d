"""Operations on their last attempt whose worker died under the one before: any of them may be poison."""

import pytest


class Worker:
    """One session of fetches that are all heard of."""

    def __init__(self, desk, session):
        self._desk, self._session, self._heard = desk, session, 0

    def fetch(self):
        deliveries = self._desk.fetched(session=self._session, heard=self._heard).deliveries
        if deliveries:
            self._heard = int(deliveries[0].delivery.partition(".")[2].partition(":")[0])
        return deliveries


@pytest.fixture
def suspects(desk):
    """Three operations that ran together when their worker died, in order; one more attempt is allowed to each."""
    accepted = [desk.accept(max_attempts=2) for _ in range(3)]
    runs = [desk.begin(delivery) for delivery in desk.fetched().deliveries]
    desk.release(*runs, lost=True)
    return accepted


def test_a_worker_is_given_one_at_a_time(desk, suspects):
    """Poison kills its worker alone of them; what always ran beside it has its last attempt without it."""
    worker = Worker(desk, "a")

    for expected in suspects:
        (delivery,) = worker.fetch()
        assert delivery.operation_id == expected
        assert worker.fetch() == []
        desk.settle(desk.begin(delivery), "SUCCEEDED")

    assert worker.fetch() == []


def test_others_come_beside_it(desk, suspects):
    """They hold nobody up, and their own order stays."""
    new = [desk.accept() for _ in range(2)]

    assert [delivery.operation_id for delivery in Worker(desk, "a").fetch()] == [suspects[0], *new]


def test_another_worker_is_given_the_next(desk, suspects):
    """One for each."""
    workers = [Worker(desk, name) for name in "abcd"]

    fetched = [[delivery.operation_id for delivery in worker.fetch()] for worker in workers]

    assert fetched == [*([one] for one in suspects), []]


def test_a_death_that_leaves_attempts_makes_no_suspect(desk):
    """After a crash all that was lost goes on side by side."""
    for _ in range(3):
        desk.accept(max_attempts=3)
    runs = [desk.begin(delivery) for delivery in desk.fetched().deliveries]
    desk.release(*runs, lost=True)

    assert len(desk.fetched().deliveries) == 3


def test_a_fetch_looks_at_a_hundred_or_so_and_no_more(desk):
    """So that a fetch stays short whatever a bad hour has left in the queue."""
    accepted = [desk.accept(max_attempts=2) for _ in range(150)]
    runs = [desk.begin(delivery) for delivery in desk.fetched(150).deliveries]
    desk.release(*runs, lost=True)
    desk.accept()

    assert [delivery.operation_id for delivery in Worker(desk, "a").fetch()] == accepted[:1]
    assert [delivery.operation_id for delivery in Worker(desk, "b").fetch()] == accepted[1:2]
