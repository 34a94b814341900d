"""What filters go by: an operation's texts and times, alike whether the store's hash or the archive has it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from google.protobuf.message import DecodeError
from waybill.operations.v1 import operations_pb2 as ops
from waybill.store.v1 import store_pb2

from chassis.descriptions import StoredOperation, number, record_of
from chassis.filters import LABELS, TIMES, And, Comparison, Expression, Not, Or, Search, fold

#: Stands between the texts that a search looks through.
_BETWEEN: Final = "\x1f"


@dataclass(frozen=True, slots=True)
class Facts:
    """Texts as both databases take them; times are Unix microseconds, 0 where there is none."""

    state: int
    task: str
    queue: str
    request_id: str
    #: 32 hex digits.
    trace_id: str
    #: Operation names, or empty.
    parent: str
    replayed_from: str
    #: Of the last attempt that failed; empty once the operation has succeeded.
    error_reason: str
    error_message: str
    labels: Mapping[str, str]
    create_time_us: int
    end_time_us: int
    #: When it was to run: schedule_time, or when it was accepted, whichever is later.
    due_time_us: int
    #: Begin of the first attempt.
    start_time_us: int

    @property
    def wait_us(self) -> int | None:
        """How long it was due before its first attempt began; None where none has begun."""
        return max(0, self.start_time_us - self.due_time_us) if self.start_time_us else None

    @property
    def total_us(self) -> int:
        """From when it was due to its end; 0 for what ended before it was due."""
        return max(0, self.end_time_us - self.due_time_us)

    @property
    def search_text(self) -> str:
        """All that a search looks through, in one text whose case does not matter."""
        labels = (part for label in sorted(self.labels.items()) for part in label)
        parts = (self.task, self.request_id, self.error_reason, self.error_message, *labels)
        return fold(_BETWEEN.join(parts))


def facts_of(stored: StoredOperation) -> Facts:
    """Never raises: of a record that cannot be read there is what the hash itself says."""
    record = readable_record(stored)
    state = number(stored, b"st")
    failed = state != ops.OPERATION_STATE_SUCCEEDED
    return Facts(
        state=state,
        task=plain(stored.get(b"task")),
        queue=plain(stored.get(b"q")),
        request_id=plain(record.request_id),
        trace_id=plain(stored.get(b"tr")).partition("/")[0],
        parent=plain(record.parent),
        replayed_from=plain(record.replayed_from),
        error_reason=plain(stored.get(b"er")) if failed else "",
        error_message=plain(stored.get(b"em")) if failed else "",
        labels={key: plain(value) for key, value in record.labels.items()},
        create_time_us=number(stored, b"ct"),
        end_time_us=number(stored, b"et"),
        due_time_us=max(number(stored, b"ct"), number(stored, b"sch")),
        start_time_us=number(stored, b"start"),
    )


def readable_record(stored: StoredOperation) -> store_pb2.OperationRecord:
    """The empty one where it cannot be read: that must not hold up all that follow."""
    try:
        return record_of(stored)
    except (KeyError, DecodeError):
        return store_pb2.OperationRecord()


def plain(value: str | bytes | None) -> str:
    """As both databases take it: UTF-8 without NUL."""
    text = value.decode(errors="replace") if isinstance(value, bytes) else value or ""
    return text.replace("\0", "\N{REPLACEMENT CHARACTER}")


def matches(expression: Expression, facts: Facts) -> bool:
    """Whether it is true of an operation; `chassis.archive_queries.clause` says the same in SQL."""
    match expression:
        case And(parts):
            return all(matches(part, facts) for part in parts)
        case Or(parts):
            return any(matches(part, facts) for part in parts)
        case Not(part):
            return not matches(part, facts)
        case Search(text):
            return fold(text) in facts.search_text
        case Comparison():
            return _compare(expression, facts)


def _compare(comparison: Comparison, facts: Facts) -> bool:
    field, operator, value = comparison.field, comparison.operator, comparison.value
    if field == "state":
        return facts.state == int(value)
    if field in TIMES:
        return _compare_times(facts.create_time_us if field == "create_time" else facts.end_time_us, operator, value)
    if field.startswith(LABELS) and operator == ":*":
        return field.removeprefix(LABELS) in facts.labels
    return any(_compare_texts(text, operator, value) for text in _texts(facts, field))


def _texts(facts: Facts, field: str) -> list[str]:
    """A label that is not there has none; an error has its reason and its message."""
    if field == "error":
        return [facts.error_reason, facts.error_message]
    if field.startswith(LABELS):
        label = facts.labels.get(field.removeprefix(LABELS))
        return [] if label is None else [label]
    text: str = getattr(facts, field)
    return [text]


def _compare_texts(text: str, operator: str, value: str) -> bool:
    if operator == ":*":
        return bool(text)
    return fold(value) in fold(text) if operator == ":" else text == value


def _compare_times(time_us: int, operator: str, value: str) -> bool:
    """Of a time that is not there nothing is true."""
    if operator == ":*":
        return bool(time_us)
    return bool(time_us) and _ORDER[operator](time_us, int(value))


_ORDER: Final[Mapping[str, Callable[[int, int], bool]]] = {
    "=": lambda a, b: a == b,
    "<": lambda a, b: a < b,
    "<=": lambda a, b: a <= b,
    ">": lambda a, b: a > b,
    ">=": lambda a, b: a >= b,
}
