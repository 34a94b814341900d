"""What is fetched reaches the pool at once, whichever pool it is."""

from dataclasses import dataclass, field
from types import SimpleNamespace

from chassis import transport
from chassis.deliveries import WorkItem


@dataclass
class Loop:
    """Stands for the transport: remembers what was handed to Celery and whether the event loop was woken after."""

    seen: list = field(default_factory=list)

    def _deliver(self, message, queue):
        self.seen.append(("delivered", message["headers"]["id"], queue))

    def wake(self):
        self.seen.append("woken")


class Channel(transport.Channel):
    """One that has fetched `deliveries` and has no place for more."""

    def __init__(self, deliveries):
        self.connection = Loop()
        self._intake = SimpleNamespace(queues=(), fetch=lambda _limit: (deliveries, None))
        self.closed = True

    qos = SimpleNamespace(credit=lambda _intake: 0)


A_DELIVERY = WorkItem(
    operation_id="01900000-0000-7000-8000-000000000001",
    delivery="session.1:1",
    record=b"",
    task="reports.render_report",
    queue="reports.default",
    number=1,
    max_attempts=3,
    token="t",
    span_id=b"12345678",
    begun=False,
)


def test_a_delivery_wakes_the_event_loop():
    """A prefork pool writes to its children one turn later; without a turn it would wait for the next doorbell."""
    channel = Channel([A_DELIVERY])

    channel._brpop_start()

    assert channel.connection.seen == [("delivered", A_DELIVERY.operation_id, "reports.default"), "woken"]


def test_an_empty_fetch_leaves_the_loop_asleep():
    """An idle worker does not spin."""
    channel = Channel([])

    channel._brpop_start()

    assert channel.connection.seen == []
