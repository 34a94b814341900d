"""Spans in OTLP's wire form, written directly.

A gateway exports three spans and more for each operation. Building them as protobuf messages would be most of what an
operation costs it, so the few fields that are used are put together here: field numbers and types are those of
opentelemetry/proto/trace/v1/trace.proto and common/v1/common.proto, the form is protobuf's (varints, length-delimited).
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Final

from chassis.telemetry import Attribute, Span

#: Attributes with few values: their bytes are kept.
_FEW_VALUES: Final = frozenset(
    {
        "messaging.system",
        "messaging.operation.name",
        "messaging.operation.type",
        "messaging.destination.name",
        "rpc.system",
        "rpc.service",
        "rpc.method",
        "rpc.grpc.status_code",
        "waybill.task",
        "waybill.state",
        "waybill.attempt",
        "waybill.outcome",
        "waybill.worker",
    }
)
_SCOPE_NAME: Final = b"waybill"
_STATUS_ERROR: Final = b"\x18\x02"
_ONE_BYTE: Final = 0x80
_NANOSECONDS: Final = struct.Struct("<BQBQ")
_START_TAG: Final = 7 << 3 | 1
_END_TAG: Final = 8 << 3 | 1


def span_bytes(span: Span) -> bytes:
    """A `opentelemetry.proto.trace.v1.Span`."""
    start = span.start_us * 1000
    # Jaeger takes a span without length for one with negative length.
    end = max(span.end_us, span.start_us + 1) * 1000
    parts = [
        b"\x0a\x10",
        span.context.trace_id,
        b"\x12\x08",
        span.context.span_id,
        _field(4, span.parent_span_id) if span.parent_span_id else b"",
        _name(span.name),
        bytes((6 << 3, span.kind)),
        _NANOSECONDS.pack(_START_TAG, start, _END_TAG, end),
        *(
            _kept_attribute(key, value) if key in _FEW_VALUES else _attribute(key, value)
            for key, value in span.attributes.items()
        ),
    ]
    parts += [_field(13, _field(1, link.trace_id) + _field(2, link.span_id)) for link in span.links]
    if span.error:
        parts.append(_field(15, _field(2, span.error.encode()) + _STATUS_ERROR))
    return b"".join(parts)


def export_request(resource: Mapping[str, Attribute], spans: Iterable[bytes]) -> bytes:
    """An `ExportTraceServiceRequest` with all of the spans under one resource."""
    described = b"".join(_field(1, _key_value(key, value)) for key, value in resource.items())
    scope = _field(1, _field(1, _SCOPE_NAME))
    scope_spans = scope + b"".join(_field(2, span) for span in spans)
    return _field(1, _field(1, described) + _field(2, scope_spans))


@lru_cache(maxsize=1024)
def _name(name: str) -> bytes:
    return _field(5, name.encode())


@lru_cache(maxsize=4096, typed=True)
def _kept_attribute(key: str, value: Attribute) -> bytes:
    return _attribute(key, value)


def _attribute(key: str, value: Attribute) -> bytes:
    return _field(9, _key_value(key, value))


def _key_value(key: str, value: Attribute) -> bytes:
    return _key(key) + _field(2, _any_value(value))


@lru_cache(maxsize=1024)
def _key(key: str) -> bytes:
    return _field(1, key.encode())


def _any_value(value: Attribute) -> bytes:
    if isinstance(value, str):
        return _field(1, value.encode())
    if isinstance(value, bool):
        return bytes((2 << 3, value))
    if isinstance(value, int):
        return b"\x18" + _varint(value & (1 << 64) - 1)
    return b"\x21" + struct.pack("<d", value)


def _field(number: int, content: bytes) -> bytes:
    """A length-delimited field; numbers up to 15 take one byte."""
    length = len(content)
    if length < _ONE_BYTE:
        return bytes((number << 3 | 2, length)) + content
    return bytes((number << 3 | 2,)) + _varint(length) + content


def _varint(value: int) -> bytes:
    written = bytearray()
    while value >= _ONE_BYTE:
        written.append(value & 0x7F | _ONE_BYTE)
        value >>= 7
    written.append(value)
    return bytes(written)
