"""What operators steer, one by one or all that match, as admin.proto has it."""

import json

import pytest
from click.testing import CliRunner
from waybill.admin.v1 import admin_pb2
from waybill.reports.v1 import reports_pb2
from waybill_cli.__main__ import main

NAME = "operations/reports/01900000-0000-7000-8000-000000000001"
WORKER = "reports@host:7"


@pytest.fixture
def waybill(gateway):
    def run(*arguments, **options):
        return CliRunner().invoke(main, [*arguments, "--gateway", gateway.address], **options)

    return run


@pytest.mark.parametrize(
    ("arguments", "request_", "text"),
    [
        (
            ("queues", "pause", "reports.bulk"),
            admin_pb2.PauseQueueRequest(service="reports", queue="reports.bulk"),
            "reports.bulk is paused, 3 waiting",
        ),
        (
            ("queues", "resume", "reports.bulk"),
            admin_pb2.ResumeQueueRequest(service="reports", queue="reports.bulk"),
            "reports.bulk is running, 3 waiting",
        ),
        (
            ("queues", "purge", "reports.bulk", "--yes"),
            admin_pb2.PurgeQueueRequest(service="reports", queue="reports.bulk"),
            "3 operations of reports.bulk are CANCELLED",
        ),
        (
            ("workers", "set-concurrency", WORKER, "4"),
            admin_pb2.SetConcurrencyRequest(service="reports", worker=WORKER, concurrency=4),
            f"{WORKER} has a concurrency of 4",
        ),
        (
            ("workers", "drain", WORKER),
            admin_pb2.DrainWorkerRequest(service="reports", worker=WORKER),
            f"{WORKER} drains, 1 running",
        ),
    ],
)
def test_queues_and_workers_are_steered_by_their_names(waybill, gateway, arguments, request_, text):
    """The name says whose it is; what became of it is told, as JSON too."""
    as_text, as_json = waybill(*arguments), waybill(*arguments, "--json")

    assert (as_text.exit_code, as_text.stdout) == (0, f"{text}\n")
    assert gateway.asked[0] == request_
    assert isinstance(json.loads(as_json.stdout), dict)


def test_a_purge_asks_first(waybill, gateway):
    """Nothing is cancelled by a word too few."""
    result = waybill("queues", "purge", "reports.bulk", input="n\n")

    assert result.exit_code == 1
    assert gateway.asked == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("queues", "pause", "bulk"), "expected SERVICE.QUEUE"),
        (("workers", "drain", "host:7"), "expected SERVICE@HOST:PID"),
        (("operations", "cancel"), "name one operation, or choose many"),
        (("operations", "cancel", NAME, "--state", "QUEUED"), "name one operation, or choose many"),
        (("operations", "stats", "--since", "soon"), "expected a number with s, m, h or d"),
        (("dead-letters", "replay"), "name one OPERATION, or choose many"),
        (("dead-letters", "discard", NAME, "--all"), "name one OPERATION, or choose many"),
        (("dead-letters", "replay", "--all", "--edited", "{}"), "are for one"),
        (("dead-letters", "replay", NAME, "--rate", "2"), "--rate is for many"),
    ],
)
def test_what_cannot_be_meant_is_wrong_usage(waybill, gateway, arguments, message):
    """Exit code 2 before anything is sent."""
    result = waybill(*arguments)

    assert result.exit_code == 2
    assert message in result.stderr
    assert gateway.asked == []


def test_all_that_match_a_filter_are_cancelled(waybill, gateway):
    """A state is short for a filter; more than the limit is said."""
    result = waybill(
        "operations",
        "cancel",
        "--state",
        "queued",
        "--filter",
        "labels.team = sre",
        "--service",
        "reports",
        "--limit",
        "4",
    )

    wanted = "state = QUEUED AND labels.team = sre"
    assert gateway.asked == [admin_pb2.CancelOperationsRequest(service="reports", filter=wanted, limit=4)]
    assert result.stdout == "4 cancelled, more match\n"


