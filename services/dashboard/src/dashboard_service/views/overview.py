"""How everything stands, at a glance."""

import json
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from flask import Blueprint, render_template
from waybill.admin.v1 import admin_pb2

from dashboard_service import cursors, pulse
from dashboard_service.context import current
from dashboard_service.filters import OperationFilter
from dashboard_service.live import Hub
from dashboard_service.operation_rows import BLANK
from dashboard_service.samples import Health, Sample
from dashboard_service.views import operations, statistics

CHART_SECONDS = 120
ROWS = 12

blueprint = Blueprint("overview", __name__)


@dataclass(frozen=True, slots=True)
class Totals:
    """Queues and workers of one service, or of all, added up."""

    depth: int
    waiting: int
    in_flight: int
    oldest: timedelta | None
    accept_rate: float
    settle_rate: float
    paused: int
    workers: int
    slots: int
    busy: int


@dataclass(frozen=True, slots=True)
class ServiceCard:
    """One service."""

    name: str
    health: Health
    totals: Totals
    queues: Sequence[admin_pb2.Queue]
    dead_letters: int | None


@blueprint.get("/")
def page() -> str:
    """The overview."""
    hub = current().hub
    found = operations.first_page((), OperationFilter(), ROWS)
    return render_template(
        "overview.html",
        found=found,
        blank=BLANK,
        cursor=cursors.encode(found.cursors),
        series=json.dumps(hub.pulse.series(time.time(), CHART_SECONDS)),
        chart_seconds=CHART_SECONDS,
        **statistics.values(),
        facts=[json.loads(entry.json) for entry in reversed(hub.facts)],
        **_values(hub),
    )


def panel() -> str:
    """The part of the page that moves with every sample."""
    return render_template("overview_panel.html", **_values(current().hub))


def _values(hub: Hub) -> dict[str, Any]:
    sample = hub.latest()
    now = time.time()
    return {
        "sample": sample,
        "cards": [_card(sample, service) for service in sample.health],
        "totals": totals(_all(sample.queues.values()), _all(sample.workers.values())),
        "succeeded": hub.pulse.total(pulse.SUCCEEDED, now),
        "failed": hub.pulse.total(pulse.FAILED, now),
        "median": hub.pulse.quantile(0.5),
        "p95": hub.pulse.quantile(0.95),
        "window": timedelta(seconds=pulse.KEPT_SECONDS),
    }


def totals(queues: Sequence[admin_pb2.Queue], workers: Sequence[admin_pb2.Worker]) -> Totals:
    """Add up; the oldest age is the greatest, None where every queue is empty."""
    ages = [queue.oldest_age.ToTimedelta() for queue in queues if queue.HasField("oldest_age")]
    return Totals(
        depth=sum(queue.depth for queue in queues),
        waiting=sum(queue.waiting for queue in queues),
        in_flight=sum(queue.in_flight for queue in queues),
        oldest=max(ages, default=None),
        accept_rate=sum(queue.accept_rate for queue in queues),
        settle_rate=sum(queue.settle_rate for queue in queues),
        paused=sum(queue.paused for queue in queues),
        workers=len(workers),
        slots=sum(worker.concurrency for worker in workers),
        busy=sum(len(worker.operations) for worker in workers),
    )


def _card(sample: Sample, service: str) -> ServiceCard:
    queues, workers = sample.queues.get(service, ()), sample.workers.get(service, ())
    return ServiceCard(
        name=service,
        health=sample.health[service],
        totals=totals(queues, workers),
        queues=queues,
        dead_letters=sample.dead_letters.get(service),
    )


def _all(groups: Iterable[Sequence[Any]]) -> list[Any]:
    return [each for group in groups for each in group]
