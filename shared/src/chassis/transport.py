"""The kombu transport: operations come from the store by script, all else travels as kombu's Redis transport has it.

A worker's channel blocks on the doorbells of its queues, never on the work itself, so there is no instant at which
a popped operation is in no key. Operations are settled; Celery's acknowledgement has no part in it.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from queue import Empty
from typing import Any, Final

from kombu.transport import redis as _kombu_redis
from redis.exceptions import OutOfMemoryError
from redis.sentinel import SentinelManagedConnection
from waybill.operations.v1 import operations_pb2 as ops

from chassis import plain_messages, store_calls
from chassis.celery_requests import apps
from chassis.deliveries import WorkItem
from chassis.intake import Intake, intakes
from chassis.logging import get_logger
from chassis.sentinels import SentinelUrl, primary_pool
from chassis.store import Store, hang_up

log = get_logger(__name__)

#: The stubs of kombu leave out what a transport is made of.
kombu_redis: Any = _kombu_redis

#: Longest wait for a doorbell; a bell that was rung for a worker that died costs no more than this.
BELL_SECONDS: Final = 1.0
SHORTEST_BELL_SECONDS: Final = 0.01
#: Most operations that one call cancels: bounds how long a purge keeps the store to itself.
PURGE_CHUNK: Final = 500
PRIORITIES: Final = (ops.PRIORITY_LOW, ops.PRIORITY_NORMAL, ops.PRIORITY_HIGH)


def celery_message(item: WorkItem) -> dict[str, Any]:
    """The delivery as a Celery message. Its body stays an object: it never leaves this process as a message."""
    return {
        "body": item,
        "content-type": None,
        "content-encoding": None,
        "headers": {"task": item.task, "id": item.operation_id, "ignore_result": True},
        "properties": {
            "correlation_id": item.operation_id,
            "delivery_tag": item.delivery,
            "delivery_info": {"exchange": "", "routing_key": item.queue, "priority": 0, "redelivered": False},
            "body_encoding": None,
        },
    }


@contextmanager
def _left_for_later(what: str) -> Iterator[None]:
    """What a full store refuses and ordinary messages can wait for must not end the worker's connection."""
    try:
        yield
    except OutOfMemoryError as error:
        log.warning("transport.left_for_later", what=what, error=str(error))


class QoS(kombu_redis.QoS):  # type: ignore[misc]
    """Prefetch: operations are counted by the intake, ordinary messages by kombu."""

    channel: Channel

    def can_consume(self) -> bool:
        intake = self.channel.intake
        if intake is None:
            return bool(super().can_consume())
        return self.credit(intake) > 0

    def credit(self, intake: Intake) -> int:
        """How many more deliveries may be held. Celery's prefetch count is the pool's size."""
        intake.resize(self.prefetch_count or intake.slots)
        return intake.room() - self._plain_held

    @property
    def _plain_held(self) -> int:
        """Ordinary messages that are not acknowledged; kombu forgets the others only when the next one comes."""
        return len(self._delivered) - len(self._dirty)

    def append(self, message: Any, delivery_tag: str) -> None:
        if not is_operation(delivery_tag):
            super().append(message, delivery_tag)

    def ack(self, delivery_tag: str) -> None:
        """Operations are settled, not acknowledged (law 4)."""
        if not is_operation(delivery_tag):
            super().ack(delivery_tag)
            self.channel.wake()

    def reject(self, delivery_tag: str, requeue: bool = False) -> None:  # noqa: FBT001, FBT002 (kombu's signature)
        """As `ack`: what is left unsettled is rescued when its lease has run out."""
        if not is_operation(delivery_tag):
            super().reject(delivery_tag, requeue=requeue)
            self.channel.wake()

    def restore_unacked_once(self, stderr: Any = None) -> None:
        if self.channel.leaves_in_silence:
            return
        intake = self.channel.intake
        if intake is not None:
            intake.give_back_all()
        super().restore_unacked_once(stderr)

    def restore_visible(self, *args: Any, **options: Any) -> None:
        """Of ordinary messages. In a full store they stay where they are until there is room."""
        with _left_for_later("restoring"):
            super().restore_visible(*args, **options)


def is_operation(delivery_tag: str) -> bool:
    """Deliveries are named `session.fetch:index`; kombu's own tags are UUIDs.

    Whether a delivery is still held does not matter: kombu must never keep one, it would put it back as a message.
    """
    return ":" in delivery_tag


