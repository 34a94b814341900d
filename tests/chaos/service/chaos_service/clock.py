"""A machine whose wall clock is wrong: all that this process's Python code reads of it is off by as much."""

import datetime as dt
import time


def shift(seconds):
    """Move `time.time`, `time.time_ns` and `datetime.now` and `utcnow`; monotonic clocks stay."""
    if not seconds:
        return
    true_time, true_time_ns, true_datetime = time.time, time.time_ns, dt.datetime
    offset = dt.timedelta(seconds=seconds)

    class ShiftedDatetime(true_datetime):
        @classmethod
        def now(cls, tz=None):
            return true_datetime.now(tz) + offset

        @classmethod
        def utcnow(cls):
            return true_datetime.now(dt.UTC).replace(tzinfo=None) + offset

    time.time = lambda: true_time() + seconds
    time.time_ns = lambda: true_time_ns() + int(seconds * 1e9)
    dt.datetime = ShiftedDatetime
