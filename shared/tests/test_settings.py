"""Settings: read from the environment, refused all at once."""

import os

import pytest
from chassis import settings
from chassis.sentinels import SentinelUrl
from chassis.settings import CommaList, ServiceSettings, SettingsError, WaybillSettings, load
from pydantic_settings import SettingsConfigDict


class DepotSettings(ServiceSettings):
    model_config = SettingsConfigDict(env_prefix="DEPOT_")

    listen: settings.Address = "127.0.0.1:50099"
    docks: CommaList = ("a",)


@pytest.fixture(autouse=True)
def environment(monkeypatch):
    for name in list(os.environ):
        if name.startswith(("WAYBILL_", "DEPOT_")):
            monkeypatch.delenv(name)
    return monkeypatch


def problems(**variables):
    with pytest.MonkeyPatch.context() as patch:
        for name, value in variables.items():
            patch.setenv(name, value)
        with pytest.raises(SettingsError) as raised:
            load(DepotSettings)
    return raised.value.problems


def test_nothing_needs_to_be_set():
    """On one machine the defaults stand."""
    loaded = load(DepotSettings)

    assert loaded.service == "depot"
    assert loaded.database == f"sqlite:///{loaded.waybill.state_dir}/depot/depot.db"
    assert loaded.waybill.targets["metrics"] == "127.0.0.1:50051"
    assert loaded.waybill.packages == {"opentelemetry.proto.collector.metrics.v1": "metrics"}


def test_a_file_set_to_nothing_is_not_set(environment):
    """As compose and shells leave a variable that they were not given."""
    for name in ("TLS_CERT_FILE", "TLS_KEY_FILE", "TLS_CA_FILE", "TOKENS_FILE", "TOKEN_FILE", "REDIS_PASSWORD_FILE"):
        environment.setenv(f"WAYBILL_{name}", "")

    loaded = load(WaybillSettings)

    assert not loaded.tls
    assert not loaded.asks_who_calls


def test_every_bad_variable_is_named_at_once():
    """One start tells all that has to be mended, shared variables and the service's own."""
    found = problems(
        WAYBILL_LEASE_SECONDS="soon",
        WAYBILL_DURABILITY="sometimes",
        WAYBILL_ROUTES="metrics",
        WAYBILL_REDIS_URL="http://127.0.0.1",
        DEPOT_LISTEN="nowhere",
        DEPOT_WORKER_CONCURRENCY="-1",
    )

    assert sorted(found) == [
        "DEPOT_LISTEN",
        "DEPOT_WORKER_CONCURRENCY",
        "WAYBILL_DURABILITY",
        "WAYBILL_LEASE_SECONDS",
        "WAYBILL_REDIS_URL",
        "WAYBILL_ROUTES",
    ]
    assert "'always'" in found["WAYBILL_DURABILITY"]
    assert "host:port" in found["DEPOT_LISTEN"]


def test_what_makes_no_sense_together_is_refused_with_all_else(environment):
    """A number of replicas that nobody waits for; shares and durations out of bounds."""
    assert "replicated" in problems(WAYBILL_REPLICAS="2")["WAYBILL_REPLICAS"]
    found = problems(
        WAYBILL_DURABILITY="replicated",
        WAYBILL_REPLICAS="0",
        WAYBILL_STORE_HIGH_WATER="1.5",
        WAYBILL_TAIL_SECONDS="0",
        WAYBILL_QUEUE_BOUND="0",
    )
    assert sorted(found) == [
        "WAYBILL_QUEUE_BOUND",
        "WAYBILL_REPLICAS",
        "WAYBILL_STORE_HIGH_WATER",
        "WAYBILL_TAIL_SECONDS",
    ]


def test_replicas_are_waited_for_where_that_is_asked_for(environment):
    """By default for one."""
    assert load(DepotSettings).waybill.awaited_replicas == 0
    environment.setenv("WAYBILL_DURABILITY", "replicated")
    assert load(DepotSettings).waybill.awaited_replicas == 1
    environment.setenv("WAYBILL_REPLICAS", "2")
    assert load(DepotSettings).waybill.awaited_replicas == 2


def test_a_secret_is_not_repeated():
    """What a URL holds does not reach the terminal."""
    found = problems(DEPOT_DATABASE_URL="mysql://user:hunter2@db/x")

    assert "hunter2" not in str(found)
    assert "postgresql" in found["DEPOT_DATABASE_URL"]


def test_lists_and_tables_are_written_with_commas(environment):
    """No variable has to hold JSON."""
    environment.setenv("DEPOT_DOCKS", "north, south")
    environment.setenv("WAYBILL_ROUTES", "depot=[::1]:1,some.proto=depot")

    loaded = load(DepotSettings)

    assert loaded.docks == ("north", "south")
    assert loaded.waybill.targets == {"depot": "[::1]:1"}


def test_a_package_needs_an_owner_with_a_route():
    """A package whose owner nobody can reach is a mistake in the table."""
    assert "WAYBILL_ROUTES" in problems(WAYBILL_ROUTES="depot=127.0.0.1:1,some.proto=nobody")


