"""What the store takes from fetch to settle with a million operations waiting, against ten."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator

import sides
from chassis import store_calls
from chassis.acceptance import Provenance, Submission, acceptance, new_operation_id
from chassis.store import Store
from chassis.store_calls import Call, Verdict
from driving import TEXT
from figures import Row
from google.protobuf.wrappers_pb2 import StringValue
from noop_service.tasks import do_nothing
from waybill.operations.v1 import operations_pb2 as ops

MILLION, TEN = 1_000_000, 10
FILL_BATCH = 1_000
#: Operations of one cycle, and cycles of one round.
BATCH, CYCLES = 10, 100


def _accept(count: int) -> Call[list[Verdict]]:
    """One call that accepts so many: the same operation under ids of its own each."""
    item = acceptance(Submission(do_nothing, StringValue(value=TEXT)), Provenance(principal="", method=""))
    call = store_calls.accept([item])
    stride, old = call.arguments[0], item.record.id
    if not isinstance(stride, int):
        raise TypeError("the first argument of accept is its stride")
    head, fields = call.arguments[:-stride], call.arguments[-stride:]
    arguments = [*head]
    for _ in range(count):
        new = new_operation_id()
        arguments += [_renamed(value, old, new) for value in fields]
    return Call(call.script, arguments, call.read)


def _renamed(value: str | bytes | int, old: str, new: str) -> str | bytes | int:
    if isinstance(value, bytes):
        return value.replace(old.encode(), new.encode())
    return value.replace(old, new) if isinstance(value, str) else value


def _fill(store: Store, waiting: int) -> None:
    """From here on the server does not wait for the disk, which would hide what the scripts take."""
    store.client.config_set("appendfsync", "no")
    for first in range(0, waiting, FILL_BATCH):
        store.run(_accept(min(FILL_BATCH, waiting - first)))


def _cycle(store: Store, base: str) -> float:
    """Seconds from the fetch of BATCH operations to their settle; as many are accepted first."""
    store.run(_accept(BATCH))
    began = time.perf_counter()
    fetched = store.run(store_calls.fetch(BATCH, ["noop.default"], [do_nothing.name], base=base))
    settlements = []
    for delivery in fetched.deliveries:
        token = delivery.delivery
        store.run(
            store_calls.begin(delivery.operation_id, delivery.delivery, worker="bench", token=token, span=b"12345678")
        )
        settlements.append(store_calls.Settlement(delivery.operation_id, token, ops.ATTEMPT_OUTCOME_SUCCEEDED))
    states = store.run(store_calls.settle(settlements))
    if states != [ops.OPERATION_STATE_SUCCEEDED] * BATCH:
        raise RuntimeError(f"not every attempt settled: {states}")
    return time.perf_counter() - began


def rows(plan: tuple[int, int | None]) -> Iterator[Row]:
    """Both servers are up; cycles alternate between them."""
    count, waiting = plan
    with sides.valkey() as full, sides.valkey() as empty:
        deep, shallow = (Store.connect("noop", server.url) for server in (full, empty))
        _fill(deep, waiting or MILLION)
        _fill(shallow, TEN)
        rounds = []
        for number in range(count + 1):
            times = [(_cycle(deep, f"{number}.{n}"), _cycle(shallow, f"{number}.{n}")) for n in range(CYCLES)]
            rounds.append(tuple(statistics.median(side) / BATCH * 1e6 for side in zip(*times, strict=True)))
        measured = rounds[1:]
        deep_us, shallow_us = (statistics.median(side) for side in zip(*measured, strict=True))
        note = f"{deep_us:,.0f} against {shallow_us:,.0f} µs an operation, of one connection"
        ratios = [deep_time / shallow_time for deep_time, shallow_time in measured]
        yield Row("fetch to settle, a million waiting / ten", ratios, most=1.2, note=note)
