"""A service's Celery app: its tasks, its queues, and what a worker process of it does besides running them."""

from __future__ import annotations

import contextlib
import os
import socket
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from fnmatch import fnmatchcase
from functools import cached_property
from typing import Any, Final, Literal, NoReturn, cast, overload

import celery
import sqlalchemy as sa
from celery import signals
from celery.utils.imports import symbol_by_name
from celery.utils.time import rate
from google.protobuf.message import Message
from redis.exceptions import RedisError
from waybill.operations.v1 import operations_pb2 as ops

from chassis import celery_requests, durability, exposition, plain_messages, telemetry
from chassis.attempts import Attempt, FanOut
from chassis.celery_settings import celery_pool, celery_settings, kind_of_pool
from chassis.contract import contract_hash, version_of
from chassis.deliveries import WorkItem
from chassis.exposed_facts import worker_source
from chassis.history import Archive
from chassis.intake import Intake, intakes
from chassis.keeper import Keeper, host_facts
from chassis.logging import get_logger
from chassis.relay import Relay
from chassis.retries import RetryPolicy
from chassis.settings import WaybillSettings
from chassis.signatures import signature_of
from chassis.store import Store

__all__ = ["Attempt", "FanOut", "QueueSpec", "ServiceApp"]

log = get_logger(__name__)

Pool = Literal["threads", "prefork", "solo"]

DEFAULT_TIMEOUT: Final = timedelta(minutes=5)
UP_CHECK_SECONDS: Final = 0.1


@dataclass(frozen=True, slots=True)
class QueueSpec:
    """One private queue of a service. `tasks` are names or patterns of the tasks whose operations wait in it."""

    name: str
    tasks: Sequence[str]
    priority: int = ops.PRIORITY_NORMAL


class OperationTask(celery.Task[Any, Any]):
    """A task that runs attempts of operations. `run` is the plain function, which `run_attempt` calls."""

    abstract = True
    Strategy = celery_requests.STRATEGY
    service_app: ServiceApp
    policy: RetryPolicy
    timeout: timedelta
    retention: timedelta | None
    queue_name: str
    default_priority: int
    request_type: type[Message]
    response_type: type[Message] | None

    def apply_async(self, *_args: Any, **_options: Any) -> NoReturn:
        """Refused, and with it `delay`: a message of Celery's own is no operation."""
        raise TypeError(f"{self.name} runs for operations: call its RPC, or accept it with Operations or an Attempt")


