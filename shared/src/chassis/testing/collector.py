"""An OTLP/gRPC receiver inside a test: the spans that processes export, as values to wait for."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Final, Self

import grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2 as otlp
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2_grpc
from opentelemetry.proto.common.v1.common_pb2 import KeyValue
from opentelemetry.proto.trace.v1 import trace_pb2

LOOPBACK: Final = "127.0.0.1"


@dataclass(frozen=True, slots=True)
class CollectedSpan:
    """One span as it arrived. Ids are lower-case hex; `parent_id` is empty for a root; times are Unix nanoseconds."""

    service: str
    name: str
    #: SERVER, CLIENT, PRODUCER, CONSUMER or INTERNAL.
    kind: str
    trace_id: str
    span_id: str
    parent_id: str
    start_ns: int
    end_ns: int
    attributes: Mapping[str, Any]
    #: The status message of a span with an error status; empty for the others.
    error: str
    #: (trace id, span id) of each.
    links: tuple[tuple[str, str], ...]

    @classmethod
    def read(cls, service: str, span: trace_pb2.Span) -> CollectedSpan:
        failed = span.status.code == trace_pb2.Status.STATUS_CODE_ERROR
        return cls(
            service=service,
            name=span.name,
            kind=trace_pb2.Span.SpanKind.Name(span.kind).removeprefix("SPAN_KIND_"),
            trace_id=span.trace_id.hex(),
            span_id=span.span_id.hex(),
            parent_id=span.parent_span_id.hex(),
            start_ns=span.start_time_unix_nano,
            end_ns=span.end_time_unix_nano,
            attributes=attributes_of(span.attributes),
            error=(span.status.message or "error") if failed else "",
            links=tuple((link.trace_id.hex(), link.span_id.hex()) for link in span.links),
        )


def attributes_of(pairs: Sequence[KeyValue]) -> dict[str, Any]:
    """Attributes with plain values; None for kinds that no span of ours has."""
    return {pair.key: getattr(pair.value, pair.value.WhichOneof("value") or "", None) for pair in pairs}


class SpanCollector(trace_service_pb2_grpc.TraceServiceServicer):
    """Receives spans on a free loopback port, from its start to its stop. Safe to ask from any thread."""

    def __init__(self) -> None:
        self._received: list[CollectedSpan] = []
        self._grown = threading.Condition()
        self._refusing: grpc.StatusCode | None = None
        self._refused = 0
        self._server: grpc.Server | None = None
        self.port = 0

    def start(self) -> Self:
        self._server = grpc.server(ThreadPoolExecutor(4), options=(("grpc.so_reuseport", 0),))
        trace_service_pb2_grpc.add_TraceServiceServicer_to_server(self, self._server)
        self.port = self._server.add_insecure_port(f"{LOOPBACK}:{self.port}")
        self._server.start()
        return self

    def stop(self) -> None:
        """Start again takes the same port; what was received stays."""
        if self._server is not None:
            self._server.stop(0).wait()
            self._server = None

    @property
    def endpoint(self) -> str:
        """The value of OTEL_EXPORTER_OTLP_ENDPOINT."""
        return f"http://{LOOPBACK}:{self.port}"

    @property
    def received(self) -> list[CollectedSpan]:
        """Everything that arrived, in order, repeats included: exporting is at least once."""
        with self._grown:
            return list(self._received)

    @property
    def spans(self) -> list[CollectedSpan]:
        """What arrived, each span once, by its ids."""
        return list({(span.trace_id, span.span_id): span for span in self.received}.values())

    def trace(self, trace_id: str) -> list[CollectedSpan]:
        """The spans of one trace so far, earliest first."""
        found = (span for span in self.spans if span.trace_id == trace_id)
        return sorted(found, key=lambda span: (span.start_ns, span.end_ns))

    def wait_for(self, predicate: Callable[[list[CollectedSpan]], bool], timeout: float = 20.0) -> list[CollectedSpan]:
        """All spans so far, once the predicate holds for them.

        Raises:
            TimeoutError: it has not held within `timeout` seconds; the message lists what has arrived.
        """
        until = time.monotonic() + timeout
        while True:
            seen, spans = len(self.received), self.spans
            if predicate(spans):
                return spans
            with self._grown:
                if not self._grown.wait_for(lambda: len(self._received) > seen, until - time.monotonic()):  # noqa: B023
                    raise TimeoutError(f"not among {len(spans)} spans after {timeout} s:\n{outline(spans)}")

    def wait_for_trace(
        self,
        trace_id: str,
        predicate: Callable[[list[CollectedSpan]], bool],
        timeout: float = 20.0,
    ) -> list[CollectedSpan]:
        """As `wait_for`, of one trace."""

        def of_trace(spans: list[CollectedSpan]) -> list[CollectedSpan]:
            return [span for span in spans if span.trace_id == trace_id]

        self.wait_for(lambda spans: predicate(of_trace(spans)), timeout)
        return self.trace(trace_id)

    def wait_for_refusals(self, count: int, timeout: float = 20.0) -> None:
        """Until so many exports have been refused. Raises TimeoutError."""
        with self._grown:
            if not self._grown.wait_for(lambda: self._refused >= count, timeout):
                raise TimeoutError(f"{self._refused} exports were refused after {timeout} s, not {count}")

    def refuse(self, code: grpc.StatusCode | None) -> None:
        """Answer every export with this code; None takes spans again."""
        self._refusing = code

    def Export(
        self, request: otlp.ExportTraceServiceRequest, context: grpc.ServicerContext
    ) -> otlp.ExportTraceServiceResponse:
        if self._refusing is not None:
            with self._grown:
                self._refused += 1
                self._grown.notify_all()
            context.abort(self._refusing, "the test refuses spans")
        arrived = [
            CollectedSpan.read(attributes_of(resource.resource.attributes).get("service.name", ""), span)
            for resource in request.resource_spans
            for scope in resource.scope_spans
            for span in scope.spans
        ]
        with self._grown:
            self._received.extend(arrived)
            self._grown.notify_all()
        return otlp.ExportTraceServiceResponse()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def outline(spans: Sequence[CollectedSpan]) -> str:
    """A line per span: what a failed wait shows."""
    return "\n".join(
        f"  {span.trace_id[:8]} {span.parent_id[:8] or '-':8} > {span.span_id[:8]} "
        f"{span.service}: {span.kind} {span.name}{' !' + span.error if span.error else ''}"
        for span in spans
    )
