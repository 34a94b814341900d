"""The processes of a service: which there are, and what they refuse to start with."""

import logging
import sys
import textwrap

import pytest
import structlog
from chassis import process
from chassis.process import Service
from chassis.settings import Address, ServiceSettings
from pydantic_settings import SettingsConfigDict


class DepotSettings(ServiceSettings):
    model_config = SettingsConfigDict(env_prefix="DEPOT_")

    listen: Address = "127.0.0.1:0"


@pytest.fixture(autouse=True)
def logs_as_before():
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()


@pytest.fixture
def service(tmp_path, monkeypatch):
    package = tmp_path / "depot_service"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "__main__.py").write_text("raise AssertionError('a check must not start anything')\n")
    (package / "gateway.py").write_text(
        textwrap.dedent(
            """
            def serve(settings):
                print("served", settings.listen)
                return 7
            """
        )
    )
    (package / "tasks.py").write_text(
        textwrap.dedent(
            """
            from datetime import timedelta

            from chassis.retries import RetryPolicy
            from chassis.worker import Attempt, QueueSpec, ServiceApp
            from google.protobuf.struct_pb2 import Struct

            app = ServiceApp("depot", queues=[QueueSpec("depot.default", tasks=["depot.*"])])

            @app.task(name="depot.load_crate", policy=RetryPolicy())
            def load_crate(attempt: Attempt, request: Struct) -> None: ...
            """
        )
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("WAYBILL_STATE_DIR", str(tmp_path / "state"))
    yield Service(
        name="depot",
        settings=DepotSettings,
        app="depot_service.tasks:app",
        gateway="depot_service.gateway:serve",
        scheduler="depot_service.scheduler:serve",
    )
    for name in [name for name in sys.modules if name.partition(".")[0] == "depot_service"]:
        del sys.modules[name]


def test_a_role_serves_with_the_loaded_settings(service, monkeypatch, capsys):
    """The process's exit code is what its serve function returns."""
    monkeypatch.setenv("DEPOT_LISTEN", "127.0.0.1:50099")

    assert process.run(service, ["gateway"]) == 7
    assert "served 127.0.0.1:50099" in capsys.readouterr().out


def test_wrong_settings_are_all_printed_and_nothing_starts(service, monkeypatch, capsys):
    """Every bad variable is on standard error; the exit code is 2."""
    monkeypatch.setenv("DEPOT_LISTEN", "nowhere")
    monkeypatch.setenv("WAYBILL_LEASE_SECONDS", "soon")

    assert process.run(service, ["gateway"]) == 2

    printed = capsys.readouterr()
    assert "DEPOT_LISTEN" in printed.err
    assert "WAYBILL_LEASE_SECONDS" in printed.err
    assert "served" not in printed.out


def test_a_check_imports_everything_and_opens_the_database(service, tmp_path, capsys):
    """--check prints one line and needs no Redis."""
    assert process.run(service, ["--check"]) == 0

    assert "1 tasks in 1 queues" in capsys.readouterr().out
    assert (tmp_path / "state/depot/depot.db").exists()


def test_a_check_fails_on_a_module_that_does_not_import(service, tmp_path):
    """Code that cannot be imported is found before it is needed."""
    (tmp_path / "depot_service/broken.py").write_text("import nothing_of_this_name\n")

    with pytest.raises(ModuleNotFoundError, match="nothing_of_this_name"):
        process.run(service, ["--check"])


def test_a_worker_of_an_unknown_queue_is_refused(service, capsys):
    """A queue that the service does not own is named, and no worker starts."""
    assert process.run(service, ["worker", "-Q", "depot.default,depot.bulk"]) == 2

    assert "depot has no queue depot.bulk" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [[], ["subscriber"], ["gateway", "--check"], ["janitor"]])
def test_a_process_that_the_service_does_not_have_is_refused(service, arguments, capsys):
    """The usage names those that there are."""
    with pytest.raises(SystemExit) as ended:
        process.run(service, arguments)

    assert ended.value.code == 2
    assert "gateway, worker, scheduler" in capsys.readouterr().err.replace("'", "")
