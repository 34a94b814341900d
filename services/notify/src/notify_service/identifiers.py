"""Ids that clients choose."""

from __future__ import annotations

import re
from typing import Final

from chassis.errors import Violations

_ID: Final = re.compile(r"[a-z0-9][a-z0-9_.-]{0,62}")


def check_id(value: str, path: str, violations: Violations) -> bool:
    """Whether it is a resource id; adds a violation when it is not."""
    expected = "1 to 63 of a-z, 0-9, '_', '.' and '-', beginning with a letter or digit"
    problem = "is required" if not value else f"is {value[:80]!r}"
    return violations.require(_ID.fullmatch(value), path, f"{problem}; expected {expected}")
