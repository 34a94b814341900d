"""What is decided without a gateway: errors, methods and requests, the seam of a watch, outages."""

import json
import subprocess
import sys
from datetime import UTC, datetime, timedelta

import grpc
import pytest
import waybill_client
from google.rpc import error_details_pb2, status_pb2
from waybill.operations.v1 import operations_pb2 as waybill_pb2
from waybill.reports.v1 import reports_pb2
from waybill_client import Change, Progress, State, connection, errors, flows, submissions
from waybill_client.views import includes

MOMENT = datetime(2026, 1, 2, 3, 4, 5, 250_000, tzinfo=UTC)
LATER = MOMENT + timedelta(seconds=1)


def a_status(code=grpc.StatusCode.RESOURCE_EXHAUSTED, reason="QUEUE_FULL"):
    status = status_pb2.Status(code=code.value[0], message="the queue is full")
    retry = error_details_pb2.RetryInfo()
    retry.retry_delay.FromTimedelta(timedelta(seconds=2))
    info = error_details_pb2.ErrorInfo(reason=reason, domain="reports", metadata={"queue": "reports.default"})
    violation = error_details_pb2.BadRequest.FieldViolation(field="title", description="is required")
    for detail in (info, retry, error_details_pb2.BadRequest(field_violations=[violation])):
        status.details.add().Pack(detail)
    return status


def test_a_status_becomes_an_exception_with_all_that_it_says():
    """Type by code; reason, domain, metadata, violations and the wait as attributes."""
    error = errors.from_status(a_status())

    assert type(error) is waybill_client.ResourceExhausted
    assert (error.reason, error.domain, error.metadata) == ("QUEUE_FULL", "reports", {"queue": "reports.default"})
    assert error.violations == (waybill_client.FieldViolation("title", "is required"),)
    assert error.retry_after == timedelta(seconds=2)
    assert str(error) == "RESOURCE_EXHAUSTED: the queue is full"


@pytest.mark.parametrize("code", [code for code in grpc.StatusCode if code is not grpc.StatusCode.OK])
def test_every_code_has_an_exception(code):
    """A code without a type of its own is a WaybillError that knows it."""
    error = errors.make(code, "no")

    assert error.code is code
    assert error.reason == code.name
    assert error.retry_after is None


def test_an_expired_cursor_is_told_from_other_positions():
    """By its reason."""
    code = grpc.StatusCode.OUT_OF_RANGE

    assert type(errors.from_status(a_status(code, "CURSOR_EXPIRED"))) is waybill_client.CursorExpired
    assert type(errors.from_status(a_status(code, "PAST_THE_END"))) is waybill_client.OutOfRange


def test_a_request_names_its_method_and_is_given_an_id():
    """The caller's message stays as it is; an id that it has, or that is given, is kept."""
    request = reports_pb2.RenderReportRequest(title="x")

    fresh = submissions.prepare(request)
    given = submissions.prepare(request, request_id="mine")
    own = submissions.prepare(reports_pb2.RenderReportRequest(request_id="own"))

    assert fresh.path == "/waybill.reports.v1.ReportsService/RenderReport"
    assert fresh.accepts_work
    assert len(fresh.request.request_id) == 36
    assert (given.request.request_id, own.request.request_id, request.request_id) == ("mine", "own", "")


@pytest.mark.parametrize(
    "name", ["reports.RenderReport", "reports/render-report", "waybill.reports.v1.ReportsService/RenderReport"]
)
def test_a_method_has_its_short_and_its_full_name(name):
    """A mapping is read as protobuf JSON, every field that does not fit is named."""
    prepared = submissions.prepare(name, {"templateId": "standard", "title": "x"})

    assert (prepared.request.template_id, prepared.request.title) == ("standard", "x")
    with pytest.raises(waybill_client.JsonError) as raised:
        submissions.prepare(name, {"titel": "x", "sections": [{"chart": 5}]})
    assert [problem.partition(":")[0] for problem in raised.value.problems] == ["titel", "sections[0].chart"]


def test_what_no_contract_has_is_refused():
    """Before anything is sent."""
    for name in ("RenderReport", "nobody.Do", "reports.Do"):
        with pytest.raises(waybill_client.MethodError):
            submissions.prepare(name)
    with pytest.raises(waybill_client.MethodError):
        submissions.prepare(reports_pb2.Report())
    with pytest.raises(TypeError, match="not a"):
        submissions.prepare("reports.RenderReport", reports_pb2.Report())
    with pytest.raises(TypeError):
        submissions.prepare(reports_pb2.RenderReportRequest(), {})