def test_a_remote_redis_refuses_local_state(environment):
    """Workers on several machines must not each keep a database of their own."""
    found = problems(WAYBILL_REDIS_URL="redis://redis.example:6379/0")
    assert "DEPOT_DATABASE_URL" in found["WAYBILL_REDIS_URL"]

    environment.setenv("WAYBILL_REDIS_URL", "redis://redis.example:6379/0")
    environment.setenv("DEPOT_DATABASE_URL", "postgresql://depot@db/depot")
    assert load(DepotSettings).database == "postgresql://depot@db/depot"


def test_a_shared_folder_allows_a_remote_redis(environment):
    """The folder may be declared shared."""
    environment.setenv("WAYBILL_REDIS_URL", "redis://redis.example:6379/0")
    environment.setenv("WAYBILL_SHARED_STATE_DIR", "1")

    assert load(DepotSettings).database.startswith("sqlite:")


@pytest.mark.parametrize("listen", ["0.0.0.0:1", "[::]:1", "10.1.2.3:1", "depot.example:1"])
def test_an_open_listener_is_refused_and_told_what_to_set(listen):
    """Beyond loopback, a listener needs TLS or the word that it is meant to be open."""
    problem = problems(DEPOT_LISTEN=listen)["DEPOT_LISTEN"]

    assert "WAYBILL_TLS_CERT_FILE" in problem
    assert "WAYBILL_INSECURE=1" in problem


def test_an_open_endpoint_for_prometheus_is_refused_like_any_listener():
    """Each by its own variable, and both at once."""
    found = problems(DEPOT_LISTEN="0.0.0.0:1", WAYBILL_METRICS_LISTEN="0.0.0.0:9464")

    assert set(found) == {"DEPOT_LISTEN", "WAYBILL_METRICS_LISTEN"}
    assert "WAYBILL_INSECURE=1" in found["WAYBILL_METRICS_LISTEN"]


@pytest.mark.parametrize("listen", ["127.0.0.1:1", "127.9.9.9:1", "[::1]:1", "localhost:1"])
def test_a_loopback_listener_needs_nothing(environment, listen):
    """Nobody but this machine reaches it."""
    environment.setenv("DEPOT_LISTEN", listen)

    assert load(DepotSettings).listen == listen


def test_insecure_opens_a_listener(environment):
    """WAYBILL_INSECURE=1 is the operator's word."""
    environment.setenv("DEPOT_LISTEN", "0.0.0.0:1")
    environment.setenv("WAYBILL_INSECURE", "1")

    assert load(DepotSettings).waybill.insecure


def test_tls_needs_all_its_files(tmp_path):
    """A certificate without its key or CA is refused, each missing one by name."""
    certificate = tmp_path / "cert.pem"
    certificate.write_text("-")

    found = problems(WAYBILL_TLS_CERT_FILE=str(certificate))

    assert sorted(found) == ["WAYBILL_TLS_CA_FILE", "WAYBILL_TLS_KEY_FILE"]


@pytest.fixture
def pem(tmp_path):
    """Variables of TLS, with files that exist."""
    path = tmp_path / "some.pem"
    path.write_text("-")
    return {f"WAYBILL_TLS_{name}_FILE": str(path) for name in ("CERT", "KEY", "CA")}


def test_tls_with_certificates_or_tokens_opens_a_listener(environment, pem, tmp_path):
    """Either says who calls."""
    for name, value in {**pem, "DEPOT_LISTEN": "0.0.0.0:1"}.items():
        environment.setenv(name, value)
    assert load(DepotSettings).waybill.client_certificates

    tokens = tmp_path / "tokens.json"
    tokens.write_text('{"tokens": []}')
    environment.setenv("WAYBILL_TOKENS_FILE", str(tokens))
    assert not load(DepotSettings).waybill.client_certificates

    environment.setenv("WAYBILL_TLS_CLIENT_CERTIFICATES", "required")
    assert load(DepotSettings).waybill.client_certificates


def test_tokens_without_tls_open_no_listener(tmp_path):
    """They would cross the network in the open."""
    tokens = tmp_path / "tokens.json"
    tokens.write_text("{}")

    found = problems(DEPOT_LISTEN="0.0.0.0:1", WAYBILL_TOKENS_FILE=str(tokens))

    assert "WAYBILL_TLS_CERT_FILE" in found["DEPOT_LISTEN"]


def test_tls_that_asks_nobody_who_calls_is_refused(pem):
    """Encryption alone keeps nobody out."""
    found = problems(**pem, WAYBILL_TLS_CLIENT_CERTIFICATES="none", DEPOT_LISTEN="0.0.0.0:1")

    assert set(found) == {"WAYBILL_TLS_CLIENT_CERTIFICATES", "DEPOT_LISTEN"}
    assert "WAYBILL_TOKENS_FILE" in found["DEPOT_LISTEN"]


