"""The chaos service's real processes, and words for what an experiment does to them."""

import json
import os
import random
import secrets
import signal
import sys
import threading
from contextlib import contextmanager, suppress
from datetime import timedelta
from functools import cached_property
from pathlib import Path

import redis
from chassis.testing.harness import Harness, ServiceUnderTest, metadata_of
from google.longrunning import operations_pb2
from redis.backoff import ExponentialBackoff
from redis.retry import Retry
from waybill.operations.v1 import operations_pb2 as ops

from tests.chaos.client import Client, Load
from tests.chaos.marshal import Marshal
from tests.stack import until

SERVICE_FOLDER = Path(__file__).parent / "service"
#: Long enough for a busy machine to renew in, short enough to wait for.
LEASE_SECONDS = 2.0
LEASE = timedelta(seconds=LEASE_SECONDS)
#: Beyond the lease, from the death of a worker, or the return of one, to the begin of the next attempt.
RESCUE_SECONDS = 5.0
#: How long a worker may take to end once it is told to.
GRACE_SECONDS = 45.0


class Arena(Harness):
    """A gateway and a worker of the chaos service, in one pool, with a marshal and a journal.

    Args:
        pool: threads, prefork or solo.
        environment: of every process, over what this sets.
        valkey: one that is there already, which the caller ends.
    """

    def __init__(self, directory, pool, environment=None, valkey=None):
        self.pool = pool
        self.slots = 1 if pool == "solo" else 2
        self.marshal = Marshal()
        self.journal = directory / "journal"
        self.journal.touch()
        own = {
            "PYTHONPATH": str(SERVICE_FOLDER),
            "CHAOS_WORKER_POOL": pool,
            "CHAOS_WORKER_CONCURRENCY": str(self.slots),
            "CHAOS_JOURNAL": str(self.journal),
            "CHAOS_MARSHAL": self.marshal.address,
        }
        given = {"WAYBILL_LEASE_SECONDS": str(LEASE_SECONDS), "WAYBILL_GRACE_SECONDS": "1", **(environment or {})}
        services = [ServiceUnderTest("chaos", "chaos_service", environment=own)]
        super().__init__(directory, services, environment=given, valkey=valkey)
        #: Whether the last experiment has ended with all in order; without, the next takes an arena of its own.
        self.sound = True
        self.rng = random.Random(0)
        self.client: Client | None = None
        self._known: set[bytes] = set()

    def __exit__(self, *details):
        self.marshal.end()
        self.redis.close()
        super().__exit__(*details)

    @property
    def gateway(self):
        return self.process("chaos", "gateway")

    @property
    def worker(self):
        return self.process("chaos", "worker")

    @cached_property
    def redis(self):
        """The server itself, past every proxy; what an experiment does to connections is not the test's concern."""
        again = Retry(ExponentialBackoff(cap=0.5, base=0.01), retries=10)
        return redis.Redis.from_url(self.valkey.url, retry=again, socket_timeout=10)

    def look_at(self, valkey):
        """Another server has the store now."""
        self.redis.close()
        del self.redis
        self.valkey = valkey

    @property
    def keys(self):
        return self.store("chaos").keys

    def begin(self, rng):
        """Before an experiment: everything runs, nothing of the last one counts."""
        self.sound, self.rng = False, rng
        self.make_whole()
        self.marshal.close()
        self.client = Client(self.channel("chaos"), rng)
        self._known = set(self.redis.zrange(self.keys.named("ops"), 0, -1))

    def make_whole(self):
        """Whatever was stopped, frozen or killed runs again and serves."""
        if self.valkey.pid is not None:
            os.kill(self.valkey.pid, signal.SIGCONT)
        self.valkey.start()
        for process in self.processes:
            if process.running:
                os.killpg(process.pid, signal.SIGCONT)
        self.start()

    def new_ids(self):
        """Ids of all operations that the store has taken in since the experiment began."""
        return [id_ for id_ in self.redis.zrange(self.keys.named("ops"), 0, -1) if id_ not in self._known]

    def listed(self):
        """Name and metadata of every operation that the gateway knows, in the store and in the archive."""
        found, token = [], ""
        while True:
            request = operations_pb2.ListOperationsRequest(name="operations/chaos", page_size=1000, page_token=token)
            page = self.operations("chaos").ListOperations(request)
            found += [(each.name, metadata_of(each)) for each in page.operations]
            token = page.next_page_token
            if not token:
                return found

    def load(self, **options):
        """Operations arriving for as long as the block."""
        return Load(self.client, random.Random(self.rng.random()), **options)

    def stored(self, name, *fields):
        """Fields of the operation's hash in the store, as text; empty for those that are not there."""
        values = self.redis.hmget(self.keys.operation(name.rpartition("/")[2]), fields)
        return [(value or b"").decode() for value in values]

    def wait_for_attempt(self, name, outcome):
        """Until an attempt of the operation has ended so."""
        until(lambda: self.stored(name, "a1z")[0].endswith(f"|{outcome}"), f"attempt 1 of {name} ends with {outcome}")

    def wait_until_due(self, *names):
        """Until none of these waits for its time any more."""
        waiting = {str(ops.OPERATION_STATE_SCHEDULED), str(ops.OPERATION_STATE_RETRYING)}
        for name in names:
            until(lambda name=name: self.stored(name, "st")[0] not in waiting, f"{name} is due")

    def wait_until_parked(self, task, count):
        """Until as many operations of the task wait for a worker that knows it."""
        parked = self.keys.named(f"parked:{task}")
        until(lambda: self.redis.zcard(parked) == count, f"{count} operations of {task} are parked")

    def hold(self, count=None):
        """As many attempts that run and wait for the marshal; all slots without a number. Their arrivals."""
        names = [self.client.submit("hold") for _ in range(self.slots if count is None else count)]
        return [self.marshal.arrived(name) for name in names]

    @contextmanager
    def another_worker(self, **environment):
        """One more worker, running for as long as the block."""
        worker = self.add("chaos", "worker", name=f"chaos worker {secrets.token_hex(2)}", environment=environment)
        worker.start()
        try:
            yield worker
        finally:
            if worker.running:
                worker.stop(GRACE_SECONDS)
            self.processes.remove(worker)

    @contextmanager
    def changed(self, process, **environment):
        """The process started again with these variables, and as it was after the block."""
        before = dict(process.environment)
        if process.running:
            process.stop(GRACE_SECONDS)
        process.environment.update(environment)
        process.start()
        try:
            yield process
        finally:
            process.environment.clear()
            process.environment.update(before)
            if process.running:
                process.stop(GRACE_SECONDS)
            process.start()

    def journalled(self):
        """Every line that a task of this arena has ever written."""
        return [json.loads(line) for line in self.journal.read_text().splitlines()]

    @contextmanager
    def kept_in_view(self):
        """Ask the server all the time whether every operation that has not ended is somewhere; fail if one is not."""
        watch = Watch(self)
        watch.start()
        try:
            yield watch
        finally:
            watch.end()
        assert watch.looks > 0
        assert watch.astray == [], f"in no key of the store: {watch.astray[:5]}"


