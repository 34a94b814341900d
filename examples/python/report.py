"""Hand a report to a gateway, wait for it, and follow its events: stock gRPC and the contracts, nothing else.

python examples/python/report.py 127.0.0.1:50051
WAYBILL_TLS_CA_FILE=ca.pem WAYBILL_TOKEN_FILE=ci.token python examples/python/report.py localhost:50051
"""

import os
import sys
import uuid
from pathlib import Path

import grpc
from google.longrunning import operations_pb2, operations_pb2_grpc
from google.rpc import error_details_pb2, status_pb2
from waybill.events.v1 import events_pb2, events_pb2_grpc
from waybill.reports.v1 import reports_pb2, reports_pb2_grpc

SERVICE_CONFIG = Path(__file__).parent.parent / "service_config.json"
TYPES = ["waybill.reports.operation.*"]


def main(address: str) -> None:
    """Run all of it against one gateway, any gateway."""
    # Calls that are UNAVAILABLE, as those of a gateway that is replaced, are sent again by gRPC itself.
    options = [("grpc.service_config", SERVICE_CONFIG.read_text()), ("grpc.max_reconnect_backoff_ms", 2000)]
    with channel_to(address, options) as channel:
        reports = reports_pb2_grpc.ReportsServiceStub(channel)
        events = events_pb2_grpc.EventServiceStub(channel)
        refused(reports)

        stream = events.Subscribe(events_pb2.SubscribeRequest(service="reports", types=TYPES))
        start = next(stream).cursor  # The first answer says where the stream begins.

        request = a_report(request_id=str(uuid.uuid4()))
        operation = reports.RenderReport(request, timeout=10)
        again = reports.RenderReport(request, timeout=10)
        print("accepted", operation.name)
        print("again", "the same" if again.name == operation.name else again.name)

        report = waited(channel, operation.name)
        print("succeeded", report.filename, report.size_bytes)
        print("followed", *followed(stream, operation.name))
        # Another stream, on any gateway, goes on behind the cursor that one has kept.
        resumed = events.Subscribe(events_pb2.SubscribeRequest(service="reports", types=TYPES, cursor=start))
        print("resumed", *followed(resumed, operation.name))


def channel_to(address: str, options: list[tuple[str, object]]) -> grpc.Channel:
    """With TLS and a token where the environment names an authority: WAYBILL_TLS_CA_FILE, WAYBILL_TOKEN_FILE."""
    authority = os.environ.get("WAYBILL_TLS_CA_FILE")
    if not authority:
        return grpc.insecure_channel(address, options)
    tls = grpc.ssl_channel_credentials(Path(authority).read_bytes())
    bearer = grpc.access_token_call_credentials(Path(os.environ["WAYBILL_TOKEN_FILE"]).read_text().strip())
    return grpc.secure_channel(address, grpc.composite_channel_credentials(tls, bearer), options)


def a_report(**fields: str) -> reports_pb2.RenderReportRequest:
    """A report of one section of text."""
    section = reports_pb2.Section(text=reports_pb2.TextSection(title="Status", text="All is well."))
    return reports_pb2.RenderReportRequest(template_id="standard", title="Status", sections=[section], **fields)


def refused(reports: reports_pb2_grpc.ReportsServiceStub) -> None:
    """Send what no gateway accepts, and read everything that is wrong with it."""
    try:
        reports.RenderReport(reports_pb2.RenderReportRequest(template_id="standard"), timeout=10)
    except grpc.RpcError as error:
        trailers = dict(error.trailing_metadata() or ())
        status = status_pb2.Status.FromString(trailers["grpc-status-details-bin"])
        info, bad = error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest()
        for detail in status.details:
            _ = detail.Unpack(info) or detail.Unpack(bad)
        print("refused", error.code().name, info.reason, *sorted(each.field for each in bad.field_violations))


def waited(channel: grpc.Channel, name: str) -> reports_pb2.Report:
    """The report, once its operation has succeeded. A wait that is cut short begins anew."""
    operations = operations_pb2_grpc.OperationsStub(channel)
    while True:
        operation = operations.WaitOperation(operations_pb2.WaitOperationRequest(name=name), timeout=60)
        if operation.done:
            break
    if operation.HasField("error"):
        raise SystemExit(f"{name}: {operation.error.message}")
    response = reports_pb2.RenderReportResponse()
    operation.response.Unpack(response)
    return response.report


def followed(stream: grpc.Call, name: str) -> list[str]:
    """What became of the operation, step by step, to its end."""
    steps = []
    for answer in stream:
        change = events_pb2.OperationChanged()
        if answer.event.data.Unpack(change) and change.operation == name:
            steps.append(answer.event.type.rpartition(".")[2])
            if steps[-1] in {"succeeded", "failed", "cancelled", "expired"}:
                break
    stream.cancel()
    return steps


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "127.0.0.1:50051")
