"""What a process counts, and how Prometheus reads it."""

import http.client
import json
import os
import ssl
import urllib.error
import urllib.request
from pathlib import Path
from types import SimpleNamespace

import pytest
from chassis import exposition as expositions
from chassis.exposition import Exposition, counted, family_of, write_target
from chassis.instruments import MOST_SERIES, SECONDS, Counts, Durations
from chassis.settings import WaybillSettings
from chassis.settling import _Pending, count
from chassis.testing.callers import Callers
from prometheus_client.parser import text_string_to_metric_families
from redis.exceptions import ConnectionError as RedisConnectionError
from waybill.operations.v1 import operations_pb2 as ops

CERTIFICATES = Path(__file__).parent / "certificates"
TLS_FILES = {"tls_cert_file": "reports.pem", "tls_key_file": "reports.key", "tls_ca_file": "ca.pem"}


@pytest.fixture
def counts():
    return Counts("waybill_things", "Things.", ("kind", "end"))


@pytest.fixture
def durations():
    return Durations("waybill_thing_seconds", "Things by time.", ("kind",))


@pytest.fixture
def serving(tmp_path):
    """`serving(*sources)`: the address of an endpoint with these sources."""
    made = []

    def serve(*sources):
        endpoint = Exposition("sample", "worker", "1.2")
        for source in sources:
            endpoint.add(source)
        endpoint.start(WaybillSettings(metrics_listen="127.0.0.1:0", state_dir=tmp_path))
        made.append(endpoint)
        (target,) = (tmp_path / "scrape").glob("*.json")
        (said,) = json.loads(target.read_text())
        return said["targets"][0]

    yield serve
    for endpoint in made:
        endpoint.stop()


def scraped(address):
    """Value of each sample, by its name and labels."""
    with urllib.request.urlopen(f"http://{address}/metrics", timeout=20) as answer:
        families = list(text_string_to_metric_families(answer.read().decode()))
    return {
        (sample.name, *sorted(sample.labels.items())): sample.value for family in families for sample in family.samples
    }


def test_counts_are_kept_by_their_labels(counts):
    """Each set of labels by itself."""
    for end in ("good", "good", "bad"):
        counts.add("a", end)

    assert counts.values == {("a", "good"): 2, ("a", "bad"): 1}


def test_labels_that_clients_make_up_are_bounded(counts, durations):
    """What would be more than the limit is counted under `other`, and nothing is left out."""
    for number in range(MOST_SERIES + 50):
        counts.add(f"made up {number}", "good")
        durations.observe(1.0, f"made up {number}")

    assert (len(counts.values), sum(counts.values.values())) == (MOST_SERIES + 1, MOST_SERIES + 50)
    assert counts.values["other", "other"] == 50
    assert len(durations.values) == MOST_SERIES + 1
    assert sum(sum(cells[:-1]) for cells in durations.values.values()) == MOST_SERIES + 50


def test_durations_become_cumulative_buckets(durations):
    """A duration counts at its bound and at every larger one; one above all counts in +Inf alone."""
    for seconds in (0.0005, SECONDS[0], 0.002, 10_000.0):
        durations.observe(seconds, "a")

    samples = {sample.labels.get("le", sample.name): sample.value for sample in family_of(durations).samples}

    assert (samples["0.001"], samples["0.0025"], samples["600.0"], samples["+Inf"]) == (2, 3, 3, 4)
    assert samples["waybill_thing_seconds_count"] == 4
    assert samples["waybill_thing_seconds_sum"] == pytest.approx(10_000.0035)


@pytest.mark.parametrize(("state", "outcome"), [(5, "succeeded"), (None, "fenced")])
def test_a_settled_attempt_is_counted_once(monkeypatch, state, outcome):
    """By what became of it, with its wait and, where its task ran to an end, its duration."""
    fresh = {
        "ATTEMPTS": Counts("a", "", ("task", "queue", "outcome")),
        "QUEUE_WAIT": Durations("w", "", ("task", "queue")),
        "ATTEMPT_DURATION": Durations("d", "", ("task",)),
    }
    for name, instrument in fresh.items():
        monkeypatch.setattr(f"chassis.settling.{name}", instrument)
    item = SimpleNamespace(task="test.do", queue="test.q", waited_seconds=0.3)
    settlement = SimpleNamespace(outcome=ops.ATTEMPT_OUTCOME_SUCCEEDED)

    count(_Pending(item, settlement, 0.0, 0.02), state)
    count(_Pending(item, settlement, 0.0, None), state)

    assert fresh["ATTEMPTS"].values == {("test.do", "test.q", outcome): 2}
    assert sum(fresh["QUEUE_WAIT"].values["test.do", "test.q"][:-1]) == 2
    assert sum(fresh["ATTEMPT_DURATION"].values["test.do",][:-1]) == 1


def test_a_process_is_scraped_where_it_says(serving):
    """Its sources, the spans that it dropped, who it is, and what the kernel knows of it."""
    address = serving(lambda: [counted("waybill_sample", "A sample.", 7)])

    found = scraped(address)

    assert found["waybill_sample_total",] == 7
    assert found["waybill_process", ("role", "worker"), ("service", "sample"), ("version", "1.2")] == 1
    assert ("waybill_spans_dropped_total",) in found
    assert ("process_resident_memory_bytes",) in found


