"""How many operations ended, how many of them failed, and how long they took: over hours and days."""

import json
import time
from typing import Any

from flask import Blueprint, render_template, request
from waybill.admin.v1 import admin_pb2

from dashboard_service import statistics
from dashboard_service.clients import PAGE_TIMEOUT, Gateway
from dashboard_service.context import current

MAX_TASKS = 12

blueprint = Blueprint("statistics", __name__)


@blueprint.get("/statistics")
def part() -> str:
    """The part of the overview that shows them; asked for by its script now and then."""
    return render_template("statistics.html", **values())


def values() -> dict[str, Any]:
    """What the template shows, of the range that the query names."""
    name = request.args.get("range", "1h")
    name = name if name in statistics.RANGES else "1h"
    back, step = statistics.RANGES[name]
    step_seconds = int(step.total_seconds())
    # Whole steps, the running one included.
    end = (int(time.time()) // step_seconds + 1) * step_seconds
    start = end - int(back.total_seconds())

    def question(gateway: Gateway) -> Any:
        asked = admin_pb2.GetOperationStatsRequest(service=gateway.service)
        asked.start_time.FromSeconds(start)
        asked.end_time.FromSeconds(end)
        asked.step.FromTimedelta(step)
        return gateway.steering.GetOperationStats.future(asked, timeout=PAGE_TIMEOUT.total_seconds())

    answers = current().clients.ask(question).answers()
    rows = [row for answer in answers.by_service.values() for row in answer.stats]
    built = statistics.build(rows, start, end, step_seconds)
    return {
        "range": name,
        "ranges": tuple(statistics.RANGES),
        "stats": built,
        "stats_json": json.dumps(built.as_json()),
        "tasks": built.tasks[:MAX_TASKS],
        "stats_problems": answers.problems,
    }
