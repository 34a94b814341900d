"""What the tests of metrics share: values with sensible defaults, and the databases that it runs on."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy as sa
from chassis.database import open_database
from chassis.testing import attempt
from chassis.testing.loops import grpc_loop
from metrics_service.instants import to_us
from metrics_service.queries import Matcher, MatchOperator, Selector
from metrics_service.rollups import Aggregation, Resolution
from metrics_service.rules import AlertRule, Comparison
from metrics_service.samples import Sample
from metrics_service.schema import METADATA
from metrics_service.series import SeriesKey
from metrics_service.store import Store

NOON = datetime(2026, 7, 1, 12, tzinfo=UTC)


@pytest.fixture(scope="session")
def noon():
    """An instant at which buckets of every resolution begin."""
    return NOON


@pytest.fixture(scope="session")
def a_sample():
    def make(value=1.0, *, at=NOON, metric="cpu", unit="", **labels):
        return Sample(SeriesKey.of(metric, labels), to_us(at), value, unit)

    return make


@pytest.fixture(scope="session")
def a_rule():
    """A rule that is breached above 90, at once."""

    def make(**given):
        matchers = tuple(Matcher(label, MatchOperator.EQUAL, value) for label, value in given.pop("where", {}).items())
        fields = {
            "rule_id": "cpu-high",
            "display_name": "",
            "selector": Selector(given.pop("metric", "cpu"), matchers),
            "aggregation": Aggregation.AVG,
            "comparison": Comparison.ABOVE,
            "threshold": 90.0,
            "window": timedelta(seconds=30),
            "for_duration": timedelta(),
            "labels": (),
            "annotations": (),
        }
        return AlertRule(**{**fields, **given})

    return make


@pytest.fixture(scope="session")
def retention():
    return {
        Resolution.TEN_SECONDS: timedelta(hours=24),
        Resolution.ONE_MINUTE: timedelta(days=14),
        Resolution.ONE_HOUR: timedelta(days=400),
    }


@pytest.fixture
def anyio_backend():
    """Tests that are coroutines, `pytest.mark.anyio`, run on asyncio."""
    return "asyncio", {"loop_factory": grpc_loop}


@pytest.fixture
def engine(database_url) -> Iterator[sa.Engine]:
    """An empty database of the service, of each kind that it runs on."""
    opened = open_database(database_url, METADATA)
    yield opened
    opened.dispose()


@pytest.fixture
def metrics_store(engine, retention) -> Store:
    """A store with default terms."""
    return Store(engine, retention, allowed_lateness=timedelta(hours=1))


@pytest.fixture
def opened(metrics_store, monkeypatch):
    """The store that the tasks of this process find."""
    monkeypatch.setattr("metrics_service.store.opened", lambda: metrics_store)
    return metrics_store


@pytest.fixture(scope="session")
def an_attempt():
    """An attempt of a new operation; another number is another trace."""

    def make(number=1):
        return attempt(service="metrics", traceparent=f"00-{number:032x}-{number:016x}-01")

    return make
