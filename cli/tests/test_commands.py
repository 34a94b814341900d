"""Every command speaks protobuf JSON with --json, and says by its exit code how things went."""

import json

import pytest
from click.testing import CliRunner
from google.protobuf import json_format
from waybill.reports.v1 import reports_pb2
from waybill_cli.__main__ import main
from waybill_client import contracts

# Whom `submit` can call: every service, and what all of them share.
SERVICES = contracts.services()
NAME = "operations/reports/01900000-0000-7000-8000-000000000001"


@pytest.fixture
def waybill(gateway):
    def run(*arguments, **options):
        return CliRunner().invoke(main, [*arguments, "--gateway", gateway.address], **options)

    return run


A_REPORT = {"template_id": "standard", "title": "Weekly", "facts": {"team": "sre"}}


def test_submit_sends_the_request_and_prints_the_operation(waybill, gateway):
    """JSON becomes the method's request by its descriptor; the name of what was accepted comes back."""
    result = waybill("submit", "reports", "render-report", json.dumps(A_REPORT))

    assert (result.exit_code, result.stdout) == (0, f"{NAME}  SUCCEEDED\n")
    (asked,) = gateway.asked
    assert asked.request_id
    assert asked == json_format.ParseDict(
        {**A_REPORT, "request_id": asked.request_id}, reports_pb2.RenderReportRequest()
    )


def test_submit_reads_standard_input(waybill, gateway):
    """`-` stands for a request that is piped in."""
    waybill("submit", "reports", "RenderReport", "-", input=json.dumps(A_REPORT))

    assert gateway.asked[0].title == "Weekly"


def test_submit_of_another_method_prints_its_answer(waybill):
    """Methods that accept no work answer as they are."""
    result = waybill("submit", "reports", "get-report", '{"report_id": "r7"}', "--json")

    assert json.loads(result.stdout) == {"report_id": "r7", "charts": 2}


def test_submit_names_every_field_that_does_not_fit(waybill, gateway):
    """Nothing is sent, and one run shows all that is wrong."""
    request = {"titel": "x", "sections": [{"chart": {"metric": 5}}], "options": {"priority": "URGENT"}}

    result = waybill("submit", "reports", "render-report", json.dumps(request))

    assert result.exit_code == 2
    assert "titel: unknown; RenderReportRequest has request_id" in result.stderr
    assert "sections[0].chart.metric:" in result.stderr
    assert "options.priority:" in result.stderr
    assert gateway.asked == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("nobody", "x"), f"there is no service 'nobody'; there are {', '.join(SERVICES)}\n"),
        (("reports", "x"), "reports has no method 'x'; it has render-report, get-report"),
        (("reports", "render-report", "{"), "not JSON:"),
        (("reports", "render-report", "[]"), "the request: expected an object"),
    ],
)
def test_a_wrong_call_says_what_there_is(waybill, arguments, message):
    """Exit code 2, and the names one may use."""
    result = waybill("submit", *arguments)

    assert result.exit_code == 2
    assert message in result.stderr


def test_a_refusal_shows_every_violation(waybill):
    """What the gateway says in BadRequest reaches the person, field by field."""
    result = waybill("submit", "reports", "render-report", "{}")

    assert result.exit_code == 2
    assert "  title: is required\n  sections: there are 0" in result.stderr


@pytest.mark.parametrize(
    ("state", "code"), [("SUCCEEDED", 0), ("FAILED", 10), ("CANCELLED", 11), ("EXPIRED", 12), ("RUNNING", 13)]
)
def test_the_exit_code_of_a_wait_is_how_it_ended(waybill, gateway, state, code):
    """A script needs no parsing to go on or to stop."""
    gateway.operation = gateway.an_operation(state)

    assert waybill("operations", "wait", NAME, "--timeout", "0.01").exit_code == code


def test_an_unknown_operation_is_not_found(waybill):
    """Exit code 3, with message and reason."""
    result = waybill("operations", "get", "operations/reports/nothing")

    assert result.exit_code == 3
    assert "NOT_FOUND: no such operation (OPERATION_NOT_FOUND)" in result.stderr


def test_an_operation_as_json_is_the_contracts_own_form(waybill):
    """Names of the contract, Any unpacked."""
    shown = json.loads(waybill("operations", "get", NAME, "--json").stdout)

    assert shown["name"] == NAME
    assert shown["metadata"]["state"] == "OPERATION_STATE_SUCCEEDED"
    assert shown["response"]["report"] == {"report_id": "r1"}


