"""The process that has the alert rules evaluated on time."""

from __future__ import annotations

from datetime import datetime, timedelta

from chassis.operations import Submission
from chassis.ticker import Ticker
from waybill.metrics.v1 import internal_pb2

from metrics_service import tasks
from metrics_service.app import app
from metrics_service.settings import MetricsSettings


def evaluation_at(tick: datetime) -> Submission:
    """The operation that evaluates the rules for this instant."""
    request = internal_pb2.EvaluateRules()
    request.time.FromDatetime(tick)
    return Submission(tasks.evaluate_rules, request)


def serve(settings: MetricsSettings) -> int:
    """Submit an evaluation on every tick until told to end."""
    every = timedelta(seconds=settings.evaluation_interval_seconds)
    return Ticker(app, settings, every=every, submission=evaluation_at).run()