def test_a_service_that_is_down_is_named_in_the_json_too(waybill):
    """A script sees from one document what was done and what was not."""
    result = waybill("operations", "cancel", "--filter", "task = x", "--json")

    told = json.loads(result.stdout)
    assert result.exit_code == 4
    assert (told["cancelled"], told["more"]) == (4, True)
    assert told["unavailable"]["metrics"]["code"] == "UNAVAILABLE"
    assert told["unavailable"]["metrics"]["retry_after_seconds"] == 2


def test_a_refusal_is_json_with_json(waybill):
    """Standard output holds the error with reason and violations, standard error its text."""
    result = waybill("submit", "reports", "render-report", "{}", "--json")

    told = json.loads(result.stdout)["error"]
    assert (told["code"], told["reason"]) == ("INVALID_ARGUMENT", "INVALID_REQUEST")
    assert told["violations"][0] == {"field": "title", "description": "is required"}
    assert "title: is required" in result.stderr


def test_stats_are_asked_for_a_stretch_of_time(waybill, gateway):
    """From so long ago to now, by steps; one row for each step, task and state."""
    result = waybill("operations", "stats", "--since", "2h", "--step", "5m", "--service", "reports")

    (asked,) = gateway.asked
    assert asked.end_time.seconds - asked.start_time.seconds == 7_200
    assert asked.step.seconds == 300
    row = result.stdout.splitlines()[1].split()
    assert row[2:6] == ["reports.render_report", "FAILED", "2", "9"]
    assert result.stdout.rstrip().endswith("1.5 s")


def test_a_field_of_one_dead_letter_is_changed(waybill, gateway):
    """The original's payload, with these fields in the place of its own."""
    assignments = ("--set", "title=Mended", "--set", 'facts={"b": "2"}')

    result = waybill("dead-letters", "replay", NAME, *assignments)

    (asked,) = gateway.asked
    edited = reports_pb2.RenderReportRequest()
    asked.edited_request.Unpack(edited)
    assert (edited.template_id, edited.title, dict(edited.facts)) == ("standard", "Mended", {"b": "2"})
    assert asked.request_id
    assert result.stdout == "operations/reports/replay\n"


def test_all_dead_letters_that_match_are_replayed_with_a_change_at_a_rate(waybill, gateway):
    """The patch has the payload's type and nothing but the changed fields."""
    chosen = ("--filter", "task = reports.render_report", "--service", "reports", "--limit", "7", "--rate", "50")

    result = waybill("dead-letters", "replay", *chosen, "--set", "title=Mended")

    (asked,) = gateway.asked
    patch = reports_pb2.RenderReportRequest()
    asked.payload_patch.Unpack(patch)
    assert patch == reports_pb2.RenderReportRequest(title="Mended")
    assert (asked.filter, asked.limit, asked.rate) == ("task = reports.render_report", 7, 50)
    assert result.stdout.split() == ["operations/reports/replay-0", "operations/reports/replay-1"]
    assert "2 replayed" in result.stderr


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ("titel=x", "titel: unknown; RenderReportRequest has"),
        ("title", "expected field=value"),
        ("options.max_attempts=many", "options.max_attempts:"),
        ("title=", "title: a patch cannot set a field to its default"),
    ],
)
def test_a_change_that_does_not_fit_is_not_sent(waybill, gateway, assignment, message):
    """Exit code 2, and the field by name."""
    result = waybill("dead-letters", "replay", "--all", "--service", "reports", "--set", assignment)

    assert result.exit_code == 2
    assert message in result.stderr
    assert gateway.asked == []


def test_all_dead_letters_of_a_group_are_discarded(waybill, gateway):
    """How many is told."""
    result = waybill("dead-letters", "discard", "--group", "g", "--service", "reports", "--json")

    assert gateway.asked == [admin_pb2.DiscardDeadLettersRequest(service="reports", group="g", limit=1_000)]
    assert json.loads(result.stdout) == {"discarded": 5}


def test_dead_letters_come_with_their_groups(waybill):
    """What failed alike is counted."""
    told = json.loads(waybill("dead-letters", "--service", "reports", "--json").stdout)

    assert told["groups"] == [{"group": "reports.render_report/NO_METRIC", "count": "1"}]
