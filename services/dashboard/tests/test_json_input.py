import pytest
from chassis.errors import InvalidArgument
from dashboard_service import json_input
from google.longrunning import operations_pb2
from waybill.metrics.v1 import metrics_pb2
from waybill.notify.v1 import notify_pb2
from waybill.reports.v1 import reports_pb2


def violations(text, message):
    with pytest.raises(InvalidArgument) as refused:
        json_input.parse(text, message)
    return {each.field: each.description for each in refused.value.violations}


def test_a_request_is_read_with_names_in_either_case():
    """Protobuf JSON takes lowerCamelCase and the names of the contract."""
    text = (
        '{"templateId": "incident", "start_time": "2026-07-01T12:00:00Z", "sections": [{"chart": {"metric": "cpu"}}]}'
    )

    request = json_input.parse(text, reports_pb2.RenderReportRequest())

    assert (request.template_id, request.start_time.seconds) == ("incident", 1_782_907_200)
    assert request.sections[0].chart.metric == "cpu"


def test_every_wrong_field_is_named_at_once():
    """Unknown fields, wrong types, bad enums and bad timestamps, deep inside as well as on top."""
    text = """{
        "title": 5, "nonsense": 1, "startTime": "yesterday", "format": "DOCX", "facts": {"a": 1},
        "options": {"priority": "URGENT", "maxAttempts": "many"},
        "sections": [{"chart": {"metrik": "cpu"}}, {"text": {"text": []}}, "x"]
    }"""

    found = violations(text, reports_pb2.RenderReportRequest())

    assert set(found) == {
        "title",
        "nonsense",
        "start_time",
        "format",
        "facts",
        "options.priority",
        "options.max_attempts",
        "sections[0].chart.metrik",
        "sections[1].text.text",
        "sections[2]",
    }
    assert "templateId" in found["nonsense"], "an unknown field is answered with the fields that there are"


@pytest.mark.parametrize("text", ["{", "[1]", '"text"', "nope", b"\xff\xfe"])
def test_what_is_no_json_object_is_one_violation(text):
    """A body that can not be read at all says so."""
    assert len(violations(text, metrics_pb2.IngestSamplesRequest())) == 1


def test_depth_without_end_is_refused():
    """A body that nests too deeply is an error of the client, not of the process."""
    assert violations('{"variables": ' + "[" * 100_000 + "]" * 100_000 + "}", notify_pb2.SendNotificationRequest())


def test_two_values_of_one_choice_are_refused():
    """What is only wrong in combination is refused too."""
    text = '{"sections": [{"chart": {}, "text": {}}]}'

    assert violations(text, reports_pb2.RenderReportRequest())


def test_an_empty_body_is_the_empty_request():
    """A request without fields needs no body."""
    assert json_input.parse(b"", reports_pb2.RunScheduleRequest()) == reports_pb2.RunScheduleRequest()


def test_null_is_absence():
    """As protobuf JSON says: null leaves a field unset."""
    assert json_input.parse('{"name": null}', operations_pb2.GetOperationRequest()).name == ""
