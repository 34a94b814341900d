"""Settings of reports."""

from datetime import timedelta
from pathlib import Path

import pytest
from chassis.settings import SettingsError, load
from reports_service.settings import ReportsSettings


@pytest.fixture(autouse=True)
def _clean(monkeypatch, tmp_path):
    for name in ("LISTEN", "ARTIFACTS", "RETENTION_DAYS", "FONTS", "DATABASE_URL"):
        monkeypatch.delenv(f"REPORTS_{name}", raising=False)
    monkeypatch.setenv("WAYBILL_STATE_DIR", str(tmp_path))


def test_defaults_need_nothing_but_a_state_directory(tmp_path):
    """The gateway on 50053, files under the state directory, kept for 90 days."""
    settings = load(ReportsSettings)

    assert settings.listen == "127.0.0.1:50053"
    assert settings.artifact_folder == tmp_path / "reports" / "artifacts"
    assert settings.retention == timedelta(days=90)
    assert settings.fonts is None


def test_the_folder_of_files_can_be_named(monkeypatch):
    """A volume that several workers share."""
    monkeypatch.setenv("REPORTS_ARTIFACTS", "/srv/reports")

    assert load(ReportsSettings).artifact_folder == Path("/srv/reports")


def test_files_on_this_machine_with_a_redis_on_another_are_refused(monkeypatch):
    """A worker there would write where this gateway does not read."""
    monkeypatch.setenv("WAYBILL_REDIS_URL", "redis://redis.example.com:6379/0")

    with pytest.raises(SettingsError, match="REPORTS_ARTIFACTS"):
        load(ReportsSettings)


def test_all_that_is_wrong_is_told_at_once(monkeypatch):
    """One start, one list."""
    monkeypatch.setenv("REPORTS_RETENTION_DAYS", "0")
    monkeypatch.setenv("REPORTS_LISTEN", "nowhere")

    with pytest.raises(SettingsError) as caught:
        load(ReportsSettings)

    assert caught.value.problems.keys() == {"REPORTS_RETENTION_DAYS", "REPORTS_LISTEN"}
