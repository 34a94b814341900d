"""Alert rules: when a metric is wrong."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import IntEnum

from metrics_service.queries import Buckets, Selector
from metrics_service.rollups import Aggregation, Resolution
from metrics_service.series import Labels

DEFAULT_WINDOW = timedelta(seconds=30)
MIN_WINDOW = timedelta(seconds=10)
MAX_WINDOW = timedelta(hours=24)
# The longest window that is computed from 10 s buckets.
FINE_WINDOW = timedelta(hours=1)
MAX_FOR = timedelta(days=7)
MAX_ANNOTATIONS = 32
MAX_ANNOTATION_LENGTH = 4096
MAX_DISPLAY_NAME_LENGTH = 255
RULE_ID_RULE = r"[a-z][a-z0-9-]{0,62}"


class Comparison(IntEnum):
    """Numbered as the contract's enum."""

    ABOVE = 1
    BELOW = 2

    def breached(self, value: float, threshold: float) -> bool:
        return value > threshold if self is Comparison.ABOVE else value < threshold

    def worse(self, one: float, other: float) -> float:
        """The value that lies further beyond any threshold."""
        return max(one, other) if self is Comparison.ABOVE else min(one, other)


@dataclass(frozen=True, slots=True)
class AlertRule:
    """A threshold on the value of each selected series over the last `window`.

    The breach must last for `for_duration` before the alert fires; `display_name` empty: the rule_id.
    """

    rule_id: str
    display_name: str
    selector: Selector
    aggregation: Aggregation
    comparison: Comparison
    threshold: float
    window: timedelta
    for_duration: timedelta
    labels: Labels
    annotations: Labels
    disabled: bool = False

    @property
    def title(self) -> str:
        return self.display_name or self.rule_id

    def window_at(self, instant: datetime) -> Buckets:
        """The buckets that an evaluation looks at: the whole ones that overlap [instant - window, instant].

        So it looks back for the window and up to one bucket more. Buckets have 10 s; for windows
        over an hour 1 min, which keeps what one evaluation reads within 1,441 rows a series.
        """
        resolution = Resolution.TEN_SECONDS if self.window <= FINE_WINDOW else Resolution.ONE_MINUTE
        return Buckets.over(instant - self.window, instant + timedelta(microseconds=1), resolution)


@dataclass(frozen=True, slots=True)
class StoredRule:
    """A rule and when it was written."""

    rule: AlertRule
    create_time: datetime
    update_time: datetime