def test_a_source_that_the_store_fails_leaves_the_others(serving):
    """An outage must not hide what the process itself knows."""

    def away():
        raise RedisConnectionError("away")

    found = scraped(serving(away, lambda: [counted("waybill_sample", "A sample.", 7)]))

    assert found["waybill_sample_total",] == 7


def test_an_endpoint_that_ends_takes_its_target_away(tmp_path):
    """So do targets of processes that died without doing so, at the next start beside them."""
    (tmp_path / "scrape").mkdir()
    dead = tmp_path / "scrape" / "sample-worker-99999999.json"
    dead.write_text("[]")
    endpoint = Exposition("sample", "gateway", "1")
    endpoint.start(WaybillSettings(metrics_listen="127.0.0.1:0", state_dir=tmp_path))
    targets = [path.name for path in (tmp_path / "scrape").iterdir()]

    endpoint.stop()

    assert targets == [f"sample-gateway-{os.getpid()}.json"]
    assert list((tmp_path / "scrape").iterdir()) == []


def test_a_fixed_port_is_told_nowhere_and_one_that_is_taken_stops_nothing(tmp_path):
    """Work goes on without the endpoint; the log says so."""
    first, second = Exposition("sample", "gateway", "1"), Exposition("sample", "worker", "1")
    first.start(WaybillSettings(metrics_listen="127.0.0.1:0", state_dir=tmp_path))
    (target,) = (tmp_path / "scrape").glob("*.json")
    (said,) = json.loads(target.read_text())
    taken = said["targets"][0]

    second.start(WaybillSettings(metrics_listen=taken, state_dir=tmp_path / "second"))

    assert not (tmp_path / "second").exists()
    second.stop()
    first.stop()


def test_without_the_setting_nothing_listens(tmp_path):
    """Off unless it is set."""
    endpoint = Exposition("sample", "gateway", "1")
    endpoint.start(WaybillSettings(state_dir=tmp_path))

    assert list(tmp_path.iterdir()) == []
    endpoint.stop()


def test_beyond_loopback_nobody_listens_without_the_operators_word(tmp_path):
    """Also where the settings were not checked at the start, as in a worker of Celery's own command."""
    endpoint = Exposition("sample", "worker", "1")

    endpoint.start(WaybillSettings(metrics_listen="0.0.0.0:0", state_dir=tmp_path))

    assert list(tmp_path.iterdir()) == []


def test_with_tls_only_who_has_a_certificate_scrapes(tmp_path):
    """Of the same authority, as every client; plain HTTP is not answered."""
    files = {name: CERTIFICATES / file for name, file in TLS_FILES.items()}
    endpoint = Exposition("sample", "worker", "1")
    endpoint.start(WaybillSettings(metrics_listen="127.0.0.1:0", state_dir=tmp_path, **files))
    (target,) = (tmp_path / "scrape").glob("*.json")
    address = json.loads(target.read_text())[0]["targets"][0]
    known, unknown = (ssl.create_default_context(cafile=CERTIFICATES / "ca.pem") for _ in range(2))
    known.load_cert_chain(CERTIFICATES / "alice.pem", CERTIFICATES / "alice.key")

    with urllib.request.urlopen(f"https://{address}/metrics", context=known, timeout=20) as answer:
        assert b"waybill_process" in answer.read()
    for url, context in ((f"https://{address}/metrics", unknown), (f"http://{address}/metrics", None)):
        with pytest.raises((OSError, http.client.HTTPException)):
            urllib.request.urlopen(url, context=context, timeout=20).read()
    endpoint.stop()


def test_a_target_is_read_whole(tmp_path):
    """With the labels that dashboards select by."""
    labels = {"service": "sample", "role": "gateway", "version": "1"}

    target = write_target(tmp_path, "127.0.0.1:9", labels)

    assert json.loads(target.read_text()) == [
        {"targets": ["127.0.0.1:9"], "labels": {"service": "sample", "role": "gateway"}}
    ]


def test_a_process_has_one_endpoint():
    """Whoever asks gets the same."""
    first = expositions.exposition("sample", "gateway")

    assert expositions.exposition() is first
    expositions.shutdown()
    expositions.shutdown()


def test_with_tokens_whoever_scrapes_shows_one_that_may_read(tmp_path):
    """A viewer's or a service's; without one there is nothing to see."""
    callers = Callers.written(tmp_path / "tokens.json")
    endpoint = Exposition("sample", "worker", "1.2")
    endpoint.start(
        WaybillSettings(metrics_listen="127.0.0.1:0", state_dir=tmp_path, tokens_file=callers.path, routes={})
    )
    (target,) = (tmp_path / "scrape").glob("*.json")
    address = json.loads(target.read_text())[0]["targets"][0]

    seen = {}
    for name in ("viewer", "service", "submitter", "nobody", "stranger"):
        request = urllib.request.Request(f"http://{address}/metrics", headers=dict(callers.metadata(name)))
        try:
            with urllib.request.urlopen(request, timeout=20) as answer:
                seen[name] = answer.status
        except urllib.error.HTTPError as error:
            seen[name] = error.code
    endpoint.stop()

    assert seen == {"viewer": 200, "service": 200, "submitter": 403, "nobody": 401, "stranger": 401}
