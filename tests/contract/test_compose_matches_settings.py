"""docker-compose.yml says nothing that the services do not understand, and leaves no process out."""

import importlib
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from chassis import credentials
from chassis.credentials import Document
from chassis.roles import Role
from chassis.settings import ServiceSettings, SettingsError, WaybillSettings, host_and_port, load, prefix_of

ROOT = Path(__file__).resolve().parents[2]
SERVICES = sorted(path.parent.name for path in ROOT.glob("services/*/pyproject.toml"))
# The receiver for stacks without Jaeger.
NOT_NEEDED = {("dashboard", "traces")}
TLS_FILES = ("WAYBILL_TLS_CERT_FILE", "WAYBILL_TLS_KEY_FILE", "WAYBILL_TLS_CA_FILE")


def interpolated(text):
    """As docker-compose reads it where no variable is set."""
    return re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", text)


COMPOSE = yaml.safe_load(interpolated((ROOT / "docker-compose.yml").read_text(encoding="utf-8")))
ALL = COMPOSE["services"]
# Run to their end before the others begin (deploy/setup.py).
ONE_SHOTS = {name: each for name, each in ALL.items() if "entrypoint" in each}
OURS = {name: each for name, each in ALL.items() if "build" in each and name not in ONE_SHOTS}
STORES = {"valkey", "postgres"}


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
def surroundings(monkeypatch, tmp_path):
    """Replaces the environment by that of a container, with what `setup` has made for it."""
    made = {"ca.crt": "ca.pem", "tls.crt": "reports.pem", "tls.key": "reports.key"}
    for name, file in made.items():
        shutil.copy(ROOT / "shared/tests/certificates" / file, tmp_path / name)
    document, token = credentials.issue(Document(), "reports", [Role.SERVICE])
    credentials.write(tmp_path / "tokens.json", document)
    (tmp_path / "token").write_text(token)
    (tmp_path / "valkey-password").write_text("secret")

    def use(container, **changes):
        for name in os.environ:
            if name.startswith(("WAYBILL_", "OTEL_", *(f"{service.upper()}_" for service in SERVICES))):
                monkeypatch.delenv(name)
        for name, value in {**container["environment"], **changes}.items():
            monkeypatch.setenv(name, value.replace("/run/waybill", str(tmp_path)))

    return use


@pytest.mark.parametrize("name", OURS)
def test_every_variable_is_a_setting_of_the_service_that_gets_it(name):
    """A misspelt variable would be read by nobody, and say nothing."""
    cls = settings_class(service_of(OURS[name]))

    known = variables_of(cls) | variables_of(WaybillSettings)
    foreign = ("OTEL_", "PGPASSFILE")
    unknown = {variable for variable in OURS[name]["environment"] if not variable.startswith(foreign)} - known

    assert unknown == set()


@pytest.mark.parametrize("name", OURS)
def test_the_settings_of_a_process_are_accepted_as_they_stand(name, surroundings):
    """No value of the file is refused, alone or together with the others."""
    surroundings(OURS[name])

    settings = load(settings_class(service_of(OURS[name])))

    if settings.service != "dashboard":
        assert settings.waybill.store_url == f"redis://{settings.service}:secret@valkey:6379/0"


@pytest.mark.parametrize("name", OURS)
def test_nothing_is_open(name, surroundings):
    """TLS, and tokens that say who calls; without certificates what listens does not start."""
    container = OURS[name]
    surroundings(container)
    settings = load(settings_class(service_of(container)))
    assert settings.waybill.tls
    assert settings.waybill.asks_who_calls
    assert not settings.waybill.insecure

    surroundings(container, **dict.fromkeys(TLS_FILES, ""))
    with pytest.raises(SettingsError, match=f"{service_of(container).upper()}_LISTEN"):
        load(settings_class(service_of(container)))


def test_nothing_in_the_file_opens_a_listener():
    """Not even for those who do not look."""
    assert "WAYBILL_INSECURE" not in (ROOT / "docker-compose.yml").read_text(encoding="utf-8")


@pytest.mark.parametrize("service", SERVICES)
def test_setup_makes_the_credentials_of_a_service_which_nobody_else_has(service):
    """Its volume is where the settings say, and read-only there."""
    mounted = {
        name for name, each in ALL.items() if any(f"{service}-credentials:" in it for it in each.get("volumes", []))
    }

    assert f"{service}-credentials:/credentials/{service}" in ONE_SHOTS["setup"]["volumes"]
    assert mounted == {*ONE_SHOTS, *(name for name, each in OURS.items() if service_of(each) == service)}
    for each in (each for each in OURS.values() if service_of(each) == service):
        assert f"{service}-credentials:/run/waybill:ro" in each["volumes"]


def test_only_setup_has_the_authority():
    """Who has its key lets in whomever it likes."""
    assert {name for name, each in ALL.items() if any("authority:" in it for it in each.get("volumes", []))} == {
        *ONE_SHOTS
    }


def test_the_stores_are_reached_by_domain_services_alone():
    """Who writes there forges operations: not the dashboard, which browsers reach, nor what others have written."""
    domain = {name for name, each in OURS.items() if service_of(each) != "dashboard"}

    assert COMPOSE["networks"]["stores"] == {"internal": True}
    assert {name for name, each in ALL.items() if "stores" in each.get("networks", ())} == {
        *STORES,
        *domain,
        "stores",
    }
    assert all(ALL[name]["networks"] == ["stores"] and "ports" not in ALL[name] for name in STORES)


@pytest.mark.parametrize("service", [service for service in SERVICES if f"{service}-gateway" in OURS])
def test_the_database_of_a_service_is_its_own_in_postgresql(service):
    """The role and the database that `stores` makes; the password comes by PGPASSFILE."""
    for each in (each for each in OURS.values() if service_of(each) == service):
        assert each["environment"][f"{service.upper()}_DATABASE_URL"] == f"postgresql://{service}@postgres/{service}"
        assert each["environment"]["PGPASSFILE"] == "/run/waybill/pgpass"


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

    if name in ONE_SHOTS:
        assert "restart" not in container
        assert container["healthcheck"] == {"disable": True}
        return
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
    """Who wants other machines to reach a port says so."""
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
def test_the_processes_of_a_service_share_its_volumes_and_no_other_service_has_them(service):
    """The files and the credentials of a service are its own."""
    volumes = {volume for each in OURS.values() if service_of(each) == service for volume in each["volumes"]}
    others = {volume for each in OURS.values() if service_of(each) != service for volume in each.get("volumes", [])}

    assert volumes == {f"{service}-state:/var/lib/waybill", f"{service}-credentials:/run/waybill:ro"}
    assert volumes & others == set()
    assert {f"{service}-state", f"{service}-credentials"} <= set(COMPOSE["volumes"])
    assert "WAYBILL_STATE_DIR=/var/lib/waybill" in (ROOT / "deploy/Dockerfile").read_text(encoding="utf-8")


def test_valkey_keeps_what_it_has_answered_and_evicts_nothing():
    """What health compares with WAYBILL_DURABILITY=always, and what makes a full store refuse instead of forget."""
    command = ALL["valkey"]["command"]
    options = dict(zip(command[1::2], command[2::2], strict=True))

    assert options["--appendonly"] == "yes"
    assert options["--appendfsync"] == "always"
    assert options["--maxmemory-policy"] == "noeviction"
    assert "valkey-data:/data" in ALL["valkey"]["volumes"]


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
