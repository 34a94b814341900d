"""The web process: gunicorn with threads around the Flask application."""

import os
import signal
import ssl
import threading
from types import FrameType
from typing import Any

from chassis import telemetry
from flask import Flask
from gunicorn.app.base import BaseApplication
from gunicorn.glogging import Logger

from dashboard_service import clients, web
from dashboard_service.context import KEY, Dashboard
from dashboard_service.settings import DashboardSettings

# How soon a worker notices that gunicorn's own process was killed.
PARENT_SECONDS = 0.5

_CERTIFICATES = {"": ssl.CERT_NONE, "optional": ssl.CERT_OPTIONAL, "required": ssl.CERT_REQUIRED}


class WebProcess(BaseApplication):  # type: ignore[misc]
    """Loads the application in each worker: no channel and no thread exists where gunicorn forks."""

    def __init__(self, settings: DashboardSettings) -> None:
        self._settings = settings
        super().__init__()

    def load_config(self) -> None:
        for name, value in options(self._settings).items():
            self.cfg.set(name, value)

    def load(self) -> Flask:
        telemetry.configure(self._settings.service)
        app = web.create_app(self._settings, clients.connect(self._settings))
        dashboard: Dashboard = app.extensions[KEY]
        dashboard.hub.start()
        return app


class QuietLogger(Logger):  # type: ignore[misc]
    """Gunicorn's records go to the root logger, where ours are."""

    def setup(self, cfg: Any) -> None:
        super().setup(cfg)
        self.error_log.handlers.clear()
        self.error_log.propagate = True


def serve(settings: DashboardSettings) -> int:
    """Serve until SIGTERM; live streams end at once, calls that run get the grace time."""
    WebProcess(settings).run()
    return 0


def options(settings: DashboardSettings) -> dict[str, Any]:
    """Gunicorn's settings. Every live stream holds a thread, so the pool has room for all beside the pages."""
    waybill = settings.waybill
    return {
        "bind": [settings.listen],
        "workers": settings.web_workers,
        "worker_class": "gthread",
        "threads": settings.threads + settings.max_streams,
        "preload_app": False,
        "graceful_timeout": max(1, round(waybill.grace_seconds)),
        "keepalive": 5,
        "control_socket_disable": True,
        "logger_class": QuietLogger,
        "loglevel": waybill.log_level,
        "proc_name": "waybill-dashboard",
        "certfile": str(waybill.tls_cert_file) if waybill.tls_cert_file else None,
        "keyfile": str(waybill.tls_key_file) if waybill.tls_key_file else None,
        "ca_certs": str(waybill.tls_ca_file) if settings.client_certificates else None,
        "cert_reqs": _CERTIFICATES[settings.client_certificates],
        "post_worker_init": _end_streams_with_the_worker,
    }


def _end_streams_with_the_worker(worker: Any) -> None:
    """A stream never ends by itself: without this it would hold a worker that should end for the whole grace time."""
    hub = worker.wsgi.extensions[KEY].hub

    def told_to_end(number: int, stack: FrameType | None) -> None:
        hub.request_stop()
        worker.handle_exit(number, stack)

    def orphaned() -> None:
        while not hub.wait_stopped(PARENT_SECONDS):
            if os.getppid() != worker.ppid:
                hub.request_stop()

    signal.signal(signal.SIGTERM, told_to_end)
    threading.Thread(target=orphaned, name="parent-watch", daemon=True).start()
