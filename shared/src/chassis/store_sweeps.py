"""Passing over what the store has, a chunk at a time: what has ended and is in no archive, and what has not ended."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from datetime import timedelta
from typing import Final

from waybill.operations.v1 import operations_pb2 as ops

from chassis.archive_stats import Ended, Span
from chassis.descriptions import FINAL, StoredOperation, number
from chassis.facts import Facts, facts_of, matches
from chassis.filters import Expression
from chassis.store import AsyncStore
from chassis.store_calls import microseconds
from chassis.telemetry import now_us

#: Operations that are read in one round trip.
CHUNK: Final = 500
#: Most operations of the store that statistics look at, those first that are kept longest.
LOOK_AT: Final = 20_000

#: What filters and statistics go by.
_FIELDS: Final = tuple(b"st task q tr ct et sch start at er em ks kf cn rec".split())


async def not_archived(
    store: AsyncStore, expression: Expression, span: Span, *, archived_within: timedelta | None
) -> dict[str, Ended]:
    """What matches of the store alone, by id.

    `archived_within`: what lies in `finished` no further ahead is archived already; None where some never are, so that
    all are looked at. An operation that an archivist has not marked may be in the archive nevertheless.
    """
    least = now_us() + microseconds(archived_within or timedelta(0))
    found: dict[str, Ended] = {}
    for begin in range(0, LOOK_AT, CHUNK):
        members = await store.client.zrevrangebyscore(
            store.keys.named("finished"), "+inf", f"({least}", start=begin, num=CHUNK, withscores=True
        )
        ids = [member.decode() for member, _ in members]
        for (_, score), operation_id, stored in zip(members, ids, await _read(store, ids), strict=True):
            if not _marked(stored, int(score)):
                facts = facts_of(stored)
                if span.start_us <= facts.end_time_us < span.end_us and matches(expression, facts):
                    found[operation_id] = _ended(stored, facts)
        if len(members) < CHUNK:
            break
    return found


def _marked(stored: StoredOperation, score: int) -> bool:
    """Whether the archive has it: then it is kept for the tail alone."""
    keep = b"kf" if number(stored, b"st") == ops.OPERATION_STATE_FAILED else b"ks"
    return score < number(stored, b"et") + number(stored, keep)


def _ended(stored: StoredOperation, facts: Facts) -> Ended:
    return Ended(facts.task, facts.state, facts.end_time_us, number(stored, b"at"), facts.wait_us, facts.total_us)


async def live_matches(store: AsyncStore, expression: Expression) -> AsyncIterator[list[str]]:
    """The ids of what matches, has not ended and was not asked to, oldest first, a chunk at a time."""
    after: tuple[int, str] | None = None
    while True:
        chunk = await _oldest(store, after)
        if not chunk:
            return
        after = chunk[-1]
        ids = [operation_id for _, operation_id in chunk]
        stored = zip(ids, await _read(store, ids), strict=True)
        yield [id_ for id_, fields in stored if _is_live(fields) and matches(expression, facts_of(fields))]


def _is_live(stored: StoredOperation) -> bool:
    return b"st" in stored and number(stored, b"st") not in FINAL and stored.get(b"cn") != b"1"


async def _oldest(store: AsyncStore, after: tuple[int, str] | None) -> list[tuple[int, str]]:
    """The next of `ops` after a position."""
    lowest: float | str = "-inf" if after is None else after[0]
    offset = 0
    while True:
        chunk = await store.client.zrangebyscore(
            store.keys.named("ops"), lowest, "+inf", start=offset, num=CHUNK, withscores=True
        )
        positions = [(int(score), member.decode()) for member, score in chunk]
        fresh = [position for position in positions if after is None or position > after]
        if fresh or len(chunk) < CHUNK:
            return fresh
        # Of one instant there may be more than a chunk: those are passed by their number.
        offset += CHUNK


async def _read(store: AsyncStore, ids: Sequence[str]) -> list[StoredOperation]:
    """The fields of each that filters and statistics go by; none of what is gone."""
    pipeline = store.client.pipeline(transaction=False)
    for operation_id in ids:
        pipeline.hmget(store.keys.operation(operation_id), *_FIELDS)
    answers = await pipeline.execute() if ids else []
    return [
        {field: value for field, value in zip(_FIELDS, values, strict=True) if value is not None} for values in answers
    ]