def test_only_what_may_be_sent_twice_is_tried_again():
    """The retry policy names reads, what repeats harmlessly, and what has a request_id; nothing that creates anew."""
    (config,) = json.loads(connection.service_config())["methodConfig"]
    named = {f"{each['service']}/{each['method']}" for each in config["name"]}

    assert config["retryPolicy"]["retryableStatusCodes"] == ["UNAVAILABLE", "CANCELLED"]
    assert named >= {
        "google.longrunning.Operations/WaitOperation",
        "waybill.events.v1.EventService/Subscribe",
        "waybill.reports.v1.ReportsService/RenderReport",
        "waybill.admin.v1.QueueService/PauseQueue",
        "waybill.admin.v1.DeadLetterService/ReplayDeadLetter",
    }
    assert "waybill.admin.v1.DeadLetterService/ReplayDeadLetters" not in named
    assert not any("/Create" in name or "/Delete" in name for name in named)


def a_snapshot(state="RUNNING", attempt=1, percent=None, ended=None, *, cancel_requested=False):
    metadata = waybill_pb2.OperationMetadata(
        state=f"OPERATION_STATE_{state}", attempt=attempt, cancel_requested=cancel_requested
    )
    begun = metadata.attempts.add(number=1)
    begun.begin_time.FromDatetime(MOMENT)
    if ended:
        begun.end_time.FromDatetime(ended)
    if percent is not None:
        metadata.progress.percent = percent
    return metadata


@pytest.mark.parametrize(
    ("kind", "time", "metadata", "shown"),
    [
        ("accepted", MOMENT, a_snapshot(), True),
        ("began", MOMENT, a_snapshot(), True),
        ("began", LATER, a_snapshot(), False),
        ("retried", LATER, a_snapshot(), False),
        ("retried", LATER, a_snapshot("RETRYING", ended=LATER), True),
        ("lost", MOMENT, a_snapshot("QUEUED", ended=LATER), True),
        ("queued", LATER, a_snapshot("RETRYING", ended=MOMENT), False),
        ("queued", LATER, a_snapshot("QUEUED", ended=MOMENT), True),
        ("queued", MOMENT, a_snapshot("RETRYING", ended=LATER), True),
        ("progressed", LATER, a_snapshot(percent=30), False),
        ("progressed", LATER, a_snapshot(percent=40), True),
        ("progressed", LATER, a_snapshot(attempt=2), True),
        ("cancel_requested", MOMENT, a_snapshot(), False),
        ("cancel_requested", MOMENT, a_snapshot(cancel_requested=True), True),
        ("succeeded", MOMENT, a_snapshot(), False),
        ("failed", MOMENT, a_snapshot(), False),
    ],
)
def test_a_watch_leaves_out_what_its_first_look_has_shown(kind, time, metadata, shown):
    """Table of the seam: an event is left out if, and only if, the snapshot includes it."""
    change = Change("operations/reports/1", kind, State.RUNNING, 1, 5, Progress(40), time)

    assert includes(metadata, change) is shown


def test_an_outage_is_sat_out_with_growing_pauses_until_patience_is_over():
    """What does not pass by itself is raised at once; what the server asks for is waited at least."""
    heard = []
    outage = flows.Outage(timedelta(hours=1), heard.append)
    away = errors.make(grpc.StatusCode.UNAVAILABLE, "away")

    pauses = [next(outage.sit_out(away)).seconds for _ in range(8)]
    asked = next(outage.sit_out(errors.from_status(a_status(grpc.StatusCode.UNAVAILABLE)))).seconds

    assert pauses[0] < pauses[3] < pauses[7] <= flows.MAX_BACKOFF_SECONDS
    assert asked >= 2
    assert heard == [away]
    with pytest.raises(waybill_client.NotFound):
        next(outage.sit_out(errors.make(grpc.StatusCode.NOT_FOUND, "no")))
    with pytest.raises(waybill_client.Unavailable):
        next(flows.Outage(timedelta(0)).sit_out(away))


def test_the_client_brings_neither_celery_nor_the_chassis():
    """Importing it loads gRPC, protobuf and contracts alone."""
    program = """
import sys, waybill_client
loaded = {name.partition(".")[0] for name in sys.modules}
print(*sorted(loaded & {"celery", "kombu", "redis", "chassis", "rich", "click", "sqlalchemy", "pydantic", "structlog"}))
"""

    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == ""
