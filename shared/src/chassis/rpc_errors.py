"""What an exception out of a servicer becomes on the wire."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from functools import partial
from typing import Final, NamedTuple, TypeAlias
from urllib.parse import quote

import grpc
import redis.exceptions
import sqlalchemy.exc
from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2, status_pb2

from chassis.admission import store_full
from chassis.errors import InvalidArgument, Unavailable, Unimplemented, WaybillError
from chassis.statuses import STATUS_DETAILS_KEY, from_status, rpc_status, to_status

RETRY_AFTER: Final = timedelta(seconds=1)

# A client refuses a response whose metadata has more than 8 KiB (gRPC's default soft limit);
# the details take a third more where a proxy has them base64-encoded.
_MAX_DETAILS_BYTES: Final = 4_500
_MAX_TEXT_BYTES: Final = 1_000

# Errors of Redis that pass by themselves, by how the server's message begins.
_PASSING: Final = ("MISCONF", "READONLY", "MASTERDOWN", "LOADING", "NOREPLICAS", "CLUSTERDOWN")


class Relayed(Exception):
    """The owner of the method has answered with an error, which goes back as it came."""

    def __init__(self, code: grpc.StatusCode, details: str, trailing: tuple[tuple[str, str | bytes], ...]) -> None:
        super().__init__(code.name)
        self.answer = Answer(code, details, trailing)


class Answer(NamedTuple):
    """An error as gRPC sends it."""

    code: grpc.StatusCode
    details: str
    trailing: tuple[tuple[str, str | bytes], ...]


def known_error(error: BaseException) -> WaybillError | None:
    """The error that a client is told; None for an exception that nobody has foreseen."""
    if isinstance(error, WaybillError):
        return error
    if isinstance(error, grpc.RpcError):
        return from_status(rpc_status(error))
    if isinstance(error, redis.exceptions.ResponseError) and str(error).startswith(_PASSING):
        return _STORE_UNAVAILABLE()
    return next((told() for kinds, told in _KNOWN if isinstance(error, kinds)), None)


def answer_of(error: WaybillError, domain: str) -> Answer:
    """The error with its details, within what clients take as metadata; `domain` is this service."""
    status = fitted(to_status(error, domain))
    return Answer(error.code, status.message, ((STATUS_DETAILS_KEY, status.SerializeToString()),))


def fitted(status: status_pb2.Status) -> status_pb2.Status:
    """The status within the size of gRPC's metadata: as many violations as fit, and how many there are more."""
    text = _shortened(status.message)
    fit = status_pb2.Status(code=status.code, message=text)
    for packed in status.details:
        bad = error_details_pb2.BadRequest()
        if packed.Unpack(bad):
            room = _MAX_DETAILS_BYTES - status.ByteSize() + packed.ByteSize() + len(status.message) - len(text)
            fit.details.add().Pack(_shortened_violations(bad, room))
        else:
            fit.details.add().CopyFrom(packed)
    if fit.ByteSize() > _MAX_DETAILS_BYTES:
        del fit.details[:]
    return fit


def _shortened(text: str) -> str:
    if len(quote(text)) <= _MAX_TEXT_BYTES:
        return text
    while len(quote(text)) > _MAX_TEXT_BYTES:
        text = text[: len(text) * 9 // 10]
    return f"{text}…"


def _shortened_violations(bad: error_details_pb2.BadRequest, room: int) -> error_details_pb2.BadRequest:
    kept = error_details_pb2.BadRequest()
    # What a violation costs beside its own bytes, and what the last one, which counts the rest, takes.
    overhead, rest = 8, 80
    for number, violation in enumerate(bad.field_violations):
        room -= violation.ByteSize() + overhead
        if room < rest and number < len(bad.field_violations) - 1:
            more = len(bad.field_violations) - number
            kept.field_violations.add(field="*", description=f"and {more} more violations, too many for one answer")
            break
        kept.field_violations.add().CopyFrom(violation)
    return kept


_STORE_UNAVAILABLE: Final = partial(
    Unavailable, "the operation store is out of reach", reason="STORE_UNAVAILABLE", retry_after=RETRY_AFTER
)

_Kinds: TypeAlias = tuple[type[BaseException], ...]
_KNOWN: Final[tuple[tuple[_Kinds, Callable[[], WaybillError]], ...]] = (
    (
        (redis.exceptions.OutOfMemoryError,),
        store_full,
    ),
    ((redis.exceptions.ConnectionError, redis.exceptions.TimeoutError), _STORE_UNAVAILABLE),
    (
        (sqlalchemy.exc.OperationalError, sqlalchemy.exc.TimeoutError),
        partial(
            Unavailable,
            "the database is out of reach or busy",
            reason="DATABASE_UNAVAILABLE",
            retry_after=RETRY_AFTER,
        ),
    ),
    (
        (TimeoutError,),
        partial(
            Unavailable,
            "what this call needs has not answered in time",
            reason="BACKEND_UNAVAILABLE",
            retry_after=RETRY_AFTER,
        ),
    ),
    (
        (DecodeError,),
        partial(InvalidArgument, "the request is not a message of this method's type", reason="MALFORMED_REQUEST"),
    ),
    (
        (NotImplementedError,),
        partial(Unimplemented, "the method is not implemented yet", reason="METHOD_NOT_IMPLEMENTED"),
    ),
)
