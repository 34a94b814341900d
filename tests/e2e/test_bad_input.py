"""What is wrong with a request is told all at once, as a rich error, and nothing is stored."""

import pytest
from google.longrunning import operations_pb2
from waybill.admin.v1 import admin_pb2
from waybill.events.v1 import events_pb2, events_pb2_grpc
from waybill.metrics.v1 import metrics_pb2
from waybill.notify.v1 import notify_pb2
from waybill.operations.v1 import operations_pb2 as ops
from waybill.reports.v1 import reports_pb2

from tests import documents, notices, samples
from tests.refusals import refused
from tests.stack import response_of, unique

UNKNOWN_ID = "01890000-0000-7000-8000-000000000000"


@pytest.fixture
def unchanged(stack):
    """The stores and databases hold afterwards what they held before."""
    notices.ensure_template(stack)
    before = stack.stored()
    yield
    assert stack.stored() == before


def metrics_request():
    request = metrics_pb2.IngestSamplesRequest(options=ops.SubmitOptions(max_attempts=1_000, labels={"Bad": "x"}))
    request.samples.add(metric="0bad", value=float("nan"))
    request.samples.add(metric="good", labels={"0bad": "x"}, value=1.0).time.FromSeconds(4_000_000_000)
    return request


def notify_request():
    request = notices.request(notify_pb2.Channel(), notify_pb2.Channel(email=notify_pb2.EmailChannel(address="nobody")))
    request.recipients[0].channels.add().webhook.CopyFrom(notify_pb2.WebhookChannel(url="ftp://x", secret="short"))
    request.attachments.add(filename="../escape", media_type="nonsense", content=b"x")
    return request


def reports_request():
    request = reports_pb2.RenderReportRequest(template_id="standard", title="")
    request.sections.add()
    request.sections.add().chart.metric = ""
    return request


@pytest.mark.parametrize(
    ("method", "request_", "fields"),
    [
        (
            lambda stack: stack.metrics().IngestSamples,
            metrics_request(),
            {"samples[0].metric", "samples[0].value", "samples[0].time", "options.max_attempts"},
        ),
        (
            lambda stack: stack.notify().SendNotification,
            notify_request(),
            {"recipients[0].channels[0]", "recipients[0].channels[1].email.address", "attachments[0].filename"},
        ),
        (lambda stack: stack.reports().RenderReport, reports_request(), {"title", "sections[0]"}),
    ],
    ids=["metrics", "notify", "reports"],
)
def test_every_violation_is_told_at_once(stack, unchanged, method, request_, fields):
    """Missing, malformed and contradictory fields, each with its path."""
    refusal = refused(method(stack), request_)

    assert refusal.code.name == "INVALID_ARGUMENT"
    assert fields <= set(refusal.violations), refusal.violations
    assert all(refusal.violations.values())
    assert refusal.domain in {"metrics", "notify", "reports"}


def test_contradictory_options_are_refused(stack, unchanged):
    """An operation that expires before it is due would never run."""
    request = samples.batch("jobs", 1.0)
    request.options.schedule_time.FromSeconds(4_000_000_000)
    request.options.expire_time.FromSeconds(1)

    refusal = refused(stack.metrics().IngestSamples, request)

    assert set(refusal.violations) >= {"options.schedule_time", "options.expire_time"}


@pytest.mark.parametrize(
    ("ask", "reason"),
    [
        (lambda s: (s.notify().SendNotification, _without_template()), "TEMPLATE_NOT_FOUND"),
        (lambda s: (s.reports().RenderReport, _report_of("nowhere")), "TEMPLATE_NOT_FOUND"),
        (lambda s: (s.reports().GetReport, reports_pb2.GetReportRequest(report_id=UNKNOWN_ID)), "REPORT_NOT_FOUND"),
        (
            lambda s: (s.reports().DownloadReport, reports_pb2.DownloadReportRequest(report_id=UNKNOWN_ID)),
            "REPORT_NOT_FOUND",
        ),
        (lambda s: (s.metrics().QuerySeries, _query(unique("unseen"))), "SERIES_NOT_FOUND"),
        (lambda s: (s.operations("notify").GetOperation, _operation("notify")), "OPERATION_NOT_FOUND"),
        (
            lambda s: (
                s.dead_letters("metrics").GetDeadLetter,
                admin_pb2.GetDeadLetterRequest(operation=f"operations/metrics/{UNKNOWN_ID}"),
            ),
            "OPERATION_NOT_FOUND",
        ),
    ],
    ids=["notify template", "report template", "report", "download", "series", "operation", "dead letter"],
)
def test_what_does_not_exist_is_not_found(stack, unchanged, ask, reason):
    """NOT_FOUND with the reason that clients may rely on."""
    method, request = ask(stack)

    assert refused(method, request).brief == ("NOT_FOUND", reason)


