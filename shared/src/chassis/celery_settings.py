"""How Celery is configured for a service."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import kombu
from celery import concurrency

from chassis.sentinels import SentinelUrl, names_sentinels
from chassis.store import CONNECT_TIMEOUT_SECONDS, SOCKET_TIMEOUT_SECONDS

if TYPE_CHECKING:
    from chassis.worker import ServiceApp


#: Pools that change their size while they run, under the names that Celery's own have.
POOLS: Final = {
    "threads": "chassis.threads_pool:TaskPool",
    "prefork": "chassis.prefork_pool:TaskPool",
    "processes": "chassis.prefork_pool:TaskPool",
}
vars(concurrency)["ALIASES"].update(POOLS)


def celery_pool(kind: str) -> str:
    """Celery's name for a pool."""
    return POOLS.get(kind, kind)


def kind_of_pool(pool: Any) -> str:
    """Our name for a pool that Celery was given by whatever name it has."""
    module = concurrency.get_implementation(pool).__module__.rpartition(".")[2]
    return {"thread": "threads", "threads_pool": "threads", "prefork_pool": "prefork"}.get(module, module)


def broker(redis_url: str) -> tuple[str, str]:
    """The URL and the transport that kombu is given. A URL with Sentinels it would split into alternatives."""
    if not names_sentinels(redis_url):
        return redis_url, "chassis.transport:Transport"
    url = SentinelUrl.parse(redis_url)
    host, port = url.addresses[0]
    host = f"[{host}]" if ":" in host else host
    return f"redis://{host}:{port}/{url.database}", "chassis.transport:SentinelTransport"


def celery_settings(app: ServiceApp) -> dict[str, Any]:
    """Where stock parts of Celery and kombu remain, with values that lose nothing and never hang."""
    url, transport = broker(app.waybill.store_url)
    exchange = kombu.Exchange(app.service, type="direct")
    return {
        "broker_url": url,
        "broker_transport": transport,
        "broker_transport_options": {
            "waybill_service": app.service,
            "global_keyprefix": f"wb:{{{app.service}}}:celery:",
            "socket_timeout": SOCKET_TIMEOUT_SECONDS * 2,
            "socket_connect_timeout": CONNECT_TIMEOUT_SECONDS,
            "socket_keepalive": True,
            "health_check_interval": 10,
            "visibility_timeout": 2100,
            "unacked_restore_interval": 10,
        },
        "broker_connection_retry_on_startup": True,
        "broker_connection_max_retries": None,
        "broker_channel_error_retry": True,
        "broker_pool_acquire_timeout": 2,
        "control_exchange": f"{app.service}.pidbox",
        "event_exchange": f"{app.service}.celeryev",
        "task_queues": [kombu.Queue(queue.name, exchange, routing_key=queue.name) for queue in app.queues],
        "task_default_queue": app.queues[0].name,
        "task_default_exchange": app.service,
        "task_default_routing_key": app.queues[0].name,
        "task_create_missing_queues": False,
        "task_acks_late": True,
        "task_reject_on_worker_lost": True,
        "task_ignore_result": True,
        "task_store_errors_even_if_ignored": False,
        "task_serializer": "json",
        "result_serializer": "json",
        "accept_content": ["json"],
        "worker_pool": celery_pool(app.pool_kind),
        "worker_consumer": "chassis.celery_consumer:Consumer",
        "worker_concurrency": app.concurrency,
        "worker_prefetch_multiplier": 1,
        "worker_cancel_long_running_tasks_on_connection_loss": False,
        "worker_send_task_events": False,
        "worker_hijack_root_logger": False,
        "worker_redirect_stdouts": False,
        "worker_pool_start_method": "spawn",
        # A child imports the whole service before it is up, on a busy machine too.
        "worker_proc_alive_timeout": 60.0,
        "worker_enable_remote_control": True,
        "enable_utc": True,
        "timezone": "UTC",
    }
