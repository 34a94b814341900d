"""The report of a resolved alert: what it says, and what it shows."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from reports_service import incident
from reports_service.documents import NONE, Chart, Sample, Series, Table, Text, Tone, Window
from reports_service.incident import Exhibit, Incident
from reports_service.queries import Answer

BEGAN = datetime(2026, 8, 1, 14, 10, 50, tzinfo=UTC)
STEP = timedelta(seconds=10)
WINDOW = Window(BEGAN - timedelta(minutes=5), BEGAN + timedelta(minutes=15))

CPU = Incident(
    alert_id="01989f6e-7f3a-7c11-9b1e-3c5d8a2f4e10",
    rule_id="cpu-saturation",
    name="CPU saturation on checkout",
    metric="system.cpu.utilization",
    labels={"host.name": "web-1", "severity": "page"},
    annotations={"summary": "The processor is full.", "runbook": "https://runbooks.example.com/cpu"},
    above=True,
    threshold=0.8,
    worst=0.947,
    began=BEGAN,
    fired=BEGAN + timedelta(minutes=1),
    resolved=BEGAN + timedelta(minutes=11, seconds=5),
    trace_id="4bf92f3577b34da6a3ce929d0e0e4736",
)


def cpu_series():
    """Ten values at 0.3 before, sixty at 0.9 during, five at 0.2 after the breach."""
    begin = BEGAN - 10 * STEP
    values = [0.3] * 10 + [0.9] * 66 + [0.2] * 5
    samples = tuple(Sample(begin + i * STEP, v) for i, v in enumerate(values))
    return Series(CPU.metric, {"host.name": "web-1"}, "1", samples)


def a_report(breach=CPU, answer=None, related=()):
    answer = Answer((cpu_series(),), STEP) if answer is None else answer
    breached = Exhibit("System CPU utilization", breach.metric, answer)
    created = breach.resolved + timedelta(seconds=5)
    return incident.report(breach, breached, related, window=WINDOW, report_id="r1", created=created)


def plain(text):
    return text.replace("\u00a0", " ")


def sections(document, kind):
    return [section for section in document.sections if isinstance(section, kind)]


def test_the_head_says_what_a_director_asks_first():
    """How bad, how long, whether it is over."""
    document = a_report()

    assert document.title == "CPU saturation on checkout"
    assert plain(document.subtitle) == "system.cpu.utilization above 80 % for 11 min 5 s"
    assert document.status.tone is Tone.GOOD
    assert document.status.label == "Resolved"
    assert {label: plain(value) for label, value in document.headlines} == {
        "Worst value": "94.7 %",
        "Threshold": "> 80 %",
        "Duration": "11 min 5 s",
        "Until it fired": "1 min",
    }


def test_the_facts_name_rule_times_labels_and_ids():
    """What somebody who looks further needs."""
    facts = dict(a_report().facts)

    assert facts == {
        "Rule": "cpu-saturation",
        "Metric": "system.cpu.utilization",
        "Began": "2026-08-01 14:10:50 UTC",
        "Fired": "2026-08-01 14:11:50 UTC",
        "Resolved": "2026-08-01 14:21:55 UTC",
        "host.name": "web-1",
        "severity": "page",
        "runbook": "https://runbooks.example.com/cpu",
        "Alert": "01989f6e-7f3a-7c11-9b1e-3c5d8a2f4e10",
        "Trace": "4bf92f3577b34da6a3ce929d0e0e4736",
    }


def test_what_happened_is_told_in_sentences():
    """The rule's own summary first."""
    (text,) = sections(a_report(), Text)

    summary, told = (plain(paragraph) for paragraph in text.paragraphs)
    assert summary == "The processor is full."
    assert told == (
        "system.cpu.utilization was above its threshold of 80 % from 2026-08-01 14:10:50 to 14:21:55 UTC, "
        "for 11 min 5 s. The alert fired at 14:11:50 UTC, 1 min after the breach was first seen. "
        "The worst value that an evaluation saw was 94.7 %, 1.18 times the threshold."
    )


