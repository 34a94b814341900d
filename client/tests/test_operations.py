"""Work is handed over, waited for, listed and cancelled by handles that say what it is."""

from datetime import timedelta

import pytest
import waybill_client
from waybill_client import State

SOON = timedelta(seconds=30)


def test_the_result_is_the_response_message(client, work):
    """Typed as the task returned it; the handle is read on the way."""
    operation = client.submit(*work("sample.echo", word="hello"))

    assert operation.result(SOON)["word"] == "hello"
    assert (operation.state, operation.done) == (State.SUCCEEDED, True)
    assert operation.metadata.task == "sample.echo"
    assert [attempt.number for attempt in operation.metadata.attempts] == [1]


def test_work_that_failed_raises_what_the_task_said(client, work):
    """Code and reason of the last attempt, and the handle with its attempts."""
    operation = client.submit(*work("sample.fail"))

    with pytest.raises(waybill_client.OperationFailed) as raised:
        operation.result(SOON)

    assert raised.value.error.reason == "NEVER_WORKS"
    assert raised.value.error.domain == "sample"
    assert raised.value.operation.state is State.FAILED


def test_work_that_was_cancelled_has_no_result(client, work):
    """A running attempt is told; the wait ends with it."""
    operation = client.submit(*work("sample.hold", until=""))

    operation.cancel()

    with pytest.raises(waybill_client.OperationCancelled):
        operation.result(SOON)


def test_a_wait_that_is_over_says_so_and_the_work_goes_on(client, work, tmp_path):
    """ResultTimeout is a TimeoutError; a later wait has the result."""
    held = tmp_path / "let-go"
    operation = client.submit(*work("sample.hold", until=str(held)))

    with pytest.raises(TimeoutError) as raised:
        operation.result(timedelta(milliseconds=100))
    held.touch()

    assert isinstance(raised.value, waybill_client.ResultTimeout)
    assert not raised.value.operation.state.final or operation.done
    assert operation.result(SOON)["attempt"] == 1


def test_a_handle_by_name_is_read_when_it_is_asked_for(client, work):
    """Nothing is sent before; what is not there is NotFound, what is no name is InvalidArgument."""
    name = client.submit(*work("sample.echo", word="again")).name

    handle = client.operation(name)

    assert handle.state is State.UNSPECIFIED
    assert handle.result(SOON)["word"] == "again"
    with pytest.raises(waybill_client.NotFound) as raised:
        client.operations.get("operations/sample/01900000-0000-7000-8000-000000000001")
    assert raised.value.reason == "OPERATION_NOT_FOUND"
    with pytest.raises(waybill_client.InvalidArgument):
        client.operation("01900000")


def test_a_list_goes_through_its_pages(client, work):
    """Every operation that matches, once, newest first, however small the pages are."""
    names = [client.submit(*work("sample.bulk_echo", number=number)).name for number in range(7)]

    listed = [each.name for each in client.operations.list("sample", 'task = "sample.bulk_echo"', page_size=3)]

    assert listed == names[::-1]


def test_a_page_has_the_position_of_what_it_shows(client, work):
    """From its cursor on come the events of what was accepted later."""
    page = client.operations.page("sample", page_size=1)
    name = client.submit(*work("sample.echo")).name

    with client.events("sample", ["waybill.sample.operation.accepted"], cursor=page.cursor) as events:
        accepted = next(events).change

    assert (accepted.operation, accepted.kind, accepted.state) == (name, "accepted", State.QUEUED)


def test_an_operation_that_has_ended_can_be_forgotten(client, work):
    """It is not found afterwards."""
    operation = client.submit(*work("sample.echo")).wait(SOON)

    client.operations.delete(operation.name)

    with pytest.raises(waybill_client.NotFound):
        operation.refresh()


def test_a_filter_that_cannot_be_read_is_an_invalid_argument(client):
    """The violation names the field; the iteration raises it."""
    with pytest.raises(waybill_client.InvalidArgument) as raised:
        list(client.operations.list("sample", "colour = red"))

    assert [violation.field for violation in raised.value.violations] == ["filter"]


def test_an_address_without_a_gateway_is_unavailable_once_patience_is_over(work):
    """Calls say so at once; waiting tells of the outage and gives up when patience does."""
    heard = []
    nobody = waybill_client.connect("127.0.0.1:1", patience=timedelta(0), on_outage=heard.append)

    with nobody as client, pytest.raises(waybill_client.Unavailable):
        client.submit(*work("sample.echo"))
    with nobody, pytest.raises(waybill_client.Cancelled):
        client.submit(*work("sample.echo"))
    with waybill_client.connect("127.0.0.1:1", patience=timedelta(0), on_outage=heard.append) as client:
        operation = client.operation("operations/sample/x")
        with pytest.raises(waybill_client.Unavailable):
            operation.wait()

    assert [error.code.name for error in heard] == ["UNAVAILABLE"]
