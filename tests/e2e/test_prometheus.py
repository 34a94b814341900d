"""Prometheus finds every process by what it wrote, and each query of the Grafana dashboard has something to ask for."""

import json
import re
import urllib.request
from pathlib import Path

import grpc
import pytest
from chassis.testing.harness import Harness, ServiceUnderTest
from prometheus_client.parser import text_string_to_metric_families
from waybill.metrics.v1 import metrics_pb2, metrics_pb2_grpc

from tests import samples

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]
DASHBOARD = json.loads((ROOT / "deploy" / "grafana" / "waybill.json").read_text())
QUERIES = {
    f"{panel['title']} {target['refId']}": target["expr"]
    for panel in DASHBOARD["panels"]
    for target in panel["targets"]
}
#: Those that Prometheus itself gives every sample, and those of the targets.
OF_THE_TARGET = {"instance", "job", "service", "role"}
METRIC = re.compile(r"\b(?:waybill|process)_\w+")
INGESTED = 5


@pytest.fixture(scope="module")
def scraped(tmp_path_factory):
    """Samples of each process by its role, after some work: (name, labels, value)."""
    services = [ServiceUnderTest("metrics", "metrics_service", roles=("gateway", "worker", "scheduler"))]
    environment = {"WAYBILL_METRICS_LISTEN": "127.0.0.1:0"}
    with Harness(tmp_path_factory.mktemp("prometheus"), services, environment=environment) as stack:
        stack.start()
        ingest = stack.stub("metrics", metrics_pb2_grpc.MetricsServiceStub).IngestSamples
        for number in range(INGESTED):
            stack.finished(ingest(samples.batch("scraped", float(number)), timeout=20))
        with pytest.raises(grpc.RpcError):
            ingest(metrics_pb2.IngestSamplesRequest(), timeout=20)
        targets = [json.loads(path.read_text())[0] for path in (stack.state_dir / "scrape").glob("*.json")]
        found = {target["labels"]["role"]: scrape(target["targets"][0]) for target in targets}
        stack.process("metrics", "worker").stop()
        found["left"] = [path.name for path in (stack.state_dir / "scrape").glob("*-worker-*")]
    return found


def scrape(address):
    with urllib.request.urlopen(f"http://{address}/metrics", timeout=30) as answer:
        families = text_string_to_metric_families(answer.read().decode())
        return [(sample.name, sample.labels, sample.value) for family in families for sample in family.samples]


def value_of(scraped, role, name, **labels):
    """The one sample of this name that has these labels."""
    (value,) = [value for found, has, value in scraped[role] if found == name and labels.items() <= has.items()]
    return value


def test_every_process_says_where_it_is_scraped_until_it_ends(scraped):
    """Gateway, worker and scheduler of one machine, with one setting."""
    assert set(scraped) == {"gateway", "worker", "scheduler", "left"}
    assert scraped["left"] == []


def test_a_gateway_tells_of_rpcs_acceptances_and_queues(scraped):
    """Counted by method and code, by verdict; and what the store knows of each queue."""
    ingest = "waybill.metrics.v1.MetricsService/IngestSamples"
    queue = {"queue": "metrics.ingest"}
    accepted = {"task": "metrics.ingest_samples", "verdict": "accepted"}

    assert value_of(scraped, "gateway", "waybill_rpc_duration_seconds_count", method=ingest, code="OK") == INGESTED
    bad = {"method": ingest, "code": "INVALID_ARGUMENT"}
    assert value_of(scraped, "gateway", "waybill_rpc_duration_seconds_count", **bad) == 1
    assert value_of(scraped, "gateway", "waybill_acceptances_total", **queue, **accepted) == INGESTED
    assert value_of(scraped, "gateway", "waybill_queue_depth", **queue, priority="normal") == 0
    assert value_of(scraped, "gateway", "waybill_store_up") == 1
    assert value_of(scraped, "gateway", "waybill_workers") == 1


def test_a_worker_tells_of_its_slots_and_attempts(scraped):
    """By task and outcome, with how long they ran and had waited."""
    task = {"task": "metrics.ingest_samples"}

    assert value_of(scraped, "worker", "waybill_attempts_total", **task, outcome="succeeded") == INGESTED
    assert value_of(scraped, "worker", "waybill_attempt_duration_seconds_count", **task) == INGESTED
    assert value_of(scraped, "worker", "waybill_queue_wait_seconds_count", **task) == INGESTED
    assert 0 < value_of(scraped, "worker", "waybill_queue_wait_seconds_sum", **task) < 3_600
    assert value_of(scraped, "worker", "waybill_worker_slots") > 0
    assert value_of(scraped, "worker", "waybill_worker_memory_bytes") > 1 << 20


@pytest.mark.parametrize("title", QUERIES)
def test_a_query_of_the_dashboard_asks_for_what_there_is(scraped, title):
    """Each metric that it names is scraped, and has each label that it selects or groups by."""
    query = QUERIES[title]
    known = {}
    for role in ("gateway", "worker", "scheduler"):
        for name, labels, _ in scraped[role]:
            known.setdefault(name, set(OF_THE_TARGET)).update(labels)
    named = METRIC.findall(re.sub(r'"[^"]*"', '""', query))

    assert named
    assert set(named) <= known.keys()
    asked = labels_of(query)
    assert all(asked <= known[name] for name in named), (asked, {name: known[name] for name in named})


def labels_of(query):
    """The labels of its selectors and groupings."""
    bare = re.sub(r'"[^"]*"', '""', query)
    selected = {label for braces in re.findall(r"\{([^}]*)\}", bare) for label in re.findall(r"(\w+)\s*[=!]", braces)}
    grouped = {label.strip() for list_ in re.findall(r"\bby\s*\(([^)]*)\)", bare) for label in list_.split(",")}
    return selected | grouped


def test_the_dashboard_has_a_panel_for_each_metric(scraped):
    """So that nothing is counted that nobody sees; what the kernel says of a process is Prometheus's own."""
    shown = {name for query in QUERIES.values() for name in METRIC.findall(query)}
    told = {name for role in ("gateway", "worker") for name, _, _ in scraped[role] if name.startswith("waybill_")}
    ends = ("_bucket", "_count", "_sum", "_created")
    unseen = {name for name in told - shown if not name.endswith(ends)}

    assert unseen == {"waybill_process"}