@pytest.mark.parametrize(
    "text", ["{", '{"tokens": 1}', '{"tokens": [{"name": "a", "roles": ["root"], "sha256": "s3"}]}']
)
def test_a_file_of_tokens_that_cannot_be_read_is_refused_at_the_start(tmp_path, text):
    """And so is one that is not there; nothing of it is quoted."""
    tokens = tmp_path / "tokens.json"
    assert "WAYBILL_TOKENS_FILE" in problems(WAYBILL_TOKENS_FILE=str(tokens))
    tokens.write_text(text)

    problem = problems(WAYBILL_TOKENS_FILE=str(tokens))["WAYBILL_TOKENS_FILE"]

    assert "root" not in problem
    assert "s3" not in problem


def test_a_token_is_not_sent_to_another_machine_in_the_open(environment):
    """TLS, or the word that it may be."""
    away = {"WAYBILL_ROUTES": "depot=10.1.2.3:1", "WAYBILL_TOKEN": "hunter2"}
    problem = problems(**away)["WAYBILL_TOKEN"]
    assert "without TLS" in problem
    assert "hunter2" not in problem

    for name, value in {**away, "WAYBILL_INSECURE": "1"}.items():
        environment.setenv(name, value)
    loaded = load(DepotSettings)
    assert "hunter2" not in repr(loaded)


def test_the_shared_settings_load_alone():
    """Programs that are no service read what all share."""
    assert load(WaybillSettings).lease_seconds == 15.0


@pytest.mark.parametrize(
    "url",
    [
        "sentinel://one:26379",
        "sentinel://one:26379,two:26379",
        "sentinel:///waybill/0",
        "sentinel://one,,two/waybill",
        "sentinel://one:port/waybill",
        "sentinel://one/waybill/first",
        "sentinel://one/waybill/0?x=y",
    ],
)
def test_a_url_of_sentinels_that_does_not_say_all_is_refused(url):
    """With what was expected of it."""
    assert "sentinel://host:port,host:port/name/db" in problems(WAYBILL_REDIS_URL=url)["WAYBILL_REDIS_URL"]


def test_a_url_of_sentinels_says_whom_to_ask_and_for_what():
    """Ports and database have defaults; user and password are the servers'."""
    whole = SentinelUrl.parse("sentinel://app:p%40ss@one:26380,[::1],three/waybill/2")
    brief = SentinelUrl.parse("sentinel://one/waybill")

    assert whole == SentinelUrl((("one", 26_380), ("::1", 26_379), ("three", 26_379)), "waybill", 2, "app", "p@ss")
    assert brief == SentinelUrl((("one", 26_379),), "waybill", 0, None, None)


@pytest.mark.parametrize(
    ("url", "whole"),
    [
        ("redis://metrics@valkey:6379/0", "redis://metrics:p%40ss%2F@valkey:6379/0"),
        ("redis://valkey:6379/0", "redis://:p%40ss%2F@valkey:6379/0"),
        ("rediss://m%40@[::1]:6380", "rediss://m%40:p%40ss%2F@[::1]:6380"),
        ("unix:///run/valkey.sock?db=1", "unix://:p%40ss%2F@/run/valkey.sock?db=1"),
        ("sentinel://app@one:26380,[::1]/waybill/2", "sentinel://app:p%40ss%2F@one:26380,[::1]/waybill/2"),
    ],
)
def test_the_stores_password_may_be_in_a_file(url, whole, environment, tmp_path):
    """It is its user's; what a URL takes for its own signs is written otherwise."""
    (tmp_path / "password").write_text("p@ss/\n")
    environment.setenv("WAYBILL_REDIS_URL", url)
    environment.setenv("WAYBILL_REDIS_PASSWORD_FILE", str(tmp_path / "password"))
    environment.setenv("WAYBILL_SHARED_STATE_DIR", "1")

    assert load(DepotSettings).waybill.store_url == whole


def test_a_password_that_is_twice_there_or_not_at_all_is_refused(tmp_path):
    """At the start, and without a word of what the file holds."""
    (tmp_path / "password").write_text("two words")

    twice = problems(WAYBILL_REDIS_URL="redis://:a@127.0.0.1", WAYBILL_REDIS_PASSWORD_FILE=__file__)
    wrong = problems(WAYBILL_REDIS_PASSWORD_FILE=str(tmp_path / "password"))
    absent = problems(WAYBILL_REDIS_PASSWORD_FILE=str(tmp_path / "absent"))

    assert set(twice) == set(wrong) == set(absent) == {"WAYBILL_REDIS_PASSWORD_FILE"}
    assert "two words" not in wrong["WAYBILL_REDIS_PASSWORD_FILE"]


def test_what_sentinels_name_may_be_another_machine(environment):
    """Even where they are on this one; a file of this machine's own is refused with it."""
    url = "sentinel://127.0.0.1:26379/waybill/0"

    assert "DEPOT_DATABASE_URL" in problems(WAYBILL_REDIS_URL=url)["WAYBILL_REDIS_URL"]

    environment.setenv("WAYBILL_REDIS_URL", url)
    environment.setenv("WAYBILL_SHARED_STATE_DIR", "1")
    assert load(DepotSettings).waybill.redis_url == url
