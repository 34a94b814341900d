"""Other services as notify meets them: reports over gRPC, and everybody's events."""

from datetime import UTC, datetime, timedelta

import grpc
import pytest
from chassis.errors import PermanentError, TransientError
from chassis.statuses import reason_of, rpc_status
from google.protobuf import any_pb2
from notify_service.clients import Reports, data_of
from waybill.events.v1 import events_pb2
from waybill.metrics.v1 import metrics_pb2
from waybill.reports.v1 import reports_pb2

PDF = bytes(range(256)) * 20
LIMIT = 1 << 20


@pytest.fixture
def client(reports):
    with grpc.insecure_channel(reports.address) as channel:
        yield Reports(channel)


def soon():
    return datetime.now(UTC) + timedelta(seconds=5)


def test_a_report_comes_whole_with_its_name_and_type(client, reports):
    reports.add("r1", PDF)

    file = client.file("r1", LIMIT, soon())

    assert (file.filename, file.media_type, file.content) == ("r1.pdf", "application/pdf", PDF)


def test_an_empty_report_is_a_file_too(client, reports):
    reports.add("r1", b"")

    assert client.file("r1", LIMIT, soon()).content == b""


@pytest.mark.parametrize(
    "given", [{"sha256": "0" * 64}, {"size_bytes": len(PDF) + 1}, {"size_bytes": len(PDF) - 1}, {"sha256": ""}]
)
def test_a_download_that_does_not_match_is_not_attached(client, reports, given):
    """Its size and its SHA-256 are those of the report, or another attempt is made."""
    reports.add("r1", PDF, **given)

    with pytest.raises(TransientError) as caught:
        client.file("r1", LIMIT, soon())

    assert caught.value.reason == "REPORT_CORRUPT"


def test_a_report_that_is_too_large_is_refused_before_its_download(client, reports):
    reports.add("r1", PDF)

    with pytest.raises(PermanentError, match=str(len(PDF))) as caught:
        client.file("r1", len(PDF) - 1, soon())

    assert caught.value.reason == "ATTACHMENT_TOO_LARGE"


def test_a_report_that_is_not_there_says_so(client):
    """As the reports service said it."""
    with pytest.raises(grpc.RpcError) as caught:
        client.file("r1", LIMIT, soon())

    assert reason_of(rpc_status(caught.value)) == "REPORT_NOT_FOUND"


def an_event(data):
    event = events_pb2.Event(id="e1", type="waybill.metrics.alert.fired")
    event.data.Pack(data)
    return event


def test_the_data_of_an_event_has_the_names_of_its_contract():
    """Unset fields are there, so that a template may print a zero; unset messages are not."""
    alert = metrics_pb2.Alert(display_name="CPU", labels={"host": "a"}, state=metrics_pb2.ALERT_STATE_FIRING)

    data = data_of(an_event(metrics_pb2.AlertFired(alert=alert)))

    assert data["alert"]["display_name"] == "CPU"
    assert data["alert"]["labels"] == {"host": "a"}
    assert data["alert"]["state"] == "ALERT_STATE_FIRING"
    assert data["alert"]["value"] == 0.0
    assert "fire_time" not in data["alert"]


@pytest.mark.parametrize(
    "data", [reports_pb2.ReportCompleted(report=reports_pb2.Report(report_id="r1")), events_pb2.OperationChanged()]
)
def test_the_data_of_every_service_is_known(data):
    """Found by the name of its type alone."""
    packed = data_of(an_event(data))

    assert set(packed) >= {field.name for field in data.DESCRIPTOR.fields if not field.has_presence}


@pytest.mark.parametrize(
    "data",
    [
        any_pb2.Any(),
        any_pb2.Any(type_url="type.googleapis.com/waybill.nobody.v1.Thing", value=b""),
        any_pb2.Any(type_url="type.googleapis.com/waybill.metrics.v1.NoSuchThing", value=b""),
        any_pb2.Any(type_url="type.googleapis.com/google.protobuf.Empty", value=b""),
        any_pb2.Any(type_url="type.googleapis.com/waybill.os.path.v1.Thing", value=b""),
        any_pb2.Any(type_url="type.googleapis.com/waybill.metrics.v1.AlertFired", value=b"\xff\xff"),
    ],
)
def test_data_of_an_unknown_type_is_none(data):
    """Or of a known one that cannot be read."""
    assert data_of(events_pb2.Event(id="e1", data=data)) is None
