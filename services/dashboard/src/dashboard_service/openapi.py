"""The HTTP API as an OpenAPI 3.1 document, generated from the contracts' descriptors. Pure.

Messages become schemas as the protobuf JSON mapping writes them: names in lowerCamelCase, 64-bit integers as text,
bytes in base64, enums by name. What a message refuses beyond its types is in the text of the contract, not here.
"""

from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import version
from typing import Any, Final

from google.longrunning import operations_pb2
from google.protobuf.descriptor import Descriptor, EnumDescriptor, FieldDescriptor, MethodDescriptor
from waybill.operations.v1 import operations_pb2 as waybill_pb2

from dashboard_service import contracts
from dashboard_service.problems import HTTP_STATUS

VERSION: Final = "3.1.0"
_JSON: Final = "application/json"
_FAILURES: Final = sorted({status for status in HTTP_STATUS.values() if status >= 400})  # noqa: PLR2004 (RFC 9110)
_PROBLEM: Final = "application/problem+json"

Schema = dict[str, Any]

_TEXT: Final[Schema] = {"type": "string"}
_LONG: Final[Schema] = {"type": ["string", "integer"], "format": "int64"}
_NUMBER: Final[Schema] = {"type": ["number", "string"], "format": "double"}
_SCALARS: Final[Mapping[int, Schema]] = {
    FieldDescriptor.TYPE_DOUBLE: _NUMBER,
    FieldDescriptor.TYPE_FLOAT: _NUMBER,
    FieldDescriptor.TYPE_BOOL: {"type": "boolean"},
    FieldDescriptor.TYPE_STRING: _TEXT,
    FieldDescriptor.TYPE_BYTES: {"type": "string", "contentEncoding": "base64"},
    FieldDescriptor.TYPE_INT32: {"type": "integer", "format": "int32"},
    FieldDescriptor.TYPE_SINT32: {"type": "integer", "format": "int32"},
    FieldDescriptor.TYPE_SFIXED32: {"type": "integer", "format": "int32"},
    FieldDescriptor.TYPE_UINT32: {"type": "integer", "minimum": 0},
    FieldDescriptor.TYPE_FIXED32: {"type": "integer", "minimum": 0},
    FieldDescriptor.TYPE_INT64: _LONG,
    FieldDescriptor.TYPE_SINT64: _LONG,
    FieldDescriptor.TYPE_SFIXED64: _LONG,
    FieldDescriptor.TYPE_UINT64: _LONG,
    FieldDescriptor.TYPE_FIXED64: _LONG,
}
_ANY: Final[Schema] = {
    "type": "object",
    "description": "Any message, with the name of its type.",
    "properties": {"@type": _TEXT},
    "required": ["@type"],
}
# Messages that the JSON mapping writes in a way of their own.
_WELL_KNOWN: Final[Mapping[str, Schema]] = {
    "google.protobuf.Any": _ANY,
    "google.protobuf.Timestamp": {"type": "string", "format": "date-time"},
    "google.protobuf.Duration": {"type": "string", "pattern": r"^-?\d+(\.\d+)?s$", "examples": ["1.5s"]},
    "google.protobuf.FieldMask": {"type": "string", "description": "Paths with commas between them."},
    "google.protobuf.Struct": {"type": "object"},
    "google.protobuf.Value": {},
    "google.protobuf.ListValue": {"type": "array"},
    "google.protobuf.Empty": {"type": "object"},
}
_PROBLEM_SCHEMA: Final[Schema] = {
    "type": "object",
    "description": "RFC 9457, with what the gateway's google.rpc.Status said.",
    "required": ["type", "title", "status", "detail", "code", "reason", "domain", "violations", "metadata"],
    "properties": {
        "type": {"type": "string", "format": "uri"},
        "title": _TEXT,
        "status": {"type": "integer"},
        "detail": _TEXT,
        "code": {"type": "string", "description": "Name of the gRPC status code."},
        "reason": {"type": "string", "description": "UPPER_SNAKE; what programs go by."},
        "domain": _TEXT,
        "violations": {
            "type": "array",
            "items": {"type": "object", "properties": {"field": _TEXT, "description": _TEXT}},
        },
        "metadata": {"type": "object", "additionalProperties": _TEXT},
        "retryAfterSeconds": {"type": "number"},
    },
}


def document(services: Sequence[str], server: str) -> dict[str, Any]:
    """The document for these services, reached at the server's URL."""
    schemas = _Schemas()
    paths: dict[str, Any] = dict(_reading(schemas))
    for service in services:
        for method in contracts.work_methods(service).values():
            paths[f"/api/v1/{service}/{contracts.kebab(method.name)}"] = {"post": _submitting(service, method, schemas)}
    return {
        "openapi": VERSION,
        "info": {
            "title": "Waybill over HTTP",
            "version": version("waybill-dashboard"),
            "summary": "Work in, operations out, in protobuf JSON.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": server}],
        "tags": [{"name": name} for name in ("operations", *services)],
        "paths": dict(sorted(paths.items())),
        "components": {
            "schemas": {"Problem": _PROBLEM_SCHEMA, **dict(sorted(schemas.known.items()))},
            "responses": {
                "Problem": {
                    "description": f"What went wrong: one of {', '.join(map(str, _FAILURES))}.",
                    "headers": {"Retry-After": {"description": "Seconds.", "schema": {"type": "integer"}}},
                    "content": {_PROBLEM: {"schema": {"$ref": "#/components/schemas/Problem"}}},
                }
            },
        },
    }