class ServiceApp(celery.Celery):
    """The Celery app of one service."""

    log_cls = "chassis.celery_logging:ServiceLogging"

    def __init__(
        self,
        service: str,
        *,
        queues: Sequence[QueueSpec],
        pool: Pool = "threads",
        concurrency: int = 8,
        outbox: sa.Engine | Callable[[], sa.Engine] | None = None,
        history: sa.Engine | Callable[[], sa.Engine] | None = None,
        module: str = "",
    ) -> None:
        self.module = module or str(sys._getframe(1).f_globals["__name__"])  # noqa: SLF001 (where the app is found again by a spawned child)
        self.service = service
        self.queues = tuple(queues)
        self.pool_kind = pool
        self.concurrency = concurrency
        self.operation_tasks: dict[str, OperationTask] = {}
        self._outbox = outbox
        self._history = history
        super().__init__(service, set_as_current=False, include=[self.module.rpartition(".")[0] + ".tasks"])
        celery_requests.apps[service] = self
        self.config_from_object(celery_settings(self))

    def __reduce__(self) -> tuple[Any, ...]:
        return symbol_by_name, (f"{self.module}:app",)

    @cached_property
    def waybill(self) -> WaybillSettings:
        return WaybillSettings()

    @cached_property
    def store(self) -> Store:
        """This process's connection to the operation store."""
        return Store.connect(self.service, self.waybill.store_url)

    @property
    def queue_bound(self) -> int:
        """Most due operations in one queue; above it acceptance answers RESOURCE_EXHAUSTED."""
        return self.waybill.queue_bound

    @property
    def lease(self) -> timedelta:
        return timedelta(seconds=self.waybill.lease_seconds)

    @cached_property
    def worker_name(self) -> str:
        """`<service>@<host>:<pid>` of the worker's main process, in its pool's children too."""
        return f"{self.service}@{socket.gethostname()}:{_main_pid or os.getpid()}"

    @cached_property
    def relay(self) -> Relay | None:
        if self._outbox is None:
            return None
        return Relay(self.service, self.store, self._outbox)

    @cached_property
    def archive(self) -> Archive | None:
        """None for a service without `history`: its operations stay in the store for all of their retention."""
        return None if self._history is None else Archive(self._history)

    def publish_owed(self, operation_id: str) -> None:
        """Publish what the operation's transactions owe, before its attempt settles.

        In an outage the relay does it later: the work is done, and publishing is no reason to do it again.
        """
        if self.relay is None:
            return
        try:
            self.relay.publish(operation_id=operation_id)
        except RedisError as error:
            log.warning("events.left_to_relay", operation_id=operation_id, error=str(error))

    def queue_of(self, task_name: str) -> QueueSpec:
        """The first queue that names the task. Raises LookupError: a task without a queue fails at import."""
        for queue in self.queues:
            if any(fnmatchcase(task_name, pattern) for pattern in queue.tasks):
                return queue
        raise LookupError(f"task {task_name} has no queue: add it to a QueueSpec of {self.service}")

    # Celery's decorator has three signatures of its own; ours adds one and passes the rest on.
    @overload  # type: ignore[override]
    def task(
        self,
        *,
        name: str,
        policy: RetryPolicy,
        timeout: timedelta = DEFAULT_TIMEOUT,
        retention: timedelta | None = None,
        priority: int = ops.PRIORITY_UNSPECIFIED,
    ) -> Callable[[Callable[[Attempt, Any], Any]], OperationTask]: ...

    @overload
    def task(self, *args: Any, **options: Any) -> Any: ...

    def task(self, *args: Any, **options: Any) -> Any:
        """With `name` and `policy` an operation's task; otherwise Celery's own decorator.

        Options: name (`<service>.<verb_noun>`), policy, timeout (5 min), retention of the finished operation
        (7 days; failures 30), priority (the queue's).
        """
        if "policy" not in options:
            return super().task(*args, **options)
        return self._operation_task(**options)

    def _operation_task(
        self,
        *,
        name: str,
        policy: RetryPolicy,
        timeout: timedelta = DEFAULT_TIMEOUT,
        retention: timedelta | None = None,
        priority: int = ops.PRIORITY_UNSPECIFIED,
    ) -> Callable[[Callable[..., Any]], OperationTask]:
        if not name.startswith(f"{self.service}."):
            raise ValueError(f"task {name} must be named {self.service}.<verb_noun>")
        queue = self.queue_of(name)

        def register(function: Callable[..., Any]) -> OperationTask:
            request_type, response_type = signature_of(function)
            task: Any = self._task_from_fun(
                function,
                name=name,
                base=OperationTask,
                service_app=self,
                policy=policy,
                timeout=timeout,
                retention=retention,
                queue_name=queue.name,
                default_priority=priority or queue.priority,
                request_type=request_type,
                response_type=response_type,
                typing=False,
            )
            self.operation_tasks[name] = task
            return cast("OperationTask", task)

        return register

    @contextlib.contextmanager
    def running(self, item: WorkItem, attempt: Attempt) -> Iterator[None]:
        """The attempt is known to this process's intake while it runs; in a pool's child there is none."""
        intake = intakes.get(self.service)
        if intake is not None:
            intake.runs_in(item.delivery, attempt=attempt)
        yield

    def work(self, *, queues: Sequence[str] = (), concurrency: int = 0, pool: str = "") -> int:
        """Run a worker until SIGTERM, which drains it. Raises LookupError for a queue that the service does not own."""
        names = tuple(queues) or tuple(queue.name for queue in self.queues)
        unknown = sorted(set(names) - {queue.name for queue in self.queues})
        if unknown:
            raise LookupError(f"{self.service} has no queue {', '.join(unknown)}")
        # Celery warns of root because of pickle, which is refused here (law 12).
        warnings.filterwarnings("ignore", message="You're running the worker with superuser privileges")
        worker = self.Worker(
            hostname=f"{self.service}-{os.getpid()}@{socket.gethostname()}",
            pool_cls=celery_pool(pool or self.pool_kind),
            concurrency=concurrency or self.concurrency,
            queues=",".join(names),
            optimization="fair",
            without_gossip=True,
            without_mingle=True,
            quiet=True,
        )
        worker.start()
        return int(worker.exitcode or 0)