#: Which operations have ended and which are astray, asked at one instant. A fan-out's parent waits in its children.
_ASTRAY = """
local P, found, ended = KEYS[1], {}, {}
for _, id in ipairs(ARGV) do
  local f = redis.call('HMGET', P .. 'op:' .. id, 'st', 'q', 'pr', 'task', 'fan')
  if not f[1] then
    found[#found + 1] = id .. ' has no record'
  elseif f[1] >= '5' then
    ended[#ended + 1] = id
  elseif f[5] ~= '1' then
    local places = 0
    for _, key in ipairs({'q:' .. f[2] .. ':' .. f[3], 'due', 'leases', 'parked:' .. f[4]}) do
      if redis.call('ZSCORE', P .. key, id) then places = places + 1 end
    end
    if places ~= 1 then found[#found + 1] = id .. ' in state ' .. f[1] .. ' is in ' .. places .. ' places' end
  end
end
return {found, ended}
"""
VIEW_SECONDS = 0.01


class Watch(threading.Thread):
    """Looks for operations that are in no key of the store, or in two, from its start to its end."""

    def __init__(self, arena):
        super().__init__(name="watch", daemon=True)
        self._arena = arena
        self._over = threading.Event()
        self.looks = 0
        self.astray: list[str] = []

    def run(self):
        ended = set()
        while not self._over.wait(VIEW_SECONDS):
            ids = {name.rpartition("/")[2].encode() for name in list(self._arena.client.accepted.values())}
            with suppress(redis.ConnectionError, redis.TimeoutError):
                astray, over = self._arena.redis.eval(_ASTRAY, 1, self._arena.keys.prefix, *(ids - ended))
                self.astray += astray
                ended.update(over)
                self.looks += 1

    def end(self):
        self._over.set()
        self.join()


def freeze(process):
    """Stop a process under test and its pool's children where they are."""
    os.killpg(process.pid, signal.SIGSTOP)


def thaw(process):
    os.killpg(process.pid, signal.SIGCONT)


def kill_all(process):
    """SIGKILL the whole of it, children included."""
    process.end()


@contextmanager
def frozen(valkey):
    """The server is there and does not answer. What it is sent meanwhile it does afterwards."""
    os.kill(valkey.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(valkey.pid, signal.SIGCONT)


def endure(seconds):
    """How long a fault lasts is a part of the experiment; nothing is synchronised by it."""
    threading.Event().wait(seconds)


def python(*arguments):
    return [sys.executable, *arguments]
