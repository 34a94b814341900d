"""Events of all services, followed once per process and shown to every browser that looks.

One follower per service reads EventService/Subscribe into that service's feed. A browser that comes back with a
position that the feed still holds is continued from there; an older one is caught up by a Subscribe of its own
until it meets the feed. Where the service no longer holds the position, the browser is told to ask anew.
"""

import threading
import time
from collections import deque
from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Any

import grpc
from chassis import logging
from chassis.errors import ResourceExhausted
from chassis.statuses import reason_of, rpc_status
from google.protobuf.duration_pb2 import Duration
from waybill.events.v1 import events_pb2

from dashboard_service import feed as feeds
from dashboard_service import samples
from dashboard_service.clients import Clients, Gateway
from dashboard_service.depths import Depths
from dashboard_service.feed import Entry, Feed
from dashboard_service.pulse import Pulse
from dashboard_service.streams import Stream

CURSOR_EXPIRED = "CURSOR_EXPIRED"
SAMPLE_SECONDS = 2.0
# Dead letters are counted anew after an event that makes one, and at the latest after so long.
LETTERS_SECONDS = 10.0
# How often services are asked for their health and their workers, who say themselves every five seconds how they are.
STANDING_SECONDS = 5.0
WELL = frozenset({"serving"})
LETTER_VERBS = frozenset({"failed", "discarded"})
# While nobody looks, so that depths are known from before somebody did.
UNWATCHED_SECONDS = 10.0
MAX_BACKOFF_SECONDS = 5.0
MAX_FACTS = 40
CATCH_UP_PAUSE_SECONDS = 1.0
# Following a busy service costs it an answer in so long, not one for each event.
FOLLOW_INTERVAL = Duration(nanos=400_000_000)
# Heartbeats come every 15 s: a call that has been silent for longer is dead, whatever TCP says.
SILENCE_SECONDS = 40.0

log = logging.get_logger()


class Follower:
    """Reads the events of one service into its feed, from the last position on, for as long as it runs."""

    def __init__(self, gateway: Gateway, feed: Feed, pulse: Pulse, facts: deque[Entry]) -> None:
        self.gateway = gateway
        self.feed = feed
        self.up: bool | None = None
        # Set by every event after which the service has more dead letters, or fewer.
        self.letters_moved = threading.Event()
        self._pulse = pulse
        self._facts = facts
        self._cursor = ""
        self._failures = 0
        self._heard = time.monotonic()
        self._call: Any = None
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"follow-{gateway.service}", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stopped.set()
        if self._call is not None:
            self._call.cancel()

    def end_silence(self) -> None:
        """End a call that says nothing any more, so that it is made anew."""
        if self._call is not None and time.monotonic() - self._heard > SILENCE_SECONDS:
            self._call.cancel()

    def _run(self) -> None:
        while not self._stopped.is_set():
            try:
                self._follow()
            except grpc.RpcError as error:
                self._lost(error)
            self._stopped.wait(min(MAX_BACKOFF_SECONDS, 0.2 * 2**self._failures))

    def _follow(self) -> None:
        self._heard = time.monotonic()
        self._call = subscribe(self.gateway, self._cursor)
        for answer in self._call:
            self._heard = time.monotonic()
            if self.up is not True:
                self._found()
            for response in each_of(answer):
                self._take(response)

    def _take(self, response: events_pb2.SubscribeResponse) -> None:
        entry = feeds.read(self.gateway.service, response)
        if entry.kind == "change":
            self._count(response.event)
        elif entry.kind == "fact":
            self._facts.append(entry)
        self.feed.publish(entry)
        self._cursor = response.cursor

    def _count(self, event: events_pb2.Event) -> None:
        if feeds.verb(event.type) in LETTER_VERBS:
            self.letters_moved.set()
        change = events_pb2.OperationChanged()
        event.data.Unpack(change)
        at = event.time.ToNanoseconds() / 1e9
        self._pulse.count(feeds.verb(event.type), at, change.create_time.ToNanoseconds() / 1e9)

    def _found(self) -> None:
        log.info("events.following", of=self.gateway.service)
        was_lost, self.up = self.up is False, True
        self._failures = 0
        if was_lost:
            self.feed.publish(feeds.service_state(self.gateway.service, up=True))

    def _lost(self, error: grpc.RpcError) -> None:
        if self._stopped.is_set():
            return
        status = rpc_status(error)
        if reason_of(status) == CURSOR_EXPIRED:
            self._cursor = ""
            self.feed.forget()
            self.feed.publish(feeds.resync(self.gateway.service))
            return
        self._failures = min(self._failures + 1, 10)
        if self.up is not False:
            log.warning("events.lost", of=self.gateway.service, code=status.code, error=status.message)
            self.up = False
            self.feed.publish(feeds.service_state(self.gateway.service, up=False, detail=status.message))