class Attendance:
    """What a worker process does around its pool: takes in work, renews it, and says that it lives."""

    def __init__(self, app: ServiceApp, queues: Sequence[str], pool: str, concurrency: int) -> None:
        self.app = app
        self.queues = queues
        self.pool = pool
        self.concurrency = concurrency
        self.intake = Intake(
            app.store,
            worker=app.worker_name,
            queues=queues,
            tasks=lambda: tuple(app.operation_tasks),
            lease=app.lease,
            slots=concurrency,
            forks=pool == "prefork",
        )
        self.intake.begins_alone = lambda task: bool(rate(app.operation_tasks[task].rate_limit or ""))
        self.keeper = Keeper(self.intake, self.facts, task_named=app.operation_tasks.__getitem__)
        self.intake.announce = self.keeper.beat
        self._pool: Any = None

    def begin(self) -> None:
        """Before the worker connects."""
        self.intake.registered = self.app.tasks.keys() - self.app.operation_tasks.keys()
        intakes[self.app.service] = self.intake
        telemetry.configure(self.app.service)
        signals.worker_ready.connect(self.on_ready, weak=False)
        signals.worker_shutting_down.connect(self.on_shutting_down, weak=False)
        signals.worker_shutdown.connect(self.on_shutdown, weak=False)

    def on_ready(self, sender: Any = None, **_: Any) -> None:
        self._pool = sender.pool
        if self.intake.forks:
            self.intake.able = lambda: int(sender.pool.able)
        durability.look(self.app.store, self.app.waybill)
        self.intake.settler.start()
        self.keeper.start()
        endpoint = exposition.exposition(self.app.service, "worker", version_of(self.app.service))
        endpoint.add(worker_source(self.intake, self.facts))
        endpoint.start(self.app.waybill)
        self._offer_parked_messages()
        if self.app.relay is not None:
            self.app.relay.start()
        self._say_when_up(sender)

    def _say_when_up(self, consumer: Any) -> None:
        """Ready is who can run an attempt and is listed: of a pool with children, when those are up."""
        if self.intake.forks and consumer.pool.able < consumer.pool.num_processes:
            consumer.timer.call_after(UP_CHECK_SECONDS, self._say_when_up, (consumer,))
            return
        with contextlib.suppress(RedisError):  # the next heartbeat says it
            self.keeper.beat()
        log.info(
            "worker.ready",
            worker=self.app.worker_name,
            pool=self.pool,
            concurrency=self.concurrency,
            queues=list(self.queues),
        )

    def _offer_parked_messages(self) -> None:
        try:
            plain_messages.offer_again(self.app.store, self.queues, self.app.store.keys.named("celery:"))
        except RedisError as error:
            log.warning("messages.left_parked", error=str(error))

    def on_shutting_down(self, **_: Any) -> None:
        self.intake.leave()
        log.info("worker.draining", worker=self.app.worker_name, held=self.intake.held)

    def on_shutdown(self, **_: Any) -> None:
        if not self.intake.settler.flush(self.app.waybill.grace_seconds):
            log.error("worker.unsettled", worker=self.app.worker_name, attempts=self.intake.held)
        self.intake.settler.stop()
        if self.app.relay is not None:
            self.app.relay.stop()
        self.keeper.stop()
        exposition.shutdown()
        telemetry.shutdown()
        log.info("worker.drained", worker=self.app.worker_name)

    @cached_property
    def _contract(self) -> str:
        return contract_hash(self.app)

    def facts(self) -> dict[str, Any]:
        """What the heartbeat says."""
        return {
            **host_facts(),
            "pool": self.pool,
            "concurrency": self._pool.num_processes if self._pool is not None else self.concurrency,
            "queues": list(self.queues),
            "tasks": sorted(self.app.operation_tasks),
            "version": version_of(self.app.service),
            "contract": self._contract,
        }


def attend(sender: Any = None, **_: Any) -> None:
    """A worker of a service is attended to whoever started it: `work`, or Celery's own command."""
    app = getattr(sender, "app", None)
    if isinstance(app, ServiceApp):
        queues = tuple(app.amqp.queues.consume_from)
        Attendance(app, queues, kind_of_pool(sender.pool_cls), sender.concurrency).begin()


signals.worker_init.connect(attend, weak=False)

#: Process id of the worker whose pool child this is; 0 in any other process.
_main_pid = 0


def on_child_init(sender: Any = None, **_: Any) -> None:
    """A pool's child learns whose it is from its node name, `<service>-<pid>@<host>`."""
    global _main_pid  # noqa: PLW0603 (a fact of the process)
    service, _dash, pid = str(sender or "").partition("@")[0].rpartition("-")
    if service and pid.isdigit():
        _main_pid = int(pid)
        telemetry.configure(service)


def on_child_shutdown(**_: Any) -> None:
    """A pool's child exports what it recorded before it ends."""
    telemetry.shutdown()


signals.worker_process_init.connect(on_child_init, weak=False)
signals.worker_process_shutdown.connect(on_child_shutdown, weak=False)
