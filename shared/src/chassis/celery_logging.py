"""Celery's logging, replaced: its workers and their pools' children write the lines that all processes write."""

from __future__ import annotations

from logging import WARNING, getLogger
from typing import TYPE_CHECKING, Any

from celery.app.log import Logging

from chassis import logging

if TYPE_CHECKING:
    from chassis.worker import ServiceApp


class ServiceLogging(Logging):
    """Ignores Celery's levels and formats; WAYBILL_LOG_LEVEL and WAYBILL_LOG_FORMAT hold."""

    app: ServiceApp

    def setup_logging_subsystem(self, *_args: Any, **_options: Any) -> bool:
        """Called by Celery in a worker's main process and in each child of its pool; True: nothing is left to do."""
        waybill = self.app.waybill
        logging.configure(self.app.service, "worker", level=waybill.log_level, form=waybill.log_format)
        # Below this Celery writes every message that it runs, payload included.
        getLogger("celery").setLevel(WARNING)
        return True
