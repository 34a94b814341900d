"""Instants as whole microseconds since 1970, as the database keeps them, and as aware datetimes."""

import uuid
from datetime import UTC, datetime, timedelta

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


def to_us(instant: datetime) -> int:
    """Microseconds since 1970."""
    return (instant - _EPOCH) // _MICROSECOND


def from_us(instant_us: int) -> datetime:
    """Raise OverflowError outside of the years 1 to 9999."""
    return _EPOCH + timedelta(microseconds=instant_us)


def duration_us(duration: timedelta) -> int:
    """Whole microseconds."""
    return duration // _MICROSECOND


def duration_of(microseconds: int) -> timedelta:
    """The inverse of `duration_us`."""
    return timedelta(microseconds=microseconds)


def instant_of(uuid7: str) -> datetime:
    """The end of the millisecond in which a UUIDv7 was made."""
    return _EPOCH + timedelta(milliseconds=(uuid.UUID(uuid7).int >> 80) + 1)
