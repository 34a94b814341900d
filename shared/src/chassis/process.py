"""The processes of a service: `python -m <package> gateway | worker | subscriber | scheduler | --check`."""

from __future__ import annotations

import argparse
import importlib
import pkgutil
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import sqlalchemy as sa

from chassis import exposition, logging, telemetry
from chassis.database import open_database, revisions_in
from chassis.settings import ServiceSettings, SettingsError, load, split_list

WRONG_SETTINGS = 2
ROLES = ("gateway", "worker", "subscriber", "scheduler")


@dataclass(frozen=True, slots=True)
class Service:
    """What a service consists of; `module:name` is imported only by the process that needs it."""

    name: str
    settings: type[ServiceSettings]
    # The ServiceApp with its tasks registered.
    app: str
    # Each is called with the settings and returns the exit code when the process has drained.
    gateway: str
    subscriber: str | None = None
    scheduler: str | None = None


def run(service: Service, arguments: Sequence[str] | None = None) -> int:
    """Run one process of the service until it is told to end; returns the exit code."""
    options = _options(service, arguments)
    try:
        settings = load(service.settings)
    except SettingsError as error:
        sys.stderr.write(f"{service.name}: the settings are wrong\n{error}\n")
        return WRONG_SETTINGS
    if options.check:
        return check(service, settings)
    waybill = settings.waybill
    logging.configure(service.name, options.role, level=waybill.log_level, form=waybill.log_format)
    if options.role == "worker":
        return _work(service, settings, options)
    telemetry.configure(service.name)
    serve: Callable[[ServiceSettings], int] = load_object(getattr(service, options.role))
    exposition.exposition(service.name, options.role, _version(service)).start(waybill)
    try:
        return serve(settings)
    finally:
        exposition.shutdown()


def check(service: Service, settings: ServiceSettings) -> int:
    """Import every module, open the database, find every task's queue; needs no Redis."""
    modules = _import_all(_package(service))
    engine = open_database(settings.database, sa.MetaData())
    revisions = ", ".join(f"{lineage} {revision}" for lineage, revision in revisions_in(engine).items())
    engine.dispose()
    app = load_object(service.app)
    queues = {name: app.queue_of(name).name for name in app.operation_tasks}
    sys.stdout.write(
        f"{service.name}: settings, {modules} modules, the database ({revisions or 'empty'}), "
        f"{len(queues)} tasks in {len(set(queues.values()))} queues: all is well\n"
    )
    return 0


def load_object(reference: str) -> Any:
    """What `module:name` names."""
    module, _, name = reference.partition(":")
    return getattr(importlib.import_module(module), name)


def _options(service: Service, arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog=f"python -m {_package(service)}")
    roles = [role for role in ROLES if getattr(service, role, service.app)]
    parser.add_argument("role", nargs="?", choices=roles, help="the process to run")
    parser.add_argument("--check", action="store_true", help="verify settings and code, start nothing")
    parser.add_argument("--version", action="version", version=_version(service))
    worker = parser.add_argument_group("worker")
    worker.add_argument("-Q", "--queues", default="", help="queues to take from, with commas; default: all")
    worker.add_argument("-c", "--concurrency", type=int, default=0, help="attempts that run at a time")
    options = parser.parse_args(arguments)
    if bool(options.role) == options.check:
        parser.error(f"expected one of {', '.join(roles)}, or --check")
    return options


def _version(service: Service) -> str:
    try:
        return version(f"waybill-{service.name}")
    except PackageNotFoundError:
        return "not installed"


def _package(service: Service) -> str:
    return service.app.partition(":")[0].partition(".")[0]


def _import_all(package: str) -> int:
    root = importlib.import_module(package)
    names = [module.name for module in pkgutil.walk_packages(root.__path__, f"{package}.")]
    imported = [importlib.import_module(name) for name in names if not name.endswith(".__main__")]
    return len(imported)


def _work(service: Service, settings: ServiceSettings, options: argparse.Namespace) -> int:
    app = load_object(service.app)
    try:
        return int(
            app.work(
                queues=split_list(options.queues),
                concurrency=options.concurrency or settings.worker_concurrency,
                pool=settings.worker_pool,
            )
        )
    except LookupError as error:
        sys.stderr.write(f"{service.name}: {error}\n")
        return WRONG_SETTINGS
