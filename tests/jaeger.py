"""The real Jaeger under test: in memory, on ports of its own, and what its HTTP API tells of it."""

import time
from dataclasses import dataclass, field

import httpx
import yaml
from chassis.testing.harness import quiet_port

from conftest import infrastructure

CALL_SECONDS = 20


@dataclass(frozen=True)
class JaegerSpan:
    """As the HTTP API tells it; the parent is the CHILD_OF of the same trace, everything else is a link."""

    trace_id: str
    span_id: str
    parent_id: str
    service: str
    name: str
    tags: dict = field(default_factory=dict)
    links: frozenset = frozenset()


class Jaeger:
    """A Jaeger whose process the harness ends.

    Args:
        also_to: another OTLP endpoint that is sent every span as well; empty for none.
    """

    def __init__(self, harness, name, also_to=""):
        self.endpoint, self.pages = (f"127.0.0.1:{quiet_port()}" for _ in range(2))
        file = harness.directory / f"{name}.yaml"
        file.write_text(yaml.safe_dump(self._configuration(also_to)), encoding="utf-8")
        self.process = collector(harness, name, file)

    def spans(self, trace_id):
        """Every span of the trace; none where there is no such trace."""
        answer = httpx.get(f"http://{self.pages}/api/traces/{trace_id}", timeout=CALL_SECONDS)
        if answer.status_code == httpx.codes.NOT_FOUND:
            return []
        return [span for trace in answer.raise_for_status().json()["data"] for span in spans_of(trace)]

    def found(self, service, **tags):
        """Trace ids that its search by tags finds."""
        query = {"service": service, "tags": _json(tags), "lookback": "1h", "limit": 100}
        answer = httpx.get(f"http://{self.pages}/api/traces", params=query, timeout=CALL_SECONDS).raise_for_status()
        return {trace["traceID"] for trace in answer.json()["data"]}

    def graph(self):
        """The service graph, as caller and called."""
        query = {"endTs": int(time.time() * 1000) + 60_000, "lookback": 3_600_000}
        answer = httpx.get(f"http://{self.pages}/api/dependencies", params=query, timeout=CALL_SECONDS)
        return {(each["parent"], each["child"]) for each in answer.raise_for_status().json()["data"]}

    def _configuration(self, also_to):
        exporters = {"jaeger_storage_exporter": {"trace_storage": "memory"}}
        if also_to:
            exporters["otlp"] = {"endpoint": also_to, "tls": {"insecure": True}}
        return {
            "extensions": {
                "jaeger_storage": {"backends": {"memory": {"memory": {"max_traces": 100_000}}}},
                "jaeger_query": {
                    "storage": {"traces": "memory"},
                    "http": {"endpoint": self.pages},
                    "grpc": {"endpoint": f"127.0.0.1:{quiet_port()}"},
                },
            },
            "receivers": {"otlp": {"protocols": {"grpc": {"endpoint": self.endpoint}}}},
            "exporters": exporters,
            "service": {
                "extensions": ["jaeger_storage", "jaeger_query"],
                "pipelines": {"traces": {"receivers": ["otlp"], "exporters": list(exporters)}},
                "telemetry": {"metrics": {"level": "none"}},
            },
        }


def collector(harness, name, file, **environment):
    """A Collector of Jaeger's distribution with this configuration, started."""
    process = harness.program(name, [infrastructure("jaeger"), "--config", str(file)], environment=environment)
    process.start()
    process.wait_for_line("Everything is ready", timeout=60)
    return process


def spans_of(trace):
    """The spans of one trace of the API's."""
    services = {key: process["serviceName"] for key, process in trace["processes"].items()}
    for raw in trace["spans"]:
        references = [(each["refType"], each["traceID"], each["spanID"]) for each in raw["references"]]
        parents = [each for each in references if each[0] == "CHILD_OF" and each[1] == raw["traceID"]]
        yield JaegerSpan(
            trace_id=raw["traceID"],
            span_id=raw["spanID"],
            parent_id=parents[0][2] if parents else "",
            service=services[raw["processID"]],
            name=raw["operationName"],
            tags={tag["key"]: tag["value"] for tag in raw["tags"]},
            links=frozenset(each[1:] for each in references if each not in parents[:1]),
        )


def _json(tags):
    return "{" + ",".join(f'"{key}":"{value}"' for key, value in tags.items()) + "}"
