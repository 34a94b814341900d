import pytest
from chassis.settings import SettingsError
from dashboard_service import settings


@pytest.fixture
def environment(monkeypatch):
    def put(**variables):
        for name, value in variables.items():
            monkeypatch.setenv(name, value)

    return put


def test_defaults_suit_one_machine():
    """Without a variable it listens on loopback and asks the default routes."""
    found = settings.read()

    assert (found.listen, found.traces_listen, found.traces_target) == (
        "127.0.0.1:8080",
        "127.0.0.1:50054",
        "127.0.0.1:50054",
    )
    assert set(found.waybill.targets) == {"metrics", "notify", "reports"}


def test_every_bad_variable_is_reported_at_once(environment):
    """One start tells all that is wrong, with what was expected."""
    environment(
        DASHBOARD_LISTEN="8080",
        DASHBOARD_JAEGER_URL="jaeger",
        DASHBOARD_MAX_STREAMS="0",
        DASHBOARD_TRACES_MAX_SPANS="many",
        WAYBILL_ROUTES="metrics",
    )

    with pytest.raises(SettingsError) as refused:
        settings.read()

    assert set(refused.value.problems) == {
        "DASHBOARD_LISTEN",
        "DASHBOARD_JAEGER_URL",
        "DASHBOARD_MAX_STREAMS",
        "DASHBOARD_TRACES_MAX_SPANS",
        "WAYBILL_ROUTES",
    }


@pytest.mark.parametrize("variable", ["DASHBOARD_LISTEN", "DASHBOARD_TRACES_LISTEN"])
def test_a_listener_beyond_loopback_is_refused_without_tls_and_authentication(environment, variable):
    """It is said what to set."""
    environment(**{variable: "0.0.0.0:9999"})

    with pytest.raises(SettingsError) as refused:
        settings.read()

    assert set(refused.value.problems) == {variable}
    for named in ("WAYBILL_TLS_CERT_FILE", "WAYBILL_TOKENS_FILE", "WAYBILL_INSECURE=1"):
        assert named in refused.value.problems[variable]


def test_tls_and_tokens_open_both_listeners(environment, tmp_path):
    """TLS alone does not: a browser shows no certificate unless it is asked for one."""
    (tmp_path / "some.pem").write_text("-")
    (tmp_path / "tokens.json").write_text("{}")
    files = {f"WAYBILL_TLS_{name}_FILE": str(tmp_path / "some.pem") for name in ("CERT", "KEY", "CA")}
    environment(DASHBOARD_LISTEN="0.0.0.0:1", DASHBOARD_TRACES_LISTEN="0.0.0.0:2", **files)
    with pytest.raises(SettingsError) as refused:
        settings.read()
    assert set(refused.value.problems) == {"DASHBOARD_LISTEN"}

    environment(WAYBILL_TOKENS_FILE=str(tmp_path / "tokens.json"))
    assert settings.read().listen == "0.0.0.0:1"


def test_insecure_opens_it(environment):
    """Who says so gets a listener on every interface."""
    environment(DASHBOARD_LISTEN="0.0.0.0:9999", WAYBILL_INSECURE="1")

    assert settings.read().listen == "0.0.0.0:9999"


def test_a_redis_elsewhere_is_no_concern_of_the_dashboard(environment):
    """It keeps no state on this machine, so nothing contradicts."""
    environment(WAYBILL_REDIS_URL="redis://10.1.2.3:6379/0")

    assert settings.read().stored_locally() == ()


def test_hosts_are_the_loopback_names_its_own_and_those_that_are_added(environment):
    """The Host header must name this dashboard."""
    environment(DASHBOARD_LISTEN="10.0.0.7:80", DASHBOARD_HOSTS="waybill.example, ops", WAYBILL_INSECURE="1")

    assert settings.read().trusted_hosts == (
        "localhost",
        "127.0.0.1",
        "[::1]",
        "10.0.0.7",
        "waybill.example",
        "ops",
    )
