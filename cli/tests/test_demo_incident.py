"""The demo breaches what only its own load breaches, on a calm machine and on a busy one."""

import pytest
from waybill_cli.demo.incident import CPU, PROCESS, Baseline, NoBaselineError, choose


def processor(number, *idle, state="idle"):
    return Baseline(CPU, {"cpu": str(number), "state": state, "service.name": "demo"}, idle)


def process(*shares):
    return Baseline(PROCESS, {"service.name": "demo"}, shares)


BUSY = [processor(1, 0.1, 0.2), processor(2, 0.4, 0.3)]


def test_a_calm_machine_breaches_the_idle_share_of_its_calmest_processor():
    """Two thirds of the way from the baseline to saturation; the load is bound to that processor."""
    breach = choose([processor(1, 0.7, 0.8), processor(2, 0.9, 0.9), process(0.01)], {0, 1})

    assert (breach.metric, breach.above, breach.processor) == (CPU, False, 1)
    assert breach.threshold == pytest.approx(0.3)
    assert breach.baseline == pytest.approx(0.9)
    assert breach.labels["cpu"] == "2"


def test_every_label_of_the_series_is_kept_so_that_the_rule_selects_one_series():
    """One breach is one alert, one report and one mail."""
    assert choose([processor(1, 0.9)], {0}).labels == {"cpu": "1", "state": "idle", "service.name": "demo"}


def test_other_states_of_a_processor_are_no_idle_share():
    """A high share of user time is not calm."""
    breach = choose([processor(1, 0.95, state="user"), processor(2, 0.6), process(0.01)], {0, 1})

    assert breach.processor == 1


def test_a_processor_that_no_load_can_be_bound_to_is_left_alone():
    """A control group may hold only some of the machine's processors."""
    assert choose([processor(1, 0.99), processor(2, 0.6), process(0.01)], {1}).processor == 1
    assert choose([processor(1, 0.99), process(0.01)], ()).processor is None


def test_a_busy_machine_breaches_what_only_the_load_uses_up():
    """Above three times the highest that the exporting process has used itself."""
    breach = choose([*BUSY, process(0.01, 0.02, 0.015)], {0, 1})

    assert (breach.metric, breach.above, breach.processor) == (PROCESS, True, None)
    assert breach.threshold == pytest.approx(0.06)


def test_a_process_that_used_nothing_still_has_a_threshold_above_nothing():
    """An idle baseline of zero must not make any work at all a breach."""
    assert choose([*BUSY, process(0.0, 0.0)], {0, 1}).threshold == pytest.approx(0.01)


def test_a_baseline_never_breaches_its_own_threshold():
    """The alert fires because of the load and resolves because it ends."""
    calm, busy = choose([processor(1, 0.5, 0.9)], {0}), choose([*BUSY, process(0.3, 0.9)], {0, 1})

    assert calm.threshold < 0.5
    assert busy.threshold > 0.9


def test_a_baseline_without_either_metric_says_what_was_expected():
    """The error names both metrics."""
    with pytest.raises(NoBaselineError, match=f"expected samples of {CPU} with state=idle or of {PROCESS}"):
        choose([*BUSY, Baseline("system.memory.usage", {}, [1.0]), process()], {0, 1})
