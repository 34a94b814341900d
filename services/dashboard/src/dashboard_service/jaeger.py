"""Traces as Jaeger keeps them, by the HTTP API v3 of its query service: OTLP as JSON, ids in hex."""

import base64
import json
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, cast

from chassis.errors import NotFound, Unavailable
from google.protobuf import json_format
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from waybill.traces.v1 import traces_pb2

from dashboard_service import otlp

_NOT_FOUND = 404
_ID_FIELDS = frozenset({"traceId", "spanId", "parentSpanId"})


@dataclass(frozen=True, slots=True)
class Jaeger:
    """The query service at this URL."""

    url: str
    timeout_seconds: float

    def spans(self, trace_id: str) -> list[traces_pb2.Span]:
        """All that it has of a trace, by start time; raises NotFound, or Unavailable where it gives no answer."""
        found = [span for part in self._parts(trace_id) for span in _read(part)]
        if not found:
            raise _missing(trace_id)
        return sorted(found, key=lambda span: span.start_time.ToNanoseconds())

    def _parts(self, trace_id: str) -> list[dict[str, Any]]:
        try:
            with urllib.request.urlopen(  # noqa: S310 (the setting takes http and https alone)
                f"{self.url}/api/v3/traces/{trace_id}", timeout=self.timeout_seconds
            ) as answer:
                return list(_documents(answer.read().decode()))
        except urllib.error.HTTPError as error:
            if error.code == _NOT_FOUND:
                raise _missing(trace_id) from error
            raise _out_of_reach(f"answers {error.code}") from error
        except (OSError, ValueError) as error:
            raise _out_of_reach(str(error)) from error


def _missing(trace_id: str) -> NotFound:
    return NotFound(f"Jaeger has nothing of trace {trace_id}", reason="TRACE_NOT_FOUND", domain="dashboard")


def _out_of_reach(why: str) -> Unavailable:
    return Unavailable(f"Jaeger gives no traces: {why}", reason="JAEGER_UNREACHABLE", domain="dashboard")


def _documents(text: str) -> Iterator[dict[str, Any]]:
    """A long trace may come as several documents, one after the other."""
    decoder, position = json.JSONDecoder(), 0
    while position < len(text.rstrip()):
        value, position = decoder.raw_decode(text, position)
        position += len(text[position:]) - len(text[position:].lstrip())
        yield value.get("result", {})


def _read(part: dict[str, Any]) -> Iterator[traces_pb2.Span]:
    """What OTLP would not take as a span is left out."""
    export = ExportTraceServiceRequest()
    try:
        json_format.ParseDict(_with_bytes(part), export, ignore_unknown_fields=True)
    except (json_format.ParseError, ValueError) as error:
        raise _out_of_reach(f"not OTLP: {error}") from error
    for received in otlp.read(export):
        if isinstance(received, otlp.Received):
            yield received.span


def _with_bytes(value: Any) -> Any:
    """Ids as protobuf's JSON mapping writes bytes, not as OTLP's does."""
    if isinstance(value, list):
        return [_with_bytes(each) for each in value]
    if not isinstance(value, dict):
        return value
    return {
        key: base64.b64encode(bytes.fromhex(cast("str", each))).decode() if key in _ID_FIELDS else _with_bytes(each)
        for key, each in value.items()
    }
