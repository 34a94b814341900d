"""Settings of notify: variables that begin with NOTIFY_."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from chassis.settings import Address, CommaList, ServiceSettings
from pydantic import AfterValidator, Field
from pydantic_settings import SettingsConfigDict

from notify_service.allowance import Allowance
from notify_service.mail_addresses import address_of
from notify_service.mail_url import SmtpServer, parse_url


def _mail_url(value: str) -> str:
    if value:
        parse_url(value)
    return value


def _sender(value: str) -> str:
    address_of(value)
    return value


def _allowance(value: tuple[str, ...]) -> tuple[str, ...]:
    Allowance.parse(value)
    return value


class NotifySettings(ServiceSettings):
    """What the processes of this service are told."""

    model_config = SettingsConfigDict(env_prefix="NOTIFY_")

    listen: Address = "127.0.0.1:50052"
    # Empty: a Maildir in the service's part of the state directory.
    mail_url: Annotated[str, AfterValidator(_mail_url), Field(repr=False)] = ""
    mail_from: Annotated[str, AfterValidator(_sender)] = "Waybill <waybill@localhost>"
    # For each step of a session: connecting, a command, the message.
    mail_timeout_seconds: float = Field(15.0, gt=0, le=60)
    # `all`, or host names, addresses and networks with commas between them. Empty: public addresses alone.
    webhook_allow_private: Annotated[CommaList, AfterValidator(_allowance)] = ()
    # For a whole request.
    webhook_timeout_seconds: float = Field(15.0, gt=0, le=60)
    # Of one mail, together.
    max_attachment_bytes: int = Field(20 << 20, ge=1_024, le=100 << 20)

    @property
    def mail_target(self) -> Path | SmtpServer:
        return parse_url(self.mail_url) if self.mail_url else self.folder / "Maildir"

    @property
    def allowance(self) -> Allowance:
        return Allowance.parse(self.webhook_allow_private)

    def stored_locally(self) -> tuple[str, ...]:
        local = isinstance(self.mail_target, Path)
        return (*super().stored_locally(), "NOTIFY_MAIL_URL") if local else super().stored_locally()
