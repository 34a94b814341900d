"""Other services' contracts: reports, asked over gRPC, and the data of everybody's events."""

from __future__ import annotations

import hashlib
import importlib
import re
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import grpc
from chassis.errors import PermanentError, TransientError
from google.protobuf import descriptor_pool, json_format, message_factory
from google.protobuf.message import DecodeError
from waybill.events.v1 import events_pb2
from waybill.reports.v1 import reports_pb2, reports_pb2_grpc

from notify_service.messages import File

_MAX_CALL: Final = timedelta(seconds=10)
_MAX_DOWNLOAD: Final = timedelta(seconds=45)
_TYPE: Final = re.compile(r"waybill\.([a-z][a-z0-9_]*)\.v1\.[A-Za-z0-9_.]+")


class Reports:
    """What notify asks of the reports service. No call outlasts `deadline`."""

    def __init__(self, channel: grpc.Channel) -> None:
        self._stub = reports_pb2_grpc.ReportsServiceStub(channel)

    def file(self, report_id: str, limit_bytes: int, deadline: datetime) -> File:
        """A report, verified. Raises PermanentError for one that is too large, TransientError for a broken download."""
        report = self._stub.GetReport(
            reports_pb2.GetReportRequest(report_id=report_id), timeout=_left(deadline, _MAX_CALL)
        )
        if report.size_bytes > limit_bytes:
            raise PermanentError(
                f"report {report_id} has {report.size_bytes} bytes; {limit_bytes} are left of what a mail may carry",
                reason="ATTACHMENT_TOO_LARGE",
            )
        content = self._download(report, _left(deadline, _MAX_DOWNLOAD))
        return File(report.filename or report_id, report.media_type, content)

    def _download(self, report: reports_pb2.Report, timeout: float) -> bytes:
        request = reports_pb2.DownloadReportRequest(report_id=report.report_id)
        content = bytearray()
        for part in self._stub.DownloadReport(request, timeout=timeout):
            content += part.chunk
            if len(content) > report.size_bytes:
                break
        if len(content) != report.size_bytes or hashlib.sha256(content).hexdigest() != report.sha256:
            raise TransientError(
                f"the download of report {report.report_id} does not match its size and SHA-256",
                reason="REPORT_CORRUPT",
            )
        return bytes(content)


def data_of(event: events_pb2.Event) -> dict[str, Any] | None:
    """An event's data in protobuf JSON, its fields named as in the contract, unset ones included.

    Fields with presence (messages, `optional`, oneofs) are missing when unset. None: of no type known here.
    """
    name = event.data.TypeName()
    try:
        data = _message_class(name).FromString(event.data.value)
        return json_format.MessageToDict(
            data, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
        )
    except (LookupError, ImportError, DecodeError, TypeError, ValueError, json_format.Error):
        return None


def _message_class(name: str) -> Any:
    """Contracts are found by the service in the type's name. Raises LookupError or ImportError for unknown ones."""
    known = _TYPE.fullmatch(name)
    if known is None:
        raise LookupError(name)
    importlib.import_module(f"waybill.{known[1]}.v1.{known[1]}_pb2")
    return message_factory.GetMessageClass(descriptor_pool.Default().FindMessageTypeByName(name))


def _left(deadline: datetime, limit: timedelta) -> float:
    return max(0.05, min(limit, deadline - datetime.now(UTC)).total_seconds())
