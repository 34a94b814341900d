"""Where a browser stands in every service's events, as one opaque text: the id of a server-sent event.

Guarantee: `decode(encode(cursors)) == cursors`. A text that this module did not write is refused, never guessed at.
"""

import base64
import binascii
import json
from collections.abc import Mapping

from chassis.errors import FieldViolation, InvalidArgument


def encode(cursors: Mapping[str, str]) -> str:
    """Cursors by service as URL-safe base64 of JSON, without padding; empty for none."""
    if not cursors:
        return ""
    text = json.dumps(dict(sorted(cursors.items())), separators=(",", ":"))
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def decode(text: str, field: str = "cursor") -> dict[str, str]:
    """The cursors by service; raises InvalidArgument, naming `field`, for any other text."""
    if not text:
        return {}
    try:
        padded = text + "=" * (-len(text) % 4)
        found = json.loads(base64.b64decode(padded, altchars=b"-_", validate=True))
    except (binascii.Error, UnicodeError, ValueError):
        found = None
    if not isinstance(found, dict) or not all(isinstance(value, str) for value in found.values()):
        raise InvalidArgument([FieldViolation(field, "is not a position that this dashboard gave out")])
    return found
