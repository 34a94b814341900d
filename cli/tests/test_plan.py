"""A plan decides every address, variable and process before anything starts, and names what stands in the way."""

import socket
from importlib.metadata import entry_points
from pathlib import Path

import pytest
from waybill_cli.client import Tls
from waybill_cli.installed import GROUP, listeners, services
from waybill_cli.plan import PlanError, clashes, environment_of, make_plan, processes
from waybill_cli.processes import Stage

STATE = Path("/var/lib/some stack")
REDIS = "redis://127.0.0.1:7000/0"
# Whatever else is installed.
OURS = ("metrics", "notify", "reports")


def names(plan):
    return [spec.name for spec in processes(plan, REDIS)]


def test_a_whole_stack_has_every_process_of_every_service():
    """Gateway and worker each; subscribers, scheduler, dashboard and receiver where they belong."""
    plan = make_plan({}, STATE, only=OURS)

    assert names(plan) == [
        "metrics gateway",
        "metrics worker",
        "metrics scheduler",
        "notify gateway",
        "notify worker",
        "notify subscriber",
        "reports gateway",
        "reports worker",
        "reports subscriber",
        "dashboard web",
        "dashboard traces",
    ]


def test_every_installed_service_is_part_of_a_stack_without_being_listed():
    """Who declares the entry point is started, with the processes that its own `__main__` names."""
    plan = make_plan({}, STATE)

    assert set(plan.services) == {point.name for point in entry_points(group=GROUP)} >= set(OURS)
    assert services()["notify"] == ("subscriber",)
    offsets = [listener.offset for listener in listeners().values()]
    assert len(set(offsets)) == len(offsets)


def test_only_some_services_without_the_dashboard():
    """--only and --no-dashboard leave out what is not wanted."""
    plan = make_plan({}, STATE, only=["notify"], dashboard=False)

    assert names(plan) == ["notify gateway", "notify worker", "notify subscriber"]
    assert set(plan.addresses) == {"notify"}


def test_more_workers_are_told_apart_by_number():
    """--workers starts so many of each service, all with the same command."""
    plan = make_plan({}, STATE, only=["metrics"], dashboard=False, workers=2)

    workers = [spec for spec in processes(plan, REDIS) if spec.stage is Stage.WORKER]

    assert [spec.name for spec in workers] == ["metrics worker 1", "metrics worker 2"]
    assert {spec.command[1:] for spec in workers} == {("-m", "metrics_service", "worker")}


def test_a_port_base_moves_every_listener():
    """Two stacks side by side need one option."""
    plan = make_plan({"METRICS_LISTEN": "127.0.0.1:1"}, STATE, only=OURS, port_base=51_000)

    assert plan.addresses == {
        "metrics": "127.0.0.1:51000",
        "notify": "127.0.0.1:51001",
        "reports": "127.0.0.1:51002",
        "dashboard": "127.0.0.1:51003",
        "traces": "127.0.0.1:51004",
    }


def test_an_address_is_taken_from_option_base_environment_default_in_this_order():
    """The more particular says more."""
    environment = {"NOTIFY_LISTEN": "127.0.0.1:2", "REPORTS_LISTEN": "127.0.0.1:3"}

    plan = make_plan(environment, STATE, listen={"reports": "[::1]:4"})

    assert plan.addresses["metrics"] == "127.0.0.1:50051"
    assert plan.addresses["notify"] == "127.0.0.1:2"
    assert plan.addresses["reports"] == "[::1]:4"


def test_the_environment_of_the_processes_is_explicit():
    """Redis, state, routes, listeners and the trace receiver are set whatever the defaults are."""
    plan = make_plan({"PATH": "/bin"}, STATE, only=OURS, port_base=51_000)

    environment = environment_of(plan, REDIS)

    assert environment["PATH"] == "/bin"
    assert environment["WAYBILL_REDIS_URL"] == REDIS
    assert environment["WAYBILL_STATE_DIR"] == str(STATE)
    assert environment["WAYBILL_ROUTES"] == (
        "metrics=127.0.0.1:51000,notify=127.0.0.1:51001,reports=127.0.0.1:51002,"
        "opentelemetry.proto.collector.metrics.v1=metrics"
    )
    assert environment["REPORTS_LISTEN"] == "127.0.0.1:51002"
    assert environment["OTEL_EXPORTER_OTLP_ENDPOINT"] == "http://127.0.0.1:51004"


