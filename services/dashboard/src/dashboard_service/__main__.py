"""The processes of the dashboard: `python -m dashboard_service web | traces | --check`."""

import argparse
import importlib
import pkgutil
import sys
from collections.abc import Sequence
from importlib.metadata import version

from chassis import logging
from chassis.settings import SettingsError

import dashboard_service
from dashboard_service.settings import DashboardSettings, read

WRONG_SETTINGS = 2


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one process until it is told to end; returns the exit code."""
    options = _options(arguments)
    try:
        settings = read()
    except SettingsError as error:
        sys.stderr.write(f"dashboard: the settings are wrong\n{error}\n")
        return WRONG_SETTINGS
    if options.check:
        return _check(settings)
    waybill = settings.waybill
    logging.configure("dashboard", options.role, level=waybill.log_level, form=waybill.log_format)
    _warn_if_insecure(settings)
    if options.role == "traces":
        from dashboard_service import traces_receiver  # noqa: PLC0415 (each process imports what it runs)

        return traces_receiver.serve(settings)
    from dashboard_service import server  # noqa: PLC0415

    return server.serve(settings)


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m dashboard_service")
    parser.add_argument("role", nargs="?", choices=("web", "traces"), help="the process to run")
    parser.add_argument("--check", action="store_true", help="verify settings and code, start nothing")
    parser.add_argument("--version", action="version", version=version("waybill-dashboard"))
    options = parser.parse_args(arguments)
    if bool(options.role) == options.check:
        parser.error("expected one of web, traces, or --check")
    return options


def _check(settings: DashboardSettings) -> int:
    """Import every module, build the application, read every template; asks nothing of the network."""
    names = [module.name for module in pkgutil.walk_packages(dashboard_service.__path__, "dashboard_service.")]
    modules = [importlib.import_module(name) for name in names if not name.endswith(".__main__")]
    from dashboard_service import clients, contracts, web  # noqa: PLC0415

    connected = clients.connect(settings)
    app = web.create_app(settings, connected)
    templates = app.jinja_env.list_templates(extensions=["html"])
    for name in templates:
        app.jinja_env.get_template(name)
    methods = sum(len(contracts.work_methods(service)) for service in connected.gateways)
    connected.close()
    sys.stdout.write(
        f"dashboard: settings, {len(modules)} modules, {len(templates)} templates, "
        f"{methods} methods that accept work: all is well\n"
    )
    return 0


def _warn_if_insecure(settings: DashboardSettings) -> None:
    if settings.waybill.insecure:
        log = logging.get_logger()
        log.warning("dashboard.insecure", listen=settings.listen, traces_listen=settings.traces_listen)


if __name__ == "__main__":
    raise SystemExit(main())
