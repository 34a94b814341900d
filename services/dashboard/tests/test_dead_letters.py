import re
from html import unescape

import pytest
from google.rpc import code_pb2
from waybill.operations.v1 import operations_pb2 as ops
from waybill.reports.v1 import reports_pb2

from services.dashboard.tests.fake_service import a_status
from services.dashboard.tests.forms import csrf


@pytest.fixture
def letter(fakes, reports):
    """A dead letter of reports."""

    def make():
        kept = reports.accept("reports.render_report", reports_pb2.RenderReportRequest(title="before"))
        reports.begin(kept)
        reports.fail(kept, a_status(code_pb2.INVALID_ARGUMENT, "no such template", "TEMPLATE_NOT_FOUND"))
        return kept

    return fakes.do(make)


def replayed(reports, original):
    return [each for each in reports.kept.values() if each.metadata.replayed_from.endswith(original.id)]


def title_of(kept):
    request = reports_pb2.RenderReportRequest()
    kept.metadata.request.Unpack(request)
    return request.title


def form_of(page):
    fields = dict(
        re.findall(r'<input type="hidden" name="([^"]+)" value="([^"]*)"', page.partition('class="replay"')[2])
    )
    fields["payload"] = unescape(re.search(r"<textarea[^>]*>(.*?)</textarea>", page, re.DOTALL).group(1))
    return fields


def test_dead_letters_are_grouped_by_how_they_failed(browser, letter):
    """A group names the task and the reason; its page lists its letters."""
    page = browser.get("/dead-letters").text
    group = unescape(re.search(r'href="(/dead-letters\?service=reports[^"]+)"', page).group(1))

    assert "TEMPLATE_NOT_FOUND" in page
    assert letter.id in browser.get(group).text


def test_a_dead_letter_is_replayed_as_it_is(browser, reports, letter):
    """Sent unedited, however often the button is pressed, it is one replay of the original."""
    form = form_of(browser.get(f"/dead-letters/reports/{letter.id}").text)

    answers = [browser.post(f"/dead-letters/reports/{letter.id}/replay", data=form) for _ in range(2)]

    (new,) = replayed(reports, letter)
    assert title_of(new) == "before"
    assert {answer.location for answer in answers} == {f"/operations/reports/{new.id}?notice=replayed"}


def test_a_dead_letter_is_replayed_with_an_edited_payload(browser, reports, letter):
    """The new operation runs what was written."""
    form = form_of(browser.get(f"/dead-letters/reports/{letter.id}").text)
    form["payload"] = form["payload"].replace("before", "after")

    browser.post(f"/dead-letters/reports/{letter.id}/replay", data=form)

    (new,) = replayed(reports, letter)
    assert title_of(new) == "after"


def test_a_bad_edit_is_told_in_full_and_replays_nothing(browser, reports, letter):
    """Every violation is shown at once."""
    form = form_of(browser.get(f"/dead-letters/reports/{letter.id}").text)
    form["payload"] = '{"titel": "x", "format": "DOCX"}'

    answer = browser.post(
        f"/dead-letters/reports/{letter.id}/replay", data=form, headers={"Accept": "application/json"}
    )

    assert {each["field"] for each in answer.json["violations"]} == {"titel", "format"}
    assert replayed(reports, letter) == []


def test_a_dead_letter_is_discarded(browser, reports, letter):
    """It leaves the list; its operation stays failed."""
    token = {"csrf_token": csrf(browser, f"/dead-letters/reports/{letter.id}")}

    browser.post(f"/dead-letters/reports/{letter.id}/discard", data=token)

    assert reports.dead_letters() == []
    assert letter.metadata.state == ops.OPERATION_STATE_FAILED


def test_dead_letters_are_filtered(fakes, browser, reports, letter):
    """The text of the error, say, tells those that matter from the rest."""
    other = fakes.do(reports.accept, "reports.render_report")
    fakes.do(reports.begin, other)
    fakes.do(reports.fail, other, a_status(code_pb2.UNAVAILABLE, "connection refused", "UNAVAILABLE"))

    page = browser.get('/dead-letters?filter=error:"refused"').text

    rows = re.findall(r'<li data-key="operations/reports/([^"]+)"', page)
    assert rows == [other.id]


def test_a_bad_filter_of_dead_letters_is_told_at_its_field(browser, letter):
    """The page is there, with what is wrong, and says of no service that it is missing."""
    page = unescape(browser.get("/dead-letters?filter=colour=red").text)

    assert "'colour' is not a field of operations" in page
    assert "did not answer" not in page