class Hub:
    """Followers, feeds, the sampler and the open streams of this process."""

    def __init__(self, clients: Clients, max_streams: int) -> None:
        self.clients = clients
        self.pulse = Pulse()
        self.feeds = {each.service: Feed(each.service) for each in clients}
        # The last events that are about more than one operation: alerts, reports and the like.
        self.facts: deque[Entry] = deque(maxlen=MAX_FACTS)
        self.sample: samples.Sample | None = None
        self.depths = Depths()
        self._letters_until = 0.0
        self._standing_until = 0.0
        self._followers = [Follower(each, self.feeds[each.service], self.pulse, self.facts) for each in clients]
        self._max_streams = max_streams
        self._streams: list[Stream] = []
        self._lock = threading.Lock()
        self._watched = threading.Event()
        self._stopped = threading.Event()
        self._sampler = threading.Thread(target=self._sample, name="sampler", daemon=True)

    def start(self) -> None:
        """Start following. Called in the process that serves, after any fork."""
        for follower in self._followers:
            follower.start()
        self._sampler.start()

    def request_stop(self) -> None:
        """Let the sampler's thread stop everything: safe to call in a signal handler."""
        self._stopped.set()

    def wait_stopped(self, timeout_seconds: float) -> bool:
        """Whether it has been told to stop, at the latest when the time is over."""
        return self._stopped.wait(timeout_seconds)

    def stop(self) -> None:
        """Stop following and end every stream."""
        self._stopped.set()
        for follower in self._followers:
            follower.stop()
        for stream in tuple(self._streams):
            stream.close()

    def latest(self) -> samples.Sample:
        """The sampler's last sample while it is fresh, else one taken now."""
        known = self.sample
        if known is not None and time.monotonic() - known.monotonic < 2 * SAMPLE_SECONDS:
            return known
        return samples.take(self.clients)

    def ask_anew(self) -> None:
        """The next sample says how the workers are after what somebody has told them."""
        self._standing_until = 0.0

    def open(self, cursors: Mapping[str, str]) -> Stream:
        """A stream from these positions on, from now on where a service has none; raises ResourceExhausted."""
        stream = Stream()
        with self._lock:
            if len(self._streams) >= self._max_streams or self._stopped.is_set():
                raise ResourceExhausted(
                    f"{self._max_streams} live streams are open, as many as are allowed", reason="TOO_MANY_STREAMS"
                )
            self._streams.append(stream)
        for follower in self._followers:
            self._join(stream, follower, cursors.get(follower.gateway.service, ""))
        self._watched.set()
        return stream

    def close(self, stream: Stream) -> None:
        """End a stream and forget it."""
        stream.close()
        with self._lock:
            self._streams = [each for each in self._streams if each is not stream]
            if not self._streams:
                self._watched.clear()
        for feed in self.feeds.values():
            feed.detach(stream)

    def _join(self, stream: Stream, follower: Follower, cursor: str) -> None:
        if follower.up is False:
            stream.offer(feeds.service_state(follower.gateway.service, up=False))
        if not cursor:
            follower.feed.join(stream)
        elif not follower.feed.attach(stream, cursor):
            name = f"catch-up-{follower.gateway.service}"
            arguments = (stream, follower.gateway, follower.feed, cursor)
            threading.Thread(target=catch_up, args=arguments, name=name, daemon=True).start()

    def _sample(self) -> None:
        while not self._stopped.wait(SAMPLE_SECONDS):
            for follower in self._followers:
                follower.end_silence()
            known = self.sample
            if not self._watched.is_set() and known and time.monotonic() - known.monotonic < UNWATCHED_SECONDS:
                continue
            self.sample = sample = samples.take(self.clients, self._counted_letters(known), self._standing(known))
            self.depths.add(sample)
            for stream in tuple(self._streams):
                stream.tick(sample)
        self.stop()

    def _standing(self, known: samples.Sample | None) -> samples.Sample | None:
        """The last sample while its health and workers hold; one that some service did not answer does not."""
        now = time.monotonic()
        if (
            known
            and now < self._standing_until
            and not known.problems["workers"]
            and set(known.health.values()) <= WELL
        ):
            return known
        self._standing_until = now + STANDING_SECONDS
        return None

    def _counted_letters(self, known: samples.Sample | None) -> Mapping[str, int] | None:
        """The count of the last sample while it holds; one that a service did not answer does not."""
        moved = [follower for follower in self._followers if follower.letters_moved.is_set()]
        if known and not known.problems["dead letters"] and not moved and time.monotonic() < self._letters_until:
            return known.dead_letters
        for follower in moved:
            follower.letters_moved.clear()
        self._letters_until = time.monotonic() + LETTERS_SECONDS
        return None


def catch_up(stream: Stream, gateway: Gateway, feed: Feed, cursor: str) -> None:
    """Show the stream what lies behind the cursor until it meets the feed; ends with the stream."""
    while not stream.ended and not feed.attach(stream, cursor):
        try:
            call = subscribe(gateway, cursor)
            stream.on_end(call.cancel)
            for response in chain.from_iterable(map(each_of, call)):
                if not stream.push(feeds.read(gateway.service, response)):
                    return
                cursor = response.cursor
                if feed.attach(stream, cursor):
                    call.cancel()
                    return
        except grpc.RpcError as error:
            if reason_of(rpc_status(error)) == CURSOR_EXPIRED:
                # Joined first: what is published after the browser is told reaches it.
                feed.join(stream)
                stream.push(feeds.resync(gateway.service))
                return
        stream.wait_ended(CATCH_UP_PAUSE_SECONDS)


def subscribe(gateway: Gateway, cursor: str) -> Any:
    """The call that streams a service's events after the cursor, in batches where the service knows them."""
    return gateway.events.Subscribe(
        events_pb2.SubscribeRequest(service=gateway.service, cursor=cursor, min_interval=FOLLOW_INTERVAL)
    )


def each_of(answer: events_pb2.SubscribeResponse) -> Sequence[events_pb2.SubscribeResponse]:
    """The answers of a batch; one that is no batch is by itself."""
    return answer.batch or (answer,)


def is_about(entry: Entry, operation: str) -> bool:
    """Whether an entry concerns this operation, one of its children included."""
    return operation in {entry.operation, entry.parent}