def test_cancel_shows_what_became_of_it(waybill):
    """The operation is asked for again after the cancellation."""
    assert waybill("operations", "cancel", NAME).stdout == f"{NAME}  CANCELLED\n"


@pytest.mark.parametrize(
    ("command", "key", "name"),
    [
        (("operations", "list"), "operations", NAME),
        (("queues",), "queues", "reports.default"),
        (("workers",), "workers", "reports@host:7"),
        (("dead-letters", "list"), "dead_letters", NAME),
    ],
)
def test_a_list_shows_what_it_could_get_and_names_what_it_could_not(waybill, command, key, name):
    """One service is down, one is not part of the stack: the first is named, and the exit code is 4."""
    as_json, as_table = waybill(*command, "--json"), waybill(*command, env={"COLUMNS": "200"})

    (only,) = json.loads(as_json.stdout)[key]
    assert name in {only.get("name"), only.get("operation")}
    assert name in as_table.stdout
    assert as_json.exit_code == as_table.exit_code == 4
    assert "metrics: UNAVAILABLE: metrics is not there" in as_json.stderr
    assert "try again in 2 s" in as_json.stderr
    assert "notify" not in as_json.stderr


def test_a_service_that_is_asked_for_and_not_there_is_an_error(waybill):
    """What one names oneself is not left out in silence."""
    result = waybill("queues", "--service", "notify")

    assert result.exit_code == 3
    assert "there is no service 'notify'" in result.stderr


def test_a_list_of_one_service_is_whole(waybill):
    """--service leaves the others unasked."""
    result = waybill("queues", "--service", "reports", "--json")

    assert result.exit_code == 0
    assert json.loads(result.stdout) == {"queues": [{"name": "reports.default", "depth": "3", "paused": True}]}


def test_replay_sends_an_edited_payload(waybill, gateway):
    """The payload is given with its type; the new operation's name is printed."""
    edited = {"@type": "type.googleapis.com/waybill.reports.v1.RenderReportRequest", "title": "Mended"}

    result = waybill("dead-letters", "replay", NAME, "--edited", json.dumps(edited), "--request-id", "once")

    sent = reports_pb2.RenderReportRequest()
    gateway.asked[0].edited_request.Unpack(sent)
    assert result.stdout == "operations/reports/replay\n"
    assert (gateway.asked[0].service, gateway.asked[0].request_id, sent.title) == ("reports", "once", "Mended")


def test_a_name_that_is_none_is_wrong_usage(waybill):
    """Exit code 2 before anything is sent."""
    result = waybill("dead-letters", "discard", "12345")

    assert result.exit_code == 2
    assert "expected operations/SERVICE/ID" in result.stderr


def test_watch_goes_on_after_a_broken_stream_from_its_cursor(waybill, gateway):
    """A gateway that restarts costs no event and repeats none; a lost cursor ends the watch."""
    gateway.streams = [[gateway.a_change("began")], [gateway.a_change("succeeded")]]

    result = waybill("watch", "--service", "reports", "--json")

    lines = [json.loads(line) for line in result.stdout.splitlines()]
    assert [line.get("kind") for line in lines] == ["began", "succeeded", None]
    assert lines[-1] == {"error": {"code": "OUT_OF_RANGE", "message": "no more", "reason": "OUT_OF_RANGE"}}
    assert [request.cursor for request in gateway.asked] == ["", "after began", "after succeeded"]
    assert result.exit_code == 1


def test_watch_of_one_operation_ends_with_it(waybill):
    """The exit code is that of the wait."""
    result = waybill("watch", NAME, "--json")

    assert result.exit_code == 0
    first, last = (json.loads(line) for line in result.stdout.splitlines())
    assert (first["kind"], first["state"], last["name"]) == ("snapshot", "SUCCEEDED", NAME)


def test_a_trace_is_asked_of_its_receiver(waybill, gateway):
    """An operation's trace is found by its name; a receiver that is not there is named, not the gateway."""
    result = waybill("trace", NAME, "--traces", "127.0.0.1:1")

    assert result.exit_code == 4
    assert result.stderr.startswith("127.0.0.1:1: UNAVAILABLE")
    assert gateway.asked[0].name == NAME


def test_no_gateway_is_unavailable(waybill):
    """Exit code 4 and the address that was tried."""
    result = CliRunner().invoke(main, ["operations", "get", NAME, "--gateway", "127.0.0.1:1"])

    assert result.exit_code == 4
    assert result.stderr.startswith("127.0.0.1:1: UNAVAILABLE")
