"""Settings: what they default to, and how they are refused."""

from datetime import timedelta

import pytest
from chassis.settings import SettingsError, load
from metrics_service.settings import MetricsSettings


@pytest.fixture
def environment(monkeypatch, tmp_path):
    monkeypatch.setenv("WAYBILL_STATE_DIR", str(tmp_path))
    return monkeypatch


def test_the_defaults(environment, tmp_path):
    settings = load(MetricsSettings)

    assert settings.listen == "127.0.0.1:50051"
    assert settings.database == f"sqlite:///{tmp_path}/metrics/metrics.db"
    assert settings.evaluation_interval_seconds == 5
    assert settings.allowed_lateness == timedelta(hours=1)
    assert settings.retention_10_seconds == timedelta(hours=24)
    assert settings.retention_1_minute == timedelta(days=14)
    assert settings.retention_1_hour == timedelta(days=400)


@pytest.mark.parametrize("text", ["PT2H", "02:00:00", "P0DT2H"])
def test_durations_are_written_in_iso_8601_or_as_a_clock(environment, text):
    environment.setenv("METRICS_ALLOWED_LATENESS", text)

    assert load(MetricsSettings).allowed_lateness == timedelta(hours=2)


def test_all_bad_variables_are_told_at_once(environment):
    environment.setenv("METRICS_ALLOWED_LATENESS", "soon")
    environment.setenv("METRICS_EVALUATION_INTERVAL_SECONDS", "0.5")
    environment.setenv("METRICS_RETENTION_1_HOUR", "PT1H")

    with pytest.raises(SettingsError) as refused:
        load(MetricsSettings)

    assert set(refused.value.problems) == {
        "METRICS_ALLOWED_LATENESS",
        "METRICS_EVALUATION_INTERVAL_SECONDS",
        "METRICS_RETENTION_1_HOUR",
    }