def test_a_configured_collector_is_left_alone():
    """Spans go where the environment says, when it says so."""
    plan = make_plan({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4317"}, STATE)

    assert environment_of(plan, REDIS)["OTEL_EXPORTER_OTLP_ENDPOINT"] == "http://collector:4317"


def test_routes_to_services_elsewhere_are_kept():
    """A stack of one service reaches the others where WAYBILL_ROUTES says."""
    plan = make_plan({"WAYBILL_ROUTES": "metrics=far:1,notify=far:2"}, STATE, only=["notify"])

    routes = environment_of(plan, REDIS)["WAYBILL_ROUTES"].split(",")

    assert "metrics=far:1" in routes
    assert "notify=127.0.0.1:50052" in routes


def test_a_taken_port_is_one_line_that_names_the_setting():
    """Nothing is started when a listener cannot be opened."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        plan = make_plan({}, STATE, only=["reports"], dashboard=False, listen={"reports": address})

        found = list(clashes(plan))

    assert found == [f"{address} is in use: set REPORTS_LISTEN, --listen reports=HOST:PORT or --port-base"]


def test_two_listeners_on_one_address_are_refused():
    """The clash is found before either is opened."""
    plan = make_plan({}, STATE, listen={"reports": "127.0.0.1:0", "notify": "127.0.0.1:0"})

    assert any("reports and notify would both listen on 127.0.0.1:0: set REPORTS_LISTEN" in c for c in clashes(plan))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"listen": {"nobody": "127.0.0.1:1"}}, "--listen nobody: expected one of metrics"),
        ({"listen": {"metrics": "1"}}, "METRICS_LISTEN 1: expected host:port"),
        ({"only": ["reports", "nobody"]}, "--only nobody: expected one or more of metrics"),
    ],
)
def test_a_contradictory_plan_says_what_was_expected(options, message):
    """Wrong options are told in words of the options."""
    with pytest.raises(PlanError, match=message):
        make_plan({}, STATE, **options)


def test_replicated_durability_needs_a_redis_of_its_own():
    """The embedded Valkey has no replica that could acknowledge."""
    with pytest.raises(PlanError, match="set WAYBILL_REDIS_URL"):
        make_plan({"WAYBILL_DURABILITY": "replicated"}, STATE)

    assert make_plan({"WAYBILL_DURABILITY": "replicated", "WAYBILL_REDIS_URL": REDIS}, STATE).redis_url == REDIS


def test_a_stack_with_tokens_is_asked_with_its_own(tmp_path):
    """The token of its processes is the command's for readiness, and goes with spans to the stack's own receiver."""
    (tmp_path / "token").write_text("wbt_x\n")
    plan = make_plan({"WAYBILL_TOKEN_FILE": str(tmp_path / "token")}, STATE)

    assert plan.access.token == "wbt_x"
    assert environment_of(plan, REDIS)["OTEL_EXPORTER_OTLP_HEADERS"] == "authorization=Bearer wbt_x"
    elsewhere = {**plan.environment, "OTEL_EXPORTER_OTLP_ENDPOINT": "http://jaeger:4317"}
    assert "OTEL_EXPORTER_OTLP_HEADERS" not in environment_of(make_plan(elsewhere, STATE), REDIS)


def test_a_stack_with_tls_is_asked_over_tls():
    """What its processes are told of certificates holds for the questions whether they are ready."""
    files = {f"WAYBILL_TLS_{name}_FILE": f"/etc/waybill/{name}.pem" for name in ("CA", "CERT", "KEY")}

    assert make_plan({}, STATE).tls is None
    environment = environment_of(make_plan(files, STATE), REDIS)
    assert environment["OTEL_EXPORTER_OTLP_ENDPOINT"] == "https://127.0.0.1:50054"
    assert environment["OTEL_EXPORTER_OTLP_CERTIFICATE"] == "/etc/waybill/CA.pem"
    assert make_plan(files, STATE).tls == Tls(
        Path("/etc/waybill/CA.pem"), Path("/etc/waybill/CERT.pem"), Path("/etc/waybill/KEY.pem")
    )
