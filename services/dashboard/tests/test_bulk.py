import re
from html import unescape

import pytest
from google.rpc import code_pb2
from waybill.operations.v1 import operations_pb2 as ops
from waybill.reports.v1 import reports_pb2

from services.dashboard.tests.fake_service import a_status
from services.dashboard.tests.forms import csrf

JSON = {"Accept": "application/json"}
GROUP = "reports.render_report TEMPLATE_NOT_FOUND"


@pytest.fixture
def send(browser):
    """Send the form of many as a page's script does: asked first, then confirmed."""
    token = csrf(browser)

    def post(confirmed=True, **fields):
        form = {"csrf_token": token, "form_id": "one", **fields}
        if confirmed:
            form["confirmed"] = "1"
        return browser.post("/bulk", data=form, headers=JSON)

    return post


def accept(fakes, count, service="reports", task="reports.render_report", **given):
    return [fakes.do(fakes[service].service.accept, task, **given) for _ in range(count)]


def fail(fakes, count, title="before", reason="TEMPLATE_NOT_FOUND", **given):
    reports, failed = fakes["reports"].service, []
    for _ in range(count):
        request = reports_pb2.RenderReportRequest(title=title, template_id="old")
        kept = fakes.do(reports.accept, "reports.render_report", request, **given)
        fakes.do(reports.begin, kept)
        fakes.do(reports.fail, kept, a_status(code_pb2.INVALID_ARGUMENT, "no such template", reason))
        failed.append(kept)
    return failed


def names(kept, service="reports"):
    return [f"operations/{service}/{each.id}" for each in kept]


def replays(reports):
    return [each for each in reports.kept.values() if each.metadata.replayed_from]


def cancelled(kept):
    return [each.metadata.state == ops.OPERATION_STATE_CANCELLED for each in kept]


def test_the_question_says_how_many(fakes, send):
    """Nothing is done before it is answered, and what has ended does not count."""
    kept = accept(fakes, 3)
    fakes.do(fakes["reports"].service.cancel, kept[0])

    asked = send(confirmed=False, action="cancel", all="1", service="reports")

    assert asked.json["count"] == 2
    assert asked.json["question"].startswith("Cancel 2 operations of reports?")
    assert cancelled(kept) == [True, False, False]


def test_without_scripts_a_page_asks(fakes, browser, reports):
    """The page carries the form's fields on to the answer."""
    kept = accept(fakes, 2)
    form = {"csrf_token": csrf(browser), "action": "cancel", "operation": names(kept[:1])}

    page = browser.post("/bulk", data=form).text
    fields = dict(re.findall(r'<input type="hidden" name="([^"]+)" value="([^"]*)"', page))
    done = browser.post("/bulk", data=fields, follow_redirects=True)

    assert "Cancel 1 operation?" in page
    assert cancelled(kept) == [True, False]
    assert "1 cancelled" in done.text


def test_what_is_chosen_is_cancelled(fakes, send):
    """Those and no others, of whatever service."""
    mine, other = accept(fakes, 2), accept(fakes, 1, "metrics", "metrics.apply_samples")

    answer = send(action="cancel", operation=[*names(mine[:1]), *names(other, "metrics")])

    assert cancelled([*mine, *other]) == [True, False, True]
    assert answer.json["notice"].startswith("2 cancelled")


def test_all_that_match_are_cancelled(fakes, send):
    """Service, state and filter of the page hold together."""
    wanted = accept(fakes, 3, labels={"team": "sre"})
    others = accept(fakes, 2, labels={"team": "growth"})

    send(action="cancel", all="1", service="reports", state="QUEUED", filter="labels.team=sre")

    assert cancelled(wanted) == [True] * 3
    assert cancelled(others) == [False] * 2


def test_all_of_every_service_are_cancelled(fakes, send):
    """With no filter at all, that is what "all" means."""
    kept = [*accept(fakes, 1), *accept(fakes, 2, "notify", "notify.deliver_mail")]

    answer = send(action="cancel", all="1")

    assert cancelled(kept) == [True] * 3
    assert answer.json["notice"].startswith("3 cancelled")


def test_more_than_a_call_takes_are_cancelled(fakes, send):
    """A service that says that more match is asked again."""
    kept = accept(fakes, 1_100)

    answer = send(action="cancel", all="1", service="reports")

    assert all(cancelled(kept))
    assert answer.json["notice"].startswith("1,100 cancelled")