class Channel(kombu_redis.Channel):  # type: ignore[misc]
    """Fetches operations for the queues of a service; all else is kombu's."""

    QoS = QoS
    from_transport_options = (*kombu_redis.Channel.from_transport_options, "waybill_service")
    waybill_service: str = ""
    _in_poll: Any
    _intake: Intake | None = None
    _refresh_after: float = 0.0

    @property
    def intake(self) -> Intake | None:
        """Set on the channel that a worker consumes its queues on, from its first consumer to its close."""
        if self._intake is None:
            intake = intakes.get(self.waybill_service)
            if intake is not None and self._serves(intake):
                self._intake = intake
                intake.on_room = self.wake
                intake.on_silence = self.hang_up
        return self._intake

    @property
    def leaves_in_silence(self) -> bool:
        """Its worker ends while the store is silent, and asks nothing of it any more."""
        intake = intakes.get(self.waybill_service)
        return intake is not None and intake.leaves_in_silence

    def close(self) -> None:
        if not self.closed and self.leaves_in_silence:
            self._in_poll = None
            self._fanout_queues.clear()
        super().close()

    def _unsubscribe_from(self, queue: str) -> None:
        if not self.leaves_in_silence:
            super()._unsubscribe_from(queue)

    def hang_up(self) -> None:
        """End what waits for an answer on any channel of the connection."""
        for channel in tuple(self.connection.channels or ()) if self.connection is not None else ():
            for pool in (channel._pool, channel._async_pool):  # noqa: SLF001 (of this very class)
                if pool is not None:
                    hang_up(pool)

    def wake(self) -> None:
        """Make the event loop look for work: another thread has returned credit."""
        if self.connection is not None:
            self.connection.wake()

    def _purge(self, queue: str) -> int:
        """Cancel the operations that wait in the queue now, then drop its plain messages; how many of both."""
        app = apps.get(self.waybill_service)
        waiting = 0 if app is None else self._cancel_waiting(app.store, queue)
        return waiting + int(super()._purge(queue))

    @staticmethod
    def _cancel_waiting(store: Store, queue: str) -> int:
        cancelled = 0
        for priority in PRIORITIES:
            key = store.keys.queue(queue, priority)
            for _ in range(0, store.client.zcard(key), PURGE_CHUNK):
                if not (ids := [member.decode() for member in store.client.zrange(key, 0, PURGE_CHUNK - 1)]):
                    break
                answers = store.run(store_calls.cancel(ids))
                cancelled += sum(answer.verdict == "cancelled" for answer in answers)
                store.client.zrem(key, *ids)
        return cancelled

    def _queue_bind(self, exchange: str, routing_key: str, pattern: str, queue: str) -> None:
        """A full store must not keep workers from starting: they are what empties it.

        Operations and remote control need no binding; whoever publishes an ordinary message declares its queue first.
        """
        with _left_for_later("binding"):
            super()._queue_bind(exchange, routing_key, pattern, queue)

    def _size(self, queue: str) -> int:
        """Not in a transaction, as kombu has it: a full Redis 7 refuses whatever stands in one."""
        with self.conn_or_acquire() as client:
            pipeline = client.pipeline(transaction=False)
            for priority in self.priority_steps:
                pipeline.llen(self._q_for_pri(queue, priority))
            return sum(pipeline.execute())

    def maybe_refresh_binding_expiry(self) -> None:
        if time.monotonic() < self._refresh_after:
            return
        self._refresh_after = time.monotonic() + BELL_SECONDS
        with _left_for_later("refresh of bindings"):
            super().maybe_refresh_binding_expiry()

    def _serves(self, intake: Intake) -> bool:
        active = self._active_queues
        return bool(active) and any(queue in active for queue in intake.queues)

    def _brpop_start(self, timeout: float | None = None) -> None:
        intake = self.intake
        if intake is None:
            super()._brpop_start(timeout)
            return
        more_plain = self._deliver_plain(intake)
        items, next_due = intake.fetch(max(0, self.qos.credit(intake)))
        for item in items:
            self.connection._deliver(celery_message(item), item.queue)  # noqa: SLF001 (as kombu's channels do)
        if items:
            # A prefork pool hands out what it was given only at the next turn of the loop, which may be a bell away.
            self.wake()
        if self.qos.credit(intake) > 0:
            due = next_due.total_seconds() if next_due is not None else BELL_SECONDS
            self._await_bell(intake, SHORTEST_BELL_SECONDS if more_plain else min(BELL_SECONDS, due))

    def _await_bell(self, intake: Intake, seconds: float) -> None:
        connection = self.client.connection
        self._in_poll = connection
        self._brpop_sent_at = time.monotonic()
        bells = [intake.store.keys.bell(queue) for queue in intake.queues]
        connection.send_command("BLPOP", *bells, f"{max(SHORTEST_BELL_SECONDS, seconds):.3f}")

    def _brpop_read(self, **options: Any) -> bool:
        if self.intake is None or self._in_poll is None:
            return bool(super()._brpop_read(**options))
        connection = self.client.connection
        try:
            connection.read_response()
        except self.connection_errors:
            connection.disconnect()
            raise
        finally:
            self._in_poll = None
        raise Empty

    def _deliver_plain(self, intake: Intake) -> bool:
        """Ordinary Celery messages that were sent to a queue of the service, one each; whether there may be more."""
        delivered = False
        for queue in intake.queues:
            if self.qos.credit(intake) <= 0 or not self._plain_waiting(queue):
                continue
            try:
                self.connection._deliver(self._get(queue), queue)  # noqa: SLF001
                delivered = True
            except Empty:
                continue
        return delivered

    def _get(self, queue: str) -> Any:
        """The next ordinary message that this worker can run. Raises Empty."""
        intake = self.intake
        if intake is None or queue not in intake.queues:
            return super()._get(queue)
        for priority in self.priority_steps:
            key = f"{self.global_keyprefix}{self._q_for_pri(queue, priority)}"
            message = plain_messages.take(intake.store, queue, key, intake.registered)
            if message is not None:
                return message
        raise Empty

    def _plain_waiting(self, queue: str) -> bool:
        """Asked of the store at most once a second: operations are the rule, plain messages the exception."""
        now = time.monotonic()
        if now < self._plain_asked.get(queue, 0.0):
            return False
        waiting = int(self._size(queue)) > 0
        if not waiting:
            self._plain_asked[queue] = now + BELL_SECONDS
        return waiting

    @property
    def _plain_asked(self) -> dict[str, float]:
        asked: dict[str, float] = self.__dict__.setdefault("_plain_asked_at", {})
        return asked


