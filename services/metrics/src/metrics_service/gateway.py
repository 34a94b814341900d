"""The gRPC door of metrics."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Any, TypeAlias

import grpc
from chassis import paging
from chassis.operations import Operations
from chassis.rpc import Gateway
from google.longrunning import operations_pb2
from google.protobuf.empty_pb2 import Empty
from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2_grpc
from waybill.metrics.v1 import metrics_pb2, metrics_pb2_grpc

from metrics_service import alert_store, requests, responses, rule_store, series_store, tasks
from metrics_service.app import app
from metrics_service.otlp_gateway import OtlpServicer
from metrics_service.queries import Buckets, SeriesQuery
from metrics_service.settings import MetricsSettings
from metrics_service.store import Store, open_store

Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"

# So many are checked in less time than a thread takes to be woken.
INLINE_SAMPLES = 50


class MetricsServicer(metrics_pb2_grpc.MetricsServiceServicer):
    """Samples in, series out; alert rules and alerts."""

    def __init__(self, operations: Operations, store: Store) -> None:
        self.operations = operations
        self.store = store

    async def IngestSamples(
        self, request: metrics_pb2.IngestSamplesRequest, _context: Context
    ) -> operations_pb2.Operation:
        if len(request.samples) <= INLINE_SAMPLES:
            requests.check_ingestion(request, datetime.now(UTC))
        else:
            await asyncio.to_thread(requests.check_ingestion, request, datetime.now(UTC))
        return await self.operations.accept(tasks.ingest_samples, request)

    async def QuerySeries(
        self, request: metrics_pb2.QuerySeriesRequest, _context: Context
    ) -> metrics_pb2.QuerySeriesResponse:
        query, buckets = requests.read_query(request, datetime.now(UTC), self.store.retention)
        return await asyncio.to_thread(self._query, query, buckets)

    async def ListSeries(
        self, request: metrics_pb2.ListSeriesRequest, _context: Context
    ) -> metrics_pb2.ListSeriesResponse:
        size, after = requests.read_series_page(request)
        found = await asyncio.to_thread(
            series_store.list_series, self.store.engine, request.metric_prefix, after, size + 1
        )
        listed = found[:size]
        last = (listed[-1].key.metric, listed[-1].key.fingerprint.hex()) if len(found) > size else ()
        return metrics_pb2.ListSeriesResponse(
            series=map(responses.series_info, listed), next_page_token=paging.encode(last)
        )

    async def CreateAlertRule(
        self, request: metrics_pb2.CreateAlertRuleRequest, _context: Context
    ) -> metrics_pb2.AlertRule:
        rule = requests.read_rule(request.rule)
        stored = await asyncio.to_thread(rule_store.create, self.store.engine, rule, datetime.now(UTC))
        return responses.alert_rule(stored)

    async def GetAlertRule(self, request: metrics_pb2.GetAlertRuleRequest, _context: Context) -> metrics_pb2.AlertRule:
        rule_id = requests.read_rule_id(request.rule_id)
        return responses.alert_rule(await asyncio.to_thread(rule_store.get, self.store.engine, rule_id))

    async def ListAlertRules(
        self, request: metrics_pb2.ListAlertRulesRequest, _context: Context
    ) -> metrics_pb2.ListAlertRulesResponse:
        page = paging.page(request, str, default=requests.RULES_PAGE_SIZE)
        after = page.after[0] if page.after else ""
        found = await asyncio.to_thread(rule_store.list_rules, self.store.engine, after, page.size + 1)
        listed = found[: page.size]
        last = (listed[-1].rule.rule_id,) if len(found) > page.size else ()
        return metrics_pb2.ListAlertRulesResponse(
            rules=map(responses.alert_rule, listed), next_page_token=paging.encode(last)
        )

    async def UpdateAlertRule(
        self, request: metrics_pb2.UpdateAlertRuleRequest, _context: Context
    ) -> metrics_pb2.AlertRule:
        rule = requests.read_rule(request.rule)
        stored = await asyncio.to_thread(rule_store.update, self.store.engine, rule, datetime.now(UTC))
        return responses.alert_rule(stored)

    async def DeleteAlertRule(self, request: metrics_pb2.DeleteAlertRuleRequest, _context: Context) -> Empty:
        rule_id = requests.read_rule_id(request.rule_id)
        await asyncio.to_thread(rule_store.delete, self.store.engine, rule_id)
        return Empty()

    async def ListAlerts(
        self, request: metrics_pb2.ListAlertsRequest, _context: Context
    ) -> metrics_pb2.ListAlertsResponse:
        wanted = requests.read_alert_filter(request)
        found = await asyncio.to_thread(alert_store.list_alerts, self.store.engine, wanted)
        listed = found[: wanted.size]
        last = (listed[-1].alert_id,) if len(found) > wanted.size else ()
        return metrics_pb2.ListAlertsResponse(alerts=map(responses.alert, listed), next_page_token=paging.encode(last))

    def _query(self, query: SeriesQuery, buckets: Buckets) -> metrics_pb2.QuerySeriesResponse:
        answer = series_store.query_series(self.store.engine, query, buckets)
        return responses.query_answer(answer, buckets.resolution)


def serve(settings: MetricsSettings) -> int:
    """Serve until told to end."""
    gateway = Gateway(app, settings)
    servicer = MetricsServicer(gateway.operations, open_store(settings))
    gateway.add(metrics_pb2_grpc.add_MetricsServiceServicer_to_server, servicer)
    gateway.add(metrics_service_pb2_grpc.add_MetricsServiceServicer_to_server, OtlpServicer(gateway.operations))
    return gateway.run()