def test_one_that_is_refused_stops_none_of_the_others(fakes, send):
    """The answer says how many were done, and of each that was not, why."""
    kept = accept(fakes, 1)

    answer = send(action="cancel", operation=["operations/reports/gone", *names(kept)])

    assert cancelled(kept) == [True]
    assert answer.json["notice"].startswith("1 cancelled")
    assert answer.json["refused"] == ["reports gone: operations/reports/gone does not exist"]


def test_chosen_dead_letters_are_replayed_once_by_a_form(fakes, send, reports):
    """However often the form is sent."""
    failed = fail(fakes, 2)

    for _ in range(2):
        send(action="replay", operation=names(failed))

    assert len(replays(reports)) == 2


def test_all_of_a_group_are_replayed_at_a_rate(fakes, send, reports):
    """Those that have not been replayed yet; the rate is passed on with each call."""
    fail(fakes, 7)
    fail(fakes, 1, reason="OTHER")

    asked = send(confirmed=False, action="replay", all="1", service="reports", group=GROUP, rate="1000000")
    for _ in range(2):
        send(action="replay", all="1", service="reports", group=GROUP, rate="1000000")

    assert asked.json["question"].startswith(f"Replay 7 dead letters of reports that failed as {GROUP} at 1e+06 per")
    assert len(replays(reports)) == 7
    assert {each.rate for each in fakes["reports"].received} == {1_000_000}


def test_a_slow_rate_is_spread_over_calls(fakes, send, reports):
    """Each call takes a few seconds' worth, and together they take the limit and no more."""
    fail(fakes, 12)

    send(action="replay", all="1", service="reports", rate="1", limit="11")

    assert [each.limit for each in fakes["reports"].received] == [5, 5, 1]
    assert len(replays(reports)) == 11


def test_all_that_match_are_replayed_with_changed_payloads(fakes, send, reports):
    """Fields that the patch sets replace the original's; the rest stays."""
    fail(fakes, 2)

    send(action="replay", all="1", service="reports", filter='error:"no such"', patch='{"templateId": "standard"}')

    payloads = []
    for each in replays(reports):
        request = reports_pb2.RenderReportRequest()
        each.metadata.request.Unpack(request)
        payloads.append((request.template_id, request.title))
    assert payloads == [("standard", "before")] * 2


def test_a_bad_patch_is_told_in_full_and_replays_nothing(fakes, send, reports):
    """Every violation is found before anything is asked."""
    fail(fakes, 1)

    answer = send(
        confirmed=False, action="replay", all="1", service="reports", patch='{"titel": "x", "format": "DOCX"}'
    )

    assert {each["field"] for each in answer.json["violations"]} == {"titel", "format"}
    assert replays(reports) == []


def test_all_that_match_are_discarded(fakes, send, reports):
    """The others stay."""
    fail(fakes, 2)
    (other,) = fail(fakes, 1, reason="OTHER")

    asked = send(confirmed=False, action="discard", all="1", service="reports", group=GROUP)
    send(action="discard", all="1", service="reports", group=GROUP)

    assert asked.json["count"] == 2
    assert reports.dead_letters() == [other]


def test_there_being_nothing_to_do_is_said(send):
    """No question about nothing."""
    answer = send(confirmed=False, action="discard", all="1", service="reports")

    assert answer.status_code == 400
    assert answer.json["violations"][0]["description"] == "there is no dead letter to discard"


def test_everything_that_is_wrong_with_the_form_is_told_at_once(send):
    """Action, names, state, limit and rate are checked together."""
    answer = send(action="explode", operation="nonsense", state="BUSY", limit="many", rate="nan")

    fields = [each["field"] for each in answer.json["violations"]]
    assert fields == ["action", "operation", "state", "limit", "rate"]


def test_a_bad_filter_is_told_in_the_services_words(fakes, send):
    """What a service says of the filter reaches whoever wrote it."""
    accept(fakes, 1)

    answer = send(confirmed=False, action="cancel", all="1", filter="colour=red")

    assert answer.json["violations"][0]["field"] == "filter"


def test_the_operations_page_carries_its_filter_into_the_form(browser):
    """What all that match are is what the page shows."""
    page = unescape(browser.get("/operations?service=reports&state=FAILED&filter=labels.team%3Dsre").text)
    form = page[page.index('<form id="bulk"') :].partition("</form>")[0]

    for name, value in (("service", "reports"), ("state", "FAILED"), ("filter", "labels.team=sre")):
        assert f'name="{name}" value="{value}"' in form