def test_a_breach_over_midnight_says_both_days():
    """A time without its day would mislead."""
    (text,) = sections(a_report(replace(CPU, resolved=CPU.began + timedelta(days=1))), Text)

    assert "from 2026-08-01 14:10:50 to 2026-08-02 14:10:50 UTC, for 1 d." in plain(text.paragraphs[-1])


def test_an_alert_that_fired_with_its_breach_fired_at_once():
    """A rule without `for`."""
    (text,) = sections(a_report(replace(CPU, fired=CPU.began)), Text)

    assert "The alert fired at once." in text.paragraphs[-1]


def test_a_value_below_its_threshold_is_called_so():
    """And is not said to be so many times the threshold."""
    low = replace(CPU, above=False, threshold=0.2, worst=0.05)
    document = a_report(low)

    assert "below its threshold of 20 %" in plain(sections(document, Text)[0].paragraphs[-1])
    assert "times" not in sections(document, Text)[0].paragraphs[-1]
    assert plain(dict(document.headlines)["Threshold"]) == "< 20 %"


def test_the_first_chart_shows_the_breach_against_its_threshold():
    """Shaded from begin to end, with the moment at which it fired."""
    chart = a_report().charts[0]

    assert chart.series == (cpu_series(),)
    assert chart.threshold == 0.8
    assert chart.incident == Window(CPU.began, CPU.resolved)
    assert chart.fired == CPU.fired


def test_related_charts_share_the_time_axis_and_the_shade():
    """But have no threshold: it is not theirs."""
    memory = Exhibit("Memory", "system.memory.utilization", Answer((cpu_series(),), STEP))
    chart = a_report(related=[memory]).charts[1]

    assert (chart.title, chart.threshold, chart.window, chart.incident) == (
        "Memory",
        None,
        WINDOW,
        Window(CPU.began, CPU.resolved),
    )


def test_a_table_compares_before_during_and_after():
    """Samples, least, mean and greatest value, and how many lie beyond the threshold."""
    (table,) = sections(a_report(), Table)

    assert table.columns == ("Phase", "Values", "Min", "Mean", "Max", "Above threshold")
    assert [tuple(map(plain, row)) for row in table.rows] == [
        ("Before", "10", "30.0 %", "30.0 %", "30.0 %", "0 %"),
        ("During", "67", "20.0 %", "89.0 %", "90.0 %", "99 %"),
        ("After", "4", "20.0 %", "20.0 %", "20.0 %", "0 %"),
    ]


def test_a_phase_without_samples_has_no_figures():
    """The report is made right after the end."""
    early = Series(CPU.metric, {}, "1", tuple(s for s in cpu_series().samples if s.time < CPU.resolved))
    (table,) = sections(a_report(answer=Answer((early,), STEP)), Table)

    assert table.rows[2] == ("After", "0", NONE, NONE, NONE, NONE)


def test_a_report_without_any_sample_still_tells_the_alert():
    """The samples may be past their retention."""
    document = a_report(answer=Answer(()))

    assert sections(document, Table) == []
    assert len(sections(document, Chart)) == 1
    assert dict(document.headlines)["Worst value"] == "0.947"


def test_many_labels_become_a_table():
    """They would drown the facts."""
    labels = {f"label{i:02}": str(i) for i in range(20)}
    document = a_report(replace(CPU, labels=labels))

    assert sections(document, Table)[-1] == Table("Labels", ("Label", "Value"), tuple(sorted(labels.items())))
    assert "label00" not in dict(document.facts)


@pytest.mark.parametrize(
    ("metric", "title"),
    [
        ("system.cpu.utilization", "System CPU utilization"),
        ("http.server.request_duration", "HTTP server request duration"),
        ("queue_depth", "Queue depth"),
        ("a:b/c-d", "A b c d"),
    ],
)
def test_a_metric_name_becomes_a_title(metric, title):
    """For who does not speak in dots."""
    assert incident.humane(metric) == title
