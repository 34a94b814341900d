"""Who looks on while processes are killed: each comes back with its last position, and keeps what it was shown."""

import threading

import grpc
import httpx
from waybill.events.v1 import events_pb2

from services.dashboard.tests.live_client import LiveClient

WAIT_SECONDS = 90
PAUSE_SECONDS = 0.1


class Onlooker:
    """Ids of the events of operations, in the order in which they came."""

    def __init__(self, name):
        self.seen = []
        self.ended = set()
        self._news = threading.Condition()
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._stopped.set()
        self.let_go()
        self._thread.join(WAIT_SECONDS)

    def shown(self, event_id, operation, final):
        with self._news:
            self.seen.append(event_id)
            if final:
                self.ended.add(operation)
            self._news.notify_all()

    def wait_for(self, condition):
        """Until it holds of what was seen. Raises AssertionError after a long time."""
        with self._news:
            assert self._news.wait_for(lambda: condition(self), WAIT_SECONDS), f"{self._thread.name}: {len(self.seen)}"

    def wait_for_more(self, count):
        """Until so many more events than now were shown."""
        wanted = len(self.seen) + count
        self.wait_for(lambda it: len(it.seen) >= wanted)

    def _run(self):
        while not self._stopped.is_set():
            self.look()
            self._stopped.wait(PAUSE_SECONDS)


class Subscriber(Onlooker):
    """A client of EventService/Subscribe."""

    def __init__(self, stub, service, cursor=""):
        super().__init__("subscriber")
        self.cursor = cursor
        self._stub, self._service, self._call = stub, service, None

    def look(self):
        request = events_pb2.SubscribeRequest(service=self._service, cursor=self.cursor)
        try:
            self._call = self._stub.Subscribe(request, wait_for_ready=True)
            for answer in self._call:
                change = events_pb2.OperationChanged()
                if answer.HasField("event") and answer.event.data.Unpack(change):
                    self.shown(answer.event.id, change.operation, answer.event.type.endswith("succeeded"))
                self.cursor = answer.cursor
        except grpc.RpcError:
            return

    def let_go(self):
        if self._call is not None:
            self._call.cancel()


class EventSource(Onlooker):
    """A browser's EventSource: what it was shown last goes with it as Last-Event-ID."""

    def __init__(self, address, last_id):
        super().__init__("event source")
        self.resyncs = []
        self.connections = 0
        self._url, self._last_id, self._client = f"{address}/live?changes=all", last_id, None

    def look(self):
        try:
            self._client = LiveClient(self._url, self._last_id)
            self.connections += 1
            while self._client.status == httpx.codes.OK:
                frame = self._client.next("operations", "resync")
                if frame.event == "resync":
                    self.resyncs.append(frame.data)
                    continue
                for change in frame.data:
                    self.shown(change["event"], change["name"], change["state"] == "SUCCEEDED")
                self._last_id = self._client.last_id
        except (StopIteration, httpx.TransportError, httpx.StreamError):
            return

    def let_go(self):
        if self._client is not None:
            self._client.close()
