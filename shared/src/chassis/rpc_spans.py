"""Spans of RPCs, at both ends."""

from __future__ import annotations

from typing import Final

import grpc

from chassis import telemetry
from chassis.telemetry import Span, SpanContext

TRACE_KEY: Final = "traceparent"

# Where the caller sets none and the answer is one message.
DEFAULT_DEADLINE_SECONDS: Final = 10.0

# Codes that are the server's fault (OpenTelemetry, semantic conventions for gRPC).
SERVER_ERRORS: Final = frozenset(
    {
        grpc.StatusCode.UNKNOWN,
        grpc.StatusCode.DEADLINE_EXCEEDED,
        grpc.StatusCode.UNIMPLEMENTED,
        grpc.StatusCode.INTERNAL,
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.DATA_LOSS,
    }
)


def rpc_span(
    method: str, kind: int, context: SpanContext, parent_span_id: bytes, start_us: int, code: grpc.StatusCode
) -> Span:
    """The span of an RPC that ends now; an error where OpenTelemetry's conventions say so."""
    service, _, name = method.partition("/")
    failed = code in SERVER_ERRORS if kind == telemetry.SERVER else code is not grpc.StatusCode.OK
    attributes: dict[str, telemetry.Attribute] = {
        "rpc.system": "grpc",
        "rpc.service": service,
        "rpc.method": name,
        "rpc.grpc.status_code": code.value[0],
    }
    if failed:
        attributes["error.type"] = code.name
    error = code.name if failed else ""
    return Span(method, kind, context, parent_span_id, start_us, telemetry.now_us(), attributes, error)
