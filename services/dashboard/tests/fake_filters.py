"""The filter language of the services (a subset of AIP-160) over what the fake keeps.

`NOT` binds tightest, then `OR`, then `AND`, as AIP-160 says; `a b` is `a AND b`.
"""

import re
from collections.abc import Callable
from datetime import datetime

from google.rpc import code_pb2
from waybill.operations.v1 import operations_pb2 as ops

from services.dashboard.tests.fake_service import Kept, Refused, a_status

_TOKEN = re.compile(r'\s*(?:(?P<sign><=|>=|!=|[()=<>:])|"(?P<quoted>(?:[^"\\]|\\.)*)"|(?P<word>[^\s()=<>!:"]+))')
_TIMES = ("create_time", "end_time")
_TEXTS = ("task", "queue", "request_id", "trace_id", "parent")

Predicate = Callable[[Kept], bool]


def parse(expression: str) -> Predicate:
    """Raises Refused with a violation of `filter`."""
    reader = _Reader(expression)
    if not reader.tokens:
        return lambda kept: True
    wanted = reader.every()
    if reader.tokens:
        raise refused(f"cannot read {reader.tokens[0][1]!r}")
    return wanted


def refused(why: str) -> Refused:
    return Refused(a_status(code_pb2.INVALID_ARGUMENT, f"filter: {why}", "INVALID_REQUEST", filter=why))


class _Reader:
    def __init__(self, expression: str) -> None:
        self.tokens: list[tuple[str, str]] = []
        position = 0
        while position < len(expression.rstrip()):
            match = _TOKEN.match(expression, position)
            if match is None:
                raise refused(f"cannot read {expression[position:]!r}")
            self.tokens.append((match.lastgroup or "", match[match.lastgroup or 0]))
            position = match.end()

    def take(self, *expected: str) -> str:
        if not self.tokens or (expected and self.tokens[0][1] not in expected):
            raise refused(f"expected {' or '.join(expected) or 'more'} at its end")
        return self.tokens.pop(0)[1]

    def next_is(self, word: str) -> bool:
        return bool(self.tokens) and self.tokens[0] in {("word", word), ("sign", word)}

    def every(self) -> Predicate:
        parts = [self.some()]
        while self.tokens and not self.next_is(")"):
            if self.next_is("AND"):
                self.take()
            parts.append(self.some())
        return lambda kept: all(part(kept) for part in parts)

    def some(self) -> Predicate:
        parts = [self.one()]
        while self.next_is("OR"):
            self.take()
            parts.append(self.one())
        return lambda kept: any(part(kept) for part in parts)

    def one(self) -> Predicate:
        if self.next_is("NOT"):
            self.take()
            inner = self.one()
            return lambda kept: not inner(kept)
        if self.next_is("("):
            self.take()
            inner = self.every()
            self.take(")")
            return inner
        return term(self.take(), self.take("=", "!=", "<", "<=", ">", ">=", ":"), self.take())


def term(name: str, sign: str, value: str) -> Predicate:
    if name == "error" and sign == ":":
        return lambda kept: value.lower() in (kept.error.message if kept.error else "").lower()
    if name in _TIMES:
        wanted = datetime.fromisoformat(value).timestamp()
        return lambda kept: (
            kept.metadata.HasField(name) and _compare(getattr(kept.metadata, name).ToNanoseconds() / 1e9, sign, wanted)
        )
    if name == "state":
        return lambda kept: _compare(state_of(kept), sign, value.upper())
    if name.startswith("labels."):
        return lambda kept: _compare(kept.metadata.labels.get(name.removeprefix("labels."), ""), sign, value)
    if name not in _TEXTS:
        raise refused(f"{name!r} is not a field of operations; known: state, {', '.join((*_TEXTS, *_TIMES))}")
    return lambda kept: _compare(getattr(kept.metadata, name), sign, value)


def state_of(kept: Kept) -> str:
    return ops.OperationState.Name(kept.metadata.state).removeprefix("OPERATION_STATE_")


def _compare(left: object, sign: str, right: object) -> bool:
    compare = {"=": "__eq__", "!=": "__ne__", "<": "__lt__", "<=": "__le__", ">": "__gt__", ">=": "__ge__"}
    return bool(getattr(left, compare[sign])(right))
