"""docker-compose.yml says nothing that the services do not understand, and leaves no process out."""

import importlib
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from chassis.settings import ServiceSettings, SettingsError, WaybillSettings, host_and_port, load, prefix_of

ROOT = Path(__file__).resolve().parents[2]
SERVICES = sorted(path.parent.name for path in ROOT.glob("services/*/pyproject.toml"))
# The receiver for stacks without Jaeger.
NOT_NEEDED = {("dashboard", "traces")}


def interpolated(text):
    """As docker-compose reads it where no variable is set."""
    return re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", text)


COMPOSE = yaml.safe_load(interpolated((ROOT / "docker-compose.yml").read_text(encoding="utf-8")))
ALL = COMPOSE["services"]
OURS = {name: each for name, each in ALL.items() if "build" in each}


def service_of(container):
    return container["build"]["args"]["SERVICE"]


def settings_class(service):
    module = importlib.import_module(f"{service}_service.settings")
    classes = [each for each in vars(module).values() if isinstance(each, type) and issubclass(each, ServiceSettings)]
    (found,) = [each for each in classes if prefix_of(each)]
    return found


def variables_of(cls):
    return {f"{prefix_of(cls)}{name.upper()}" for name in cls.model_fields if name != "waybill"}


@pytest.fixture
def surroundings(monkeypatch):
    """Replaces the environment by that of a container."""

    def use(container, **changes):
        for name in os.environ:
            if name.startswith(("WAYBILL_", "OTEL_", *(f"{service.upper()}_" for service in SERVICES))):
                monkeypatch.delenv(name)
        for name, value in {**container["environment"], **changes}.items():
            monkeypatch.setenv(name, value)

    return use


@pytest.mark.parametrize("name", OURS)
def test_every_variable_is_a_setting_of_the_service_that_gets_it(name):
    """A misspelt variable would be read by nobody, and say nothing."""
    cls = settings_class(service_of(OURS[name]))

    known = variables_of(cls) | variables_of(WaybillSettings)
    unknown = {variable for variable in OURS[name]["environment"] if not variable.startswith("OTEL_")} - known

    assert unknown == set()


@pytest.mark.parametrize("name", OURS)
def test_the_settings_of_a_process_are_accepted_as_they_stand(name, surroundings):
    """No value of the file is refused, alone or together with the others."""
    surroundings(OURS[name])

    settings = load(settings_class(service_of(OURS[name])))

    assert settings.waybill.redis_url == "redis://valkey:6379/0"


@pytest.mark.parametrize("service", sorted({service_of(each) for each in OURS.values()} - {"dashboard"}))
def test_a_listener_is_refused_without_the_one_switch_that_opens_it(service, surroundings):
    """Closed by default: were WAYBILL_INSECURE taken out of the file, the gateways would not start."""
    surroundings(OURS[f"{service}-gateway"], WAYBILL_INSECURE="0")

    with pytest.raises(SettingsError, match=f"{service.upper()}_LISTEN"):
        load(settings_class(service))


@pytest.mark.parametrize("service", SERVICES)
def test_every_process_of_a_service_is_there(service):
    """What `python -m <package>` offers is what the stack runs, each once."""
    usage = subprocess.run(
        [sys.executable, "-m", f"{service}_service", "--help"], capture_output=True, text=True, check=True
    ).stdout
    offered = {(service, role) for role in re.search(r"\{([a-z,]+)\}", usage)[1].split(",")}

    present = [(service_of(each), each["command"]) for each in OURS.values() if service_of(each) == service]

    assert sorted(present) == sorted(offered - NOT_NEEDED)


@pytest.mark.parametrize("name", OURS)
def test_a_container_is_named_after_its_process_and_built_from_the_one_dockerfile(name):
    """Nothing else builds an image, and no registry is asked for one of that name."""
    container = OURS[name]

    assert container["build"]["dockerfile"] == "deploy/Dockerfile"
    assert service_of(container) in SERVICES
    assert container["image"] == f"localhost/waybill-{service_of(container)}"
    assert name == f"{service_of(container)}-{container['command']}"


@pytest.mark.parametrize("name", ALL)
def test_every_container_has_a_health_check(name):
    """Its own, or the one of the image, which knows every process."""
    container = ALL[name]

    if name not in OURS:
        assert container["healthcheck"]["test"][0] == "CMD"
        return
    assert "healthcheck" not in container
    assert re.search(
        r"^HEALTHCHECK .*probe\.py", (ROOT / "deploy/Dockerfile").read_text(encoding="utf-8"), re.MULTILINE
    )
    assert f'    "{container["command"]}": ' in (ROOT / "deploy/probe.py").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", ALL)
def test_nothing_is_published_beyond_loopback(name):
    """Without TLS and authentication only this machine may reach a port."""
    container = ALL[name]

    assert [port for port in container.get("ports", []) if not str(port).startswith("127.0.0.1:")] == []
    assert "network_mode" not in container
    assert "privileged" not in container


@pytest.mark.parametrize("service", [service for service in SERVICES if f"{service}-gateway" in OURS])
def test_a_route_leads_to_where_the_gateway_listens(service, surroundings):
    """The name is a container's, the port is the one that it opens and, if any, publishes."""
    gateway = OURS[f"{service}-gateway"]
    surroundings(gateway)
    settings = load(settings_class(service))

    port = host_and_port(settings.listen)[1]

    assert settings.waybill.targets[service] == f"{service}-gateway:{port}"
    assert all(published.endswith(f":{port}:{port}") for published in gateway["ports"])


@pytest.mark.parametrize("service", [service for service in SERVICES if f"{service}-gateway" in OURS])
def test_the_processes_of_a_service_share_one_volume_and_no_other_service_has_it(service):
    """The database and the files of a service are its own."""
    volumes = {volume for each in OURS.values() if service_of(each) == service for volume in each["volumes"]}
    others = {volume for each in OURS.values() if service_of(each) != service for volume in each.get("volumes", [])}

    assert volumes == {f"{service}-state:/var/lib/waybill"}
    assert volumes & others == set()
    assert f"{service}-state" in COMPOSE["volumes"]
    assert "WAYBILL_STATE_DIR=/var/lib/waybill" in (ROOT / "deploy/Dockerfile").read_text(encoding="utf-8")


def test_valkey_keeps_what_it_has_answered_and_evicts_nothing():
    """What health compares with WAYBILL_DURABILITY=always, and what makes a full store refuse instead of forget."""
    command = ALL["valkey"]["command"]
    options = dict(zip(command[1::2], command[2::2], strict=True))

    assert options["--appendonly"] == "yes"
    assert options["--appendfsync"] == "always"
    assert options["--maxmemory-policy"] == "noeviction"
    assert ALL["valkey"]["volumes"] == ["valkey-data:/data"]


@pytest.mark.parametrize("name", OURS)
def test_spans_go_to_jaeger(name):
    """By OTLP over gRPC, to a container of this file."""
    assert OURS[name]["environment"]["OTEL_EXPORTER_OTLP_ENDPOINT"] == "http://jaeger:4317"
    assert "jaeger" in ALL


def test_what_the_file_takes_from_the_environment_is_documented():
    """Each variable is named in docs/deploying.md."""
    used = set(re.findall(r"\$\{(\w+)", (ROOT / "docker-compose.yml").read_text(encoding="utf-8")))
    documented = (ROOT / "docs/deploying.md").read_text(encoding="utf-8")

    assert {variable for variable in used if f"`{variable}`" not in documented} == set()