class Transport(kombu_redis.Transport):  # type: ignore[misc]
    """kombu's Redis transport with the channel above, and a pipe by which pool threads wake the event loop."""

    Channel = Channel
    driver_name = "waybill"

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._wake_fds: tuple[int, int] | None = None

    def register_with_event_loop(self, connection: Any, loop: Any) -> None:
        super().register_with_event_loop(connection, loop)
        self._close_pipe()
        read, write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._wake_fds = (read, write)
        loop.add_reader(read, self._drain_pipe, read)

    def wake(self) -> None:
        if self._wake_fds is None:
            return
        try:
            os.write(self._wake_fds[1], b"!")
        except (BlockingIOError, OSError):
            return

    def close_connection(self, connection: Any) -> None:
        super().close_connection(connection)
        self._close_pipe()

    @staticmethod
    def _drain_pipe(read: int) -> None:
        try:
            os.read(read, 4096)
        except (BlockingIOError, OSError):
            return

    def _close_pipe(self) -> None:
        if self._wake_fds is not None:
            fds, self._wake_fds = self._wake_fds, None
            for fd in fds:
                os.close(fd)


class SentinelChannel(Channel):
    """Its connections go to whichever server the Sentinels call the primary."""

    connection_class = SentinelManagedConnection
    keyprefix_fanout: str

    def _get_pool(self, asynchronous: bool = False) -> Any:  # noqa: FBT001, FBT002 (kombu's signature)
        options = self._connparams(asynchronous)
        self.keyprefix_fanout = self.keyprefix_fanout.format(db=options["db"])
        for ours in ("host", "port"):
            options.pop(ours)
        return primary_pool(SentinelUrl.parse(apps[self.waybill_service].waybill.store_url), **options)


class SentinelTransport(Transport):
    """The transport over a store that is found through Sentinels."""

    Channel = SentinelChannel