def test_a_payload_above_the_limit_is_told_the_limit(stack, unchanged):
    """The error names what was sent and what is taken."""
    request = notices.request(notices.email(), what="x" * (1 << 20))

    refusal = refused(stack.notify().SendNotification, request)

    assert refusal.reason == "PAYLOAD_TOO_LARGE"
    assert str(1 << 20) in refusal.message


@pytest.mark.parametrize("cursor", ["yesterday", "1-1"])
def test_a_cursor_must_be_one_that_is_kept(stack, cursor):
    """A malformed one is an invalid argument, a forgotten one is out of range."""
    subscribe = stack.stub("metrics", events_pb2_grpc.EventServiceStub).Subscribe
    stack.store("metrics").client.set("wb:{metrics}:events:trimmed", 1000)

    refusal = refused(subscribe, events_pb2.SubscribeRequest(cursor=cursor))

    expected = ("OUT_OF_RANGE", "CURSOR_EXPIRED") if cursor == "1-1" else ("INVALID_ARGUMENT", "INVALID_REQUEST")
    assert refusal.brief == expected


def test_a_template_cannot_leave_its_sandbox(stack, unchanged):
    """Reaching for Python's classes is refused when the template is made, and says where."""
    template = notify_pb2.Template(
        template_id=unique("escape"), subject="x", text="{{ ''.__class__.__mro__[1].__subclasses__() }}"
    )

    refusal = refused(stack.notify().CreateTemplate, notify_pb2.CreateTemplateRequest(template=template))

    assert refusal.brief == ("INVALID_ARGUMENT", "TEMPLATE_SANDBOX")


def test_a_webhook_to_a_private_address_is_a_dead_letter_that_says_so(stack):
    """No request is made; the delivery fails for good at its first attempt."""
    notices.ensure_template(stack)
    _, (delivery,) = notices.send(stack, notices.webhook("http://10.255.255.1/hook"))

    _, kept = stack.finished(delivery)

    assert (kept.state, kept.attempt) == (ops.OPERATION_STATE_FAILED, 1)
    assert "WEBHOOK_ADDRESS_FORBIDDEN" in str(kept.last_error)


def test_a_batch_answers_each_item_by_itself(stack):
    """A bad item is refused with its violations, the good one beside it is accepted and delivered."""
    notices.ensure_template(stack)
    good, bad = notices.request(notices.email()), notices.request(notify_pb2.Channel())

    answer = stack.notify().BatchSendNotifications(notify_pb2.BatchSendNotificationsRequest(requests=[good, bad]))

    first, second = answer.items
    assert (first.WhichOneof("result"), second.WhichOneof("result")) == ("operation", "error")
    operation, _ = stack.finished(first.operation.name)
    assert len(response_of(operation, notify_pb2.SendNotificationResponse).deliveries) == 1


def _without_template():
    request = notices.request(notices.email())
    request.template_id = "nowhere"
    return request


def _report_of(template):
    request = documents.of_text()
    request.template_id = template
    return request


def _query(metric):
    request = metrics_pb2.QuerySeriesRequest(metric=metric)
    request.end_time.GetCurrentTime()
    request.start_time.FromSeconds(request.end_time.seconds - 60)
    return request


def _operation(service):
    return operations_pb2.GetOperationRequest(name=f"operations/{service}/{UNKNOWN_ID}")
