"""Settings of reports: variables that begin with REPORTS_."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

from chassis.settings import Address, Folder, ServiceSettings
from pydantic import Field
from pydantic_settings import SettingsConfigDict


class ReportsSettings(ServiceSettings):
    """What the processes of this service are told."""

    model_config = SettingsConfigDict(env_prefix="REPORTS_")

    listen: Address = "127.0.0.1:50053"
    # Where report files lie. Absent: `artifacts` in the service's part of the state directory.
    artifacts: Folder | None = None
    # How long a report is kept.
    retention_days: int = Field(90, ge=1, le=3_650)
    # Typefaces for scripts that the built-in ones lack, Chinese for one. Absent: none.
    fonts: Folder | None = None

    @property
    def artifact_folder(self) -> Path:
        return self.artifacts or self.folder / "artifacts"

    @property
    def retention(self) -> timedelta:
        return timedelta(days=self.retention_days)

    def stored_locally(self) -> tuple[str, ...]:
        return (*super().stored_locally(), "REPORTS_ARTIFACTS")
