"""Which metric the demo breaches, and where its threshold lies. Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from statistics import mean

CPU = "system.cpu.utilization"
PROCESS = "process.cpu.utilization"
# A processor that is idle for less than this leaves no room for a load of ours to be seen.
MIN_IDLE = 0.5
# Between what the processor's idle share was and 0: two thirds of the way to saturation.
_IDLE_LEFT = 1 / 3
# Above the highest share that the exporting process itself has used.
_PROCESS_FACTOR = 3.0
_PROCESS_MARGIN = 0.01


class NoBaselineError(Exception):
    """The exporter has sent none of the metrics that the demo could breach."""


@dataclass(frozen=True, slots=True)
class Baseline:
    """One series as it was before the load."""

    metric: str
    labels: Mapping[str, str]
    values: Sequence[float]


@dataclass(frozen=True, slots=True)
class Breach:
    """What the demo's rule watches and what its load must do."""

    metric: str
    labels: Mapping[str, str]
    above: bool
    threshold: float
    # Mean before the load.
    baseline: float
    # The processor that the load is bound to, from 0; None: all of them, unbound.
    processor: int | None

    @property
    def subject(self) -> str:
        """What it is called in a sentence."""
        if self.processor is None:
            return "processor time of the demo's own process"
        return f"idle time of processor {self.processor + 1}"


def choose(baselines: Sequence[Baseline], processors: Collection[int]) -> Breach:
    """The breach that a load of our own is sure to cause and its end is sure to undo.

    `processors` are those that a load can be bound to and fill, from 0. On a calm machine: the idle
    share of the calmest of them, which a bound load takes to 0 whatever else runs. Where none is calm
    others could cause the breach or prolong it: there it is the processor time of the exporting
    process, which nothing but the load uses up.
    """
    idle = [each for each in baselines if _is_idle_share(each) and _processor(each) in processors]
    calmest = max(idle, key=lambda each: mean(each.values), default=None)
    if calmest is not None and mean(calmest.values) >= MIN_IDLE:
        return _of_processor(calmest)
    own = next((each for each in baselines if each.metric == PROCESS and each.values), None)
    if own is None:
        raise NoBaselineError(f"expected samples of {CPU} with state=idle or of {PROCESS}")
    return _of_process(own)


def _is_idle_share(series: Baseline) -> bool:
    return series.metric == CPU and series.labels.get("state") == "idle" and bool(series.values)


def _processor(series: Baseline) -> int:
    """From 0; the instrumentation numbers them from 1."""
    return int(series.labels["cpu"]) - 1


def _of_processor(series: Baseline) -> Breach:
    level = mean(series.values)
    return Breach(
        series.metric,
        series.labels,
        above=False,
        threshold=level * _IDLE_LEFT,
        baseline=level,
        processor=_processor(series),
    )


def _of_process(series: Baseline) -> Breach:
    highest = max(series.values)
    return Breach(
        series.metric,
        series.labels,
        above=True,
        threshold=max(highest * _PROCESS_FACTOR, highest + _PROCESS_MARGIN),
        baseline=mean(series.values),
        processor=None,
    )
