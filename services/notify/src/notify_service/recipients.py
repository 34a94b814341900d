"""Recipients and their channels: what is taken as an address, a URL, a secret."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterator
from typing import Final
from urllib.parse import urlsplit

from chassis.errors import Violations
from waybill.notify.v1 import notify_pb2

from notify_service.identifiers import check_id
from notify_service.mail_addresses import is_address

MAX_CHANNELS: Final = 10
MAX_DISPLAY_NAME: Final = 100
MAX_URL: Final = 2_048
SECRET_PREFIX: Final = "whsec_"  # noqa: S105 - what every secret begins with
#: What stands for a secret in the payload of an operation begins with it.
SEALED_PREFIX: Final = "sealed:"
SECRET_BYTES: Final = range(24, 65)


def check(
    recipient: notify_pb2.Recipient,
    path: str,
    violations: Violations,
    *,
    id_required: bool = True,
    sealed: bool = False,
) -> None:
    """Add everything that is wrong with a recipient. `sealed`: references may stand in place of secrets."""
    if id_required or recipient.recipient_id:
        check_id(recipient.recipient_id, f"{path}.recipient_id", violations)
    violations.require(
        len(recipient.display_name) <= MAX_DISPLAY_NAME and (recipient.display_name or " ").isprintable(),
        f"{path}.display_name",
        f"expected one line of at most {MAX_DISPLAY_NAME} characters",
    )
    count = len(recipient.channels)
    violations.require(
        1 <= count <= MAX_CHANNELS, f"{path}.channels", f"has {count} channels; expected 1 to {MAX_CHANNELS}"
    )
    for index, channel in enumerate(recipient.channels):
        _check_channel(channel, f"{path}.channels[{index}]", violations, sealed=sealed)


def url_problem(url: str) -> str:
    """What is wrong with a webhook's URL; "" for nothing."""
    if len(url) > MAX_URL:
        return f"has {len(url)} characters; at most {MAX_URL} are taken"
    if not url.isascii() or any(character <= " " or character == "\x7f" for character in url):
        return "has a space, a control character, or one beyond ASCII; percent-encode it, or use punycode in the host"
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError as error:
        return f"is no URL: {error}"
    problems = {
        "expected a URL that begins with http:// or https://": parts.scheme not in {"http", "https"},
        "has no host": not host,
        "has port 0": port == 0,
        "carries a user name or password; a webhook is authenticated by its signature": "@" in parts.netloc,
        "has a fragment, which no request carries": bool(parts.fragment),
    }
    return next((problem for problem, holds in problems.items() if holds), "")


def secret_problem(secret: str) -> str:
    """What is wrong with a webhook's secret, without telling any of it; "" for nothing."""
    expected = f"expected {SECRET_PREFIX} and base64 of {SECRET_BYTES[0]} to {SECRET_BYTES[-1]} bytes"
    if not secret:
        return f"is required; {expected}"
    try:
        key = base64.b64decode(secret.removeprefix(SECRET_PREFIX), validate=True)
    except (binascii.Error, ValueError):
        return f"is no base64; {expected}"
    if not secret.startswith(SECRET_PREFIX) or len(key) not in SECRET_BYTES:
        return f"is of another form; {expected}"
    return ""


def without_secrets(recipient: notify_pb2.Recipient) -> notify_pb2.Recipient:
    """A copy as answers show it."""
    shown = notify_pb2.Recipient()
    shown.CopyFrom(recipient)
    for webhook in webhooks(shown):
        webhook.secret = ""
    return shown


def with_kept_secrets(recipient: notify_pb2.Recipient, stored: notify_pb2.Recipient) -> notify_pb2.Recipient:
    """A copy whose webhooks without a secret have the one stored for the same URL."""
    known = {webhook.url: webhook.secret for webhook in webhooks(stored)}
    completed = notify_pb2.Recipient()
    completed.CopyFrom(recipient)
    for webhook in webhooks(completed):
        webhook.secret = webhook.secret or known.get(webhook.url, "")
    return completed


def webhooks(recipient: notify_pb2.Recipient) -> Iterator[notify_pb2.WebhookChannel]:
    """The recipient's webhooks, to be read or changed in place."""
    return (channel.webhook for channel in recipient.channels if channel.HasField("webhook"))


def _check_channel(channel: notify_pb2.Channel, path: str, violations: Violations, *, sealed: bool) -> None:
    if channel.HasField("email"):
        address = channel.email.address
        violations.require(is_address(address), f"{path}.email.address", "expected one address in ASCII, name@domain")
    elif channel.HasField("webhook"):
        url, secret = channel.webhook.url, channel.webhook.secret
        opaque = sealed and secret.startswith(SEALED_PREFIX)
        for field, problem in (("url", url_problem(url)), ("secret", "" if opaque else secret_problem(secret))):
            violations.require(not problem, f"{path}.webhook.{field}", problem)
    else:
        violations.add(path, "is empty; expected email or webhook")