class _Schemas:
    """Schemas of the messages and enums that are referred to, each once, by its full name."""

    def __init__(self) -> None:
        self.known: dict[str, Schema] = {}

    def reference(self, kind: Descriptor | EnumDescriptor) -> Schema:
        name = kind.full_name
        if name in _WELL_KNOWN:
            return dict(_WELL_KNOWN[name])
        if name not in self.known:
            self.known[name] = {}  # a message may hold itself
            self.known[name] = self._message(kind) if isinstance(kind, Descriptor) else _enum(kind)
        return {"$ref": f"#/components/schemas/{name}"}

    def _message(self, kind: Descriptor) -> Schema:
        schema: Schema = {"type": "object", "properties": {f.json_name: self._field(f) for f in kind.fields}}
        choices = [[f.json_name for f in each.fields] for each in kind.oneofs if len(each.fields) > 1]
        if choices:
            told = "; ".join(f"one of {', '.join(names)}" for names in choices)
            schema["description"] = f"At most {told}."
        return schema

    def _field(self, field: FieldDescriptor) -> Schema:
        entry = field.message_type
        if entry is not None and entry.GetOptions().map_entry:
            return {"type": "object", "additionalProperties": self._one(entry.fields_by_name["value"])}
        one = self._one(field)
        return {"type": "array", "items": one} if field.is_repeated else one

    def _one(self, field: FieldDescriptor) -> Schema:
        if field.message_type is not None:
            return self.reference(field.message_type)
        return self.reference(field.enum_type) if field.enum_type is not None else dict(_SCALARS[field.type])


def _enum(kind: EnumDescriptor) -> Schema:
    return {"type": "string", "enum": [value.name for value in kind.values]}


def _submitting(service: str, method: MethodDescriptor, schemas: _Schemas) -> dict[str, Any]:
    is_batch = method.output_type.full_name != operations_pb2.Operation.DESCRIPTOR.full_name
    headers = {"Location": {"description": "Where to follow the operation.", "schema": _TEXT}}
    accepted = {
        "description": "The operation that it became.",
        "headers": headers,
        **_content(schemas, method.output_type),
    }
    items = {"description": "One operation or one error for each request.", **_content(schemas, method.output_type)}
    return {
        "tags": [service],
        "operationId": f"{service}_{method.name}",
        "summary": method.full_name,
        "parameters": [
            _header("Idempotency-Key", "Stands for the body's requestId where that is empty."),
            _header("traceparent", "W3C Trace Context: the work continues this trace."),
        ],
        "requestBody": {"required": True, **_content(schemas, method.input_type)},
        "responses": {"200": items} | _PROBLEMS if is_batch else {"202": accepted} | _PROBLEMS,
    }


_PROBLEMS: Final = {"default": {"$ref": "#/components/responses/Problem"}}


def _reading(schemas: _Schemas) -> Iterator[tuple[str, dict[str, Any]]]:
    """What is there to be read."""
    operation = _content(schemas, operations_pb2.Operation.DESCRIPTOR)
    # What the Any of an operation's metadata holds.
    schemas.reference(waybill_pb2.OperationMetadata.DESCRIPTOR)
    listed = _content(schemas, operations_pb2.ListOperationsResponse.DESCRIPTOR)
    listing = [
        _query("filter", {"type": "string"}, 'A subset of AIP-160: state = FAILED AND labels.team = "sre".'),
        _query("page_size", {"type": "integer", "minimum": 0, "maximum": 1000}, "0: 50."),
        _query("page_token", {"type": "string"}, "nextPageToken of the page before."),
    ]
    service, identity = _segment("service"), _segment("operation_id")
    yield "/api/v1/operations", {"get": _get("list_operations", "Of all services, newest first", listing, listed)}
    yield (
        "/api/v1/operations/{service}",
        {"get": _get("list_operations_of_service", "Of one service, newest first", [service, *listing], listed)},
    )
    yield (
        "/api/v1/operations/{service}/{operation_id}",
        {"get": _get("get_operation", "One operation", [service, identity], operation)},
    )


def _get(name: str, summary: str, parameters: list[dict[str, Any]], content: dict[str, Any]) -> dict[str, Any]:
    return {
        "tags": ["operations"],
        "operationId": name,
        "summary": summary,
        "parameters": parameters,
        "responses": {"200": {"description": summary, **content}} | _PROBLEMS,
    }


def _content(schemas: _Schemas, kind: Any) -> dict[str, Any]:
    return {"content": {_JSON: {"schema": schemas.reference(kind)}}}


def _header(name: str, description: str) -> dict[str, Any]:
    return {"name": name, "in": "header", "description": description, "schema": _TEXT}


def _query(name: str, schema: Schema, description: str) -> dict[str, Any]:
    return {"name": name, "in": "query", "description": description, "schema": schema}


def _segment(name: str) -> dict[str, Any]:
    return {"name": name, "in": "path", "required": True, "schema": _TEXT}
