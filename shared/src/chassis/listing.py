"""Lists of operations: newest first, a page at a time, over an index of the store."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from typing import Final

from waybill.operations.v1 import operations_pb2 as ops

from chassis import paging
from chassis.descriptions import StoredOperation, record_of, text
from chassis.errors import FieldViolation, InvalidArgument
from chassis.store import AsyncStore

CHUNK: Final = 200
#: Most operations that one page looks at; a filter that matches little gives short pages with a token.
SCAN_LIMIT: Final = 5_000
_TERM: Final = re.compile(
    r"""\s*(?P<field>[a-z_]+(?:\.[a-z0-9_.-]+)?)\s*=\s*(?:"(?P<quoted>[^"]*)"|(?P<bare>[^\s"]+))\s*"""
)
_AND: Final = re.compile(r"AND\s+")

Predicate = Callable[[StoredOperation], bool]


@dataclass(frozen=True, slots=True)
class Page:
    """Operations of one page, and where the next begins; empty on the last."""

    operations: list[StoredOperation]
    next_page_token: str


def parse_filter(expression: str) -> Predicate:
    """Reads `state = FAILED AND task = "reports.render_report" AND labels.team = sre`; else InvalidArgument.

    Fields: state, task, queue, request_id, trace_id, parent, labels.<key>.
    """
    if not expression.strip():
        return lambda _: True
    return _all([_predicate(term) for term in _terms(expression)])


async def list_page(store: AsyncStore, index: str, wanted: Predicate, *, size: int, token: str) -> Page:
    """One page of an index (`ops` or `dead`). The token names the last operation looked at."""
    start = _position(token)
    found: list[StoredOperation] = []
    looked = 0
    position: tuple[float, str] | None = None
    async for score, operation_id, stored in _scan(store, index, start):
        if stored and wanted(stored):
            found.append(stored)
        looked += 1
        position = (score, operation_id)
        if len(found) == size or looked >= SCAN_LIMIT:
            return Page(found, paging.encode((int(position[0]), position[1])))
    return Page(found, "")


async def _scan(
    store: AsyncStore, index: str, start: tuple[float, str] | None
) -> AsyncIterator[tuple[float, str, StoredOperation]]:
    """What comes after `start`, each once, whatever is added or deleted meanwhile."""
    last, offset = start, 0
    while True:
        highest = "+inf" if last is None else last[0]
        chunk = await store.client.zrevrangebyscore(
            store.keys.named(index), highest, "-inf", start=offset, num=CHUNK, withscores=True
        )
        pairs = [(float(score), member.decode()) for member, score in chunk]
        fresh = [pair for pair in pairs if last is None or pair < last]
        pipeline = store.client.pipeline(transaction=False)
        for _, operation_id in fresh:
            pipeline.hgetall(store.keys.operation(operation_id))
        for (score, operation_id), stored in zip(fresh, await pipeline.execute() if fresh else [], strict=True):
            yield score, operation_id, stored
        if len(chunk) < CHUNK:
            return
        # Of one instant there may be more than a chunk: those are passed by their number.
        last, offset = (fresh[-1], 0) if fresh else (last, offset + CHUNK)


def _position(token: str) -> tuple[float, str] | None:
    if not token:
        return None
    score, operation_id = paging.decode(token, int, str)
    return float(score), operation_id


def _terms(expression: str) -> Iterator[re.Match[str]]:
    """`field = value`, joined by AND. Raises InvalidArgument where anything else stands."""
    position = 0
    while match := _TERM.match(expression, position):
        yield match
        if match.end() == len(expression):
            return
        joint = _AND.match(expression, match.end())
        position = joint.end() if joint else len(expression)
    rest = expression[position:] or expression
    raise InvalidArgument([FieldViolation("filter", f"cannot read {rest!r}; expected field = value, joined by AND")])


def _predicate(match: re.Match[str]) -> Predicate:
    name = match["field"]
    value = match["quoted"] if match["quoted"] is not None else match["bare"]
    if name == "state":
        return _state(value)
    if name.startswith("labels."):
        key = name.removeprefix("labels.")
        return lambda stored: record_of(stored).labels.get(key) == value
    if name in _FIELDS:
        read = _FIELDS[name]
        return lambda stored: read(stored) == value
    known = ", ".join(["state", *_FIELDS, "labels.<key>"])
    raise InvalidArgument([FieldViolation("filter", f"{name!r} is not a field of operations; known: {known}")])


def _state(value: str) -> Predicate:
    name = value.upper().removeprefix("OPERATION_STATE_")
    try:
        state = ops.OperationState.Value(f"OPERATION_STATE_{name}")
    except ValueError:
        raise InvalidArgument([FieldViolation("filter", f"{value!r} is not a state")]) from None
    return lambda stored: stored.get(b"st") == str(state).encode()


def _all(predicates: list[Predicate]) -> Predicate:
    return lambda stored: all(predicate(stored) for predicate in predicates)


_FIELDS: Final[dict[str, Callable[[StoredOperation], str]]] = {
    "task": lambda stored: text(stored, b"task"),
    "queue": lambda stored: text(stored, b"q"),
    "request_id": lambda stored: record_of(stored).request_id,
    "trace_id": lambda stored: text(stored, b"tr").partition("/")[0],
    "parent": lambda stored: record_of(stored).parent,
}
