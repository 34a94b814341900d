import json

import pytest
from chassis.errors import InvalidArgument, NotFound
from dashboard_service import contracts, payloads
from google.protobuf import any_pb2
from waybill.metrics.v1 import metrics_pb2
from waybill.reports.v1 import reports_pb2


@pytest.mark.parametrize(
    ("service", "methods"),
    [
        ("metrics", {"IngestSamples"}),
        ("notify", {"SendNotification", "BatchSendNotifications"}),
        ("reports", {"RenderReport", "RunSchedule"}),
        ("store", set()),
        ("nobody", set()),
        ("../x", set()),
    ],
)
def test_the_methods_that_accept_work_are_those_that_answer_with_operations(service, methods):
    """CRUD, streams and internal packages are not offered."""
    assert set(contracts.work_methods(service)) == methods


@pytest.mark.parametrize("name", ["BatchSendNotifications", "batch-send-notifications"])
def test_a_method_is_named_as_in_the_contract_or_in_kebab_case(name):
    """Both spellings are one method."""
    assert contracts.resolve("notify", name).full_name == "waybill.notify.v1.NotifyService.BatchSendNotifications"


def test_an_unknown_method_is_answered_with_those_that_there_are():
    """The error is enough to mend the call."""
    with pytest.raises(NotFound) as refused:
        contracts.resolve("reports", "get-report")

    assert refused.value.reason == "METHOD_NOT_FOUND"
    assert "render-report, run-schedule" in refused.value.message


def test_a_payload_of_any_contract_is_printed_as_json():
    """A payload whose module nobody has imported is printed too."""
    packed = any_pb2.Any()
    packed.Pack(metrics_pb2.IngestSamplesRequest(samples=[metrics_pb2.Sample(metric="cpu", value=1)]))

    assert json.loads(payloads.printed(packed)) == {"samples": [{"metric": "cpu", "value": 1.0}]}


@pytest.mark.parametrize(
    "packed",
    [
        any_pb2.Any(type_url="type.googleapis.com/no.such.Type", value=b"\x01\xff"),
        any_pb2.Any(type_url="type.googleapis.com/waybill.reports.v1.RenderReportRequest", value=b"\xff\xff"),
    ],
)
def test_what_no_contract_describes_is_shown_as_bytes(packed):
    """An unknown type and a damaged payload break no page."""
    assert json.loads(payloads.printed(packed))["@type"] == packed.type_url


def test_an_edited_payload_has_the_originals_type():
    """Text comes back as the message that it was printed from."""
    original = any_pb2.Any()
    original.Pack(reports_pb2.RenderReportRequest(title="before"))
    text = payloads.printed(original)

    changed = payloads.edited(original, text.replace("before", "after"))

    request = reports_pb2.RenderReportRequest()
    assert changed.Unpack(request)
    assert request.title == "after"


def test_a_payload_that_was_not_edited_is_known_as_such():
    """What a browser does to line ends is no edit."""
    original = any_pb2.Any()
    original.Pack(reports_pb2.RenderReportRequest(title="t", subtitle="s"))
    text = payloads.printed(original)

    assert payloads.same(original, text.replace("\n", "\r\n") + "\r\n")
    assert not payloads.same(original, text.replace('"t"', '"u"'))


def test_a_bad_edit_names_its_fields():
    """Every violation of an edited payload is found at once."""
    original = any_pb2.Any()
    original.Pack(reports_pb2.RenderReportRequest())

    with pytest.raises(InvalidArgument) as refused:
        payloads.edited(original, '{"title": 1, "titel": "x"}')

    assert {each.field for each in refused.value.violations} == {"title", "titel"}
